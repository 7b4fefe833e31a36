"""The service as a guest's systemd sees it: state, descriptors, drop-ins."""

import base64
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests.support.labs.guests.debian import DebianGuest
from tests.support.waiting import wait_for

UNIT = "aoe-target.service"
METRICS = "metrics"
SERVED_S = 300.0
"""On a busy machine an emulated processor takes its time."""
_SETTLE_S = 1.5


def serves(guest: DebianGuest, count: int) -> None:
    """Wait until so many disks are served, and nothing else is said of them."""
    began = f"{count} serving;"
    wait_for(lambda: guest.property(UNIT, "StatusText").startswith(began), SERVED_S, f"not {began}")


def says(guest: DebianGuest, *words: str, since: str = "") -> None:
    """Wait until its journal has these words, behind the last line with `since`."""

    def journal() -> str:
        return guest.journal(UNIT).rpartition(since)[2] if since else guest.journal(UNIT)

    wait_for(lambda: (said := journal()) and all(it in said for it in words), SERVED_S, journal)


def again(guest: DebianGuest, before: int, count: int) -> None:
    """Wait until another process serves so many disks."""
    wait_for(lambda: guest.pid(UNIT) not in (0, before), SERVED_S, "not started again")
    wait_for(lambda: guest.property(UNIT, "SubState") == "running", SERVED_S, "not ready")
    serves(guest, count)


def held(guest: DebianGuest, unit: str = UNIT) -> int:
    """How many descriptors systemd holds for it."""
    return int(guest.property(unit, "NFileDescriptorStore"))


def settled(guest: DebianGuest) -> int:
    """As `held`, once it changes no more: systemd is told after the service is ready."""

    def unchanged() -> bool:
        before = held(guest)
        time.sleep(_SETTLE_S)
        return held(guest) == before

    wait_for(unchanged, SERVED_S, "what is held changes all the time")
    return held(guest)


def holds(guest: DebianGuest, count: int) -> None:
    """Wait until systemd holds so many."""
    wait_for(lambda: held(guest) == count, SERVED_S, f"not {count} descriptors are held")


def given(guest: DebianGuest) -> list[str]:
    """The names of the descriptors with which its process was started, but for the one where it listens."""
    words = guest.check(f"tr '\\0' '\\n' </proc/{guest.pid(UNIT)}/environ | grep ^LISTEN_FDNAMES= || true")
    names = words.strip().partition("=")[2].split(":")
    return sorted(name for name in names if name not in ("", METRICS))


def metrics(guest: DebianGuest) -> str:
    """What Prometheus would be told; empty where nothing answers."""
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9882/metrics').read().decode())"
    return guest.check(f'timeout 60 python3 -c "{ask}" 2>/dev/null || true', SERVED_S).strip()


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


def ended(process: "subprocess.Popen[bytes]", timeout: float = 120) -> str:
    """What it printed; it ends well."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err.decode()
    return out.decode(errors="replace")


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
