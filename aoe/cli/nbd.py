"""`aoe nbd`: serve a disk over NBD, and ask one that does for its paths."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.ending import Ended
from aoe.cli.report import Report, path_facts, state_words
from aoe.cli.where import Where, canonical
from aoe.errors import ConfigurationError, RequestError
from aoe.initiator.options import Options
from aoe.initiator.standing import PathStatus
from aoe.nbd import status
from aoe.nbd.nbdkit import Plan, serve
from aoe.node.notify import Notifier


class Nbd(NamedTuple):
    """The disk at all addresses, on the Unix socket `path`, or as the block device `device`."""

    where: Where
    addresses: list[str]
    path: Path
    read_only: bool
    options: Options
    threads: int
    device: str = ""

    async def run(self, report: Report) -> None:
        """Until it is ended: SIGTERM lets requests under way end, Ctrl-C hardly."""
        addresses = canonical(self.addresses)
        plan = Plan(
            self.path,
            addresses,
            self.where.chosen,
            self.where.links,
            self.read_only,
            self.options,
            self.threads,
            self.device,
        )
        number = await serve(plan, _Listener(report, plan, Notifier.of(os.environ)))
        if number == signal.SIGINT:
            raise Ended(number)


class _Listener:
    """Says what becomes of it, to a service manager, too."""

    def __init__(self, report: Report, plan: Plan, notifier: Notifier) -> None:
        self._report = report
        self._plan = plan
        self._notifier = notifier

    def ready(self, size: int) -> None:
        """Clients may connect."""
        plan = self._plan
        text = f"nbd: {plan.device or plan.path} serves {' '.join(plan.addresses)}, {size} bytes"
        self._report.say(text, **self._facts(size))
        self._notifier.status(text)
        self._notifier.ready()

    def changed(self, path: PathStatus, lost_s: float | None) -> None:
        """A path was lost, or is back."""
        back = "" if lost_s is None else f" again after {lost_s:.1f} s"
        reason = f": {path.reason}" if path.reason else ""
        text = f"{path.address} at {path.mac} on {path.interface} is {path.state}{back}{reason}"
        self._report.warn(text, path=path_facts(path))
        self._notifier.status(text)

    def status(self, size: int, paths: list[PathStatus]) -> str:
        """All that there is to know, for `Status`."""
        lines = [f"{path.address} at {path.mac} on {path.interface}: {_how(path)}" for path in paths]
        facts = {**self._facts(size), "paths": [path_facts(path) for path in paths]}
        return json.dumps({"lines": lines, "facts": facts})

    def _facts(self, size: int) -> dict[str, object]:
        return {"address": "/".join(self._plan.addresses), "socket": str(self._plan.path), "bytes": size}


def _how(path: PathStatus) -> str:
    words = [state_words(path)]
    if path.owner:
        words.append("carries what is written")
    if path.state == "usable":
        words.append(f"{path.rtt_us:.0f} us")
    if path.unsettled:
        words.append(f"{path.unsettled} writes of unknown fate ({path.fate})")
    return ", ".join(words)


class Status(NamedTuple):
    """How the paths of the `aoe nbd` at a socket are."""

    path: Path

    async def run(self, report: Report) -> None:
        """One line for each path; a failure if none can be used."""
        try:
            said = json.loads(await status.ask(status.beside(self.path)))
            lines, facts = said["lines"], said["facts"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{self.path} is answered by another program, not by aoe nbd") from error
        report.say("\n".join(lines), **facts)
        if not any(path["state"] == "usable" for path in facts["paths"]):
            report.fail(RequestError(f"{facts['address']}: no path can be used"), address=facts["address"])


def command(
    where: Where,
    addresses: list[str],
    socket: Path | None,
    status: Path | None,
    attach: str | None,
    read_only: bool,
    threads: int,
    **options: Any,
) -> Nbd | Status:
    """What the words mean together; ConfigurationError if that is nothing."""
    if status is not None:
        if addresses or socket or attach:
            raise ConfigurationError("--status PATH is not for an address, --socket or --attach")
        return Status(_socket_of(str(status)) if str(status).startswith("/dev/") else status)
    if attach is not None and not re.fullmatch("/dev/nbd[0-9]{1,4}", attach):
        raise ConfigurationError(
            f"--attach {attach} is not a device of the kernel's NBD client; write /dev/nbd0"
        )
    path = socket or (_socket_of(attach) if attach else None)
    if not addresses or path is None:
        raise ConfigurationError(
            "nbd needs eSHELF.SLOT and --socket PATH or --attach /dev/nbdN (see aoe nbd --help)"
        )
    return Nbd(where, addresses, path, read_only, Options(**options), threads, attach or "")


def _socket_of(device: str) -> Path:
    """Beside which a device's status is asked for, unless --socket names another."""
    return Path(f"/run/aoe-{Path(device).name}.socket")
