"""The service as a guest's systemd sees it: state, descriptors, drop-ins."""

import base64
import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S, Done
from tests.support.waiting import wait_for

UNIT = "aoe-target.service"
METRICS = "metrics"
PACKAGE_S = 480.0
"""To change it."""
_PAUSE_S = 0.5
"""To look costs the guest's processor more than to wait."""
_ALIKE = 6


def serves(guest: DebianGuest, count: int, failed: int = 0) -> None:
    """Wait until so many disks are served, and so many have failed; nothing is said of another."""
    _wait(lambda: _serves(guest.property(UNIT, "StatusText"), count, failed), f"not {count} serving", guest)


def _serves(said: str, count: int, failed: int) -> bool:
    """As `aoe.node.status.sentence` has it."""
    return said.startswith(f"{failed} failed, {count} serving:" if failed else f"{count} serving;")


def _wait(condition: Callable[[], object], what: str, guest: DebianGuest) -> None:
    """For it; the journal is told with the guest's last words."""
    wait_for(condition, PATIENCE_S, lambda: f"{what}: {guest.property(UNIT, 'StatusText')}", every_s=_PAUSE_S)


def succeeds(guest: DebianGuest, command: str) -> None:
    """Wait until it does: what it needs comes by itself, and soon."""
    said = [""]

    def done() -> bool:
        status, said[0] = guest.run(command)
        return status == 0

    wait_for(done, PATIENCE_S, lambda: f"{command}: {said[0]}", _PAUSE_S)


def says(guest: DebianGuest, *words: str, since: str = "") -> None:
    """Wait until its journal has these words, behind the last line with `since`."""

    def journal() -> str:
        return guest.journal(UNIT).rpartition(since)[2] if since else guest.journal(UNIT)

    _wait(lambda: (said := journal()) and all(it in said for it in words), f"it does not say {words}", guest)


def again(guest: DebianGuest, before: int, count: int, failed: int = 0) -> None:
    """Wait until another process serves so many disks."""

    def there() -> bool:
        found = guest.properties(UNIT, "MainPID", "SubState", "StatusText")
        new = found["MainPID"] not in ("0", str(before)) and found["SubState"] == "running"
        return new and _serves(found["StatusText"], count, failed)

    _wait(there, "not started again", guest)


def held(guest: DebianGuest, unit: str = UNIT) -> int:
    """How many descriptors systemd holds for it."""
    return int(guest.property(unit, "NFileDescriptorStore"))


def settled(guest: DebianGuest) -> int:
    """As `held`, once some looks find the same: systemd is told after the service is ready."""
    found: list[int] = []

    def unchanged() -> bool:
        found.append(held(guest))
        return len(found) >= _ALIKE and len(set(found[-_ALIKE:])) == 1

    _wait(unchanged, "what is held changes all the time", guest)
    return found[-1]


def holds(guest: DebianGuest, count: int) -> None:
    """Wait until systemd holds so many."""
    _wait(lambda: held(guest) == count, f"not {count} descriptors are held", guest)


def given(guest: DebianGuest) -> list[str]:
    """The names of the descriptors with which its process was started, but for the one where it listens."""
    words = guest.check(f"tr '\\0' '\\n' </proc/{guest.pid(UNIT)}/environ | grep ^LISTEN_FDNAMES= || true")
    names = words.strip().partition("=")[2].split(":")
    return sorted(name for name in names if name not in ("", METRICS))


def metrics(guest: DebianGuest) -> Done:
    """What Prometheus would be told, if anything answers. No other program starts as fast as the shell."""
    ask = r'printf "GET /metrics HTTP/1.1\r\n\r\n" >&3 && cat <&3'
    return guest.run(f"timeout 240 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9882 && {ask}'")


def restarts(guest: DebianGuest) -> int:
    """How often systemd started it by itself."""
    return int(guest.property(UNIT, "NRestarts"))


@contextlib.contextmanager
def drop_in(guest: DebianGuest, *lines: str) -> Iterator[None]:
    """More lines of [Service] in its unit."""
    place = f"/run/systemd/system/{UNIT}.d"
    write(guest, f"{place}/test.conf", "\n".join(("[Service]", *lines, "")))
    guest.check("systemctl daemon-reload")
    try:
        yield
    finally:
        guest.check(f"rm -r {place} && systemctl daemon-reload")


def write(guest: DebianGuest, path: str, text: str) -> None:
    """A file, and what is above it."""
    data = base64.b64encode(text.encode()).decode()
    guest.check(f"mkdir -p $(dirname {path}) && echo {data} | base64 -d >{path}")


def exposure(guest: DebianGuest, unit: str = UNIT) -> float:
    """As systemd counts it, 0 to 10."""
    plain = "SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0"
    said = guest.check(f"{plain} systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def ended(process: "subprocess.Popen[bytes]", data: bytes | None = None) -> bytes:
    """What it printed, to which these are given; it ends well."""
    out, err = process.communicate(data, timeout=PATIENCE_S)
    assert process.returncode == 0, err.decode()
    return out


@contextlib.contextmanager
def written(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Meanwhile `writing_client` writes and reads. It sees no error, and what it reads can be explained."""
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"go\n", process.stderr and process.stderr.read()
            yield
            said: dict[str, Any] = json.loads(ended(process))
        finally:
            process.kill()
    assert not said["faults"], said
    assert said["calls"] > 100, said
