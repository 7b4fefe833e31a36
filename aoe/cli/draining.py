"""`aoe-target drain` and `resume`: clients leave for another server before maintenance, and may come back."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.asking import ask, connected, tell
from aoe.cli.report import Report
from aoe.control.messages import DONE, PARTLY
from aoe.errors import ConfigurationError
from aoe.timing import DRAIN_LOOK_S
from aoe.wire.address import parse_address


class Draining(NamedTuple):
    """`verb` is asked; as long as clients stay, again for `timeout_s`. It goes on when that ends."""

    socket: Path | None
    verb: str
    which: dict[str, Any]
    timeout_s: float = 0.0

    def run(self, report: Report) -> int:
        """1 if any client stays."""
        until_s = time.monotonic() + self.timeout_s
        with connected(self.socket, report) as hand:
            done = ask(hand, self.verb, **self.which)
            while done.get("exit") == PARTLY and time.monotonic() < until_s:
                time.sleep(DRAIN_LOOK_S)
                done = ask(hand, self.verb, **self.which)
        if done.get("exit", DONE) != DONE:
            said = "what stays is served as before; aoe-target drain waits for it again, resume ends it"
            done = {**done, "said": [*done.get("said", ()), said]}
        return tell(report, done)


def drain(socket: Path | None, addresses: list[str], all_: bool, timeout_s: float, **_: Any) -> Draining:
    """`aoe-target drain`."""
    return Draining(socket, "drain", _which("drain", addresses, all_), timeout_s)


def resume(socket: Path | None, addresses: list[str], all_: bool, **_: Any) -> Draining:
    """`aoe-target resume`."""
    return Draining(socket, "resume", _which("resume", addresses, all_))


def _which(verb: str, addresses: list[str], all_: bool) -> dict[str, Any]:
    if bool(addresses) == all_:
        raise ConfigurationError(f"{verb} needs addresses such as e0.0, or --all")
    return {"all": True} if all_ else {"addresses": ["e{}.{}".format(*parse_address(it)) for it in addresses]}
