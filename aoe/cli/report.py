"""What the commands say: results on standard output, errors on standard error; or all of it as JSON.

With `--json` each line is one object, errors too: {"error": {...}}. The keys are the same in every command:
`address`, `bytes` (size of a disk, or what was moved), `..._bytes`, `..._us`, `..._per_s`, `lba` in sectors.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aoe.cli import stdio
from aoe.cli.ending import Ended
from aoe.cli.stdio import StreamFailed
from aoe.errors import (
    AoeError,
    ConfigurationError,
    ControlFailed,
    DiskError,
    RequestError,
    TargetRefused,
    Unreachable,
)
from aoe.printable import lines
from aoe.wire import protocol

if TYPE_CHECKING:
    from aoe.initiator.standing import PathStatus

KINDS = (
    (ConfigurationError, "usage"),
    (Unreachable, "unreachable"),
    (TargetRefused, "refused"),
    (RequestError, "request"),
    (DiskError, "disk"),
)
"""What an error object's `kind` may be, besides `interrupted` and what a daemon says."""


class Report:
    """Where a command's results and failures go. `failed` once something was not done as asked."""

    def __init__(self, name: str, *, as_json: bool) -> None:
        self.name = name
        """Of the command."""
        self.as_json = as_json
        self.failed = False
        self.bytes_go_out = False
        """Whether standard output has a disk's bytes: then all else goes to standard error."""
        self.clear: Callable[[], object] = _nothing
        """Takes away what a terminal shows only for a while, before a line is said."""

    def say(self, text: str, **facts: Any) -> None:
        """A result."""
        self.clear()
        line = json.dumps(facts) if self.as_json else lines(text)
        if self.bytes_go_out:
            stdio.tell(line)
        else:
            print(line, flush=True)

    def note(self, **facts: Any) -> None:
        """A result that only JSON has."""
        if self.as_json:
            self.say("", **facts)

    def warn(self, text: str, **facts: Any) -> None:
        """Something that a person should know, and no failure."""
        if self.as_json:
            self.say("", **facts)
        else:
            self.clear()
            stdio.complain(self.name, text)

    def fail(self, error: AoeError, **facts: Any) -> None:
        """One thing was not done; others may be."""
        self.failed = True
        self.warn(message_of(error), **facts, error=error_facts(error))

    def ended(self, ended: Ended) -> None:
        """A signal ended the command."""
        self.interrupted(message_of(ended))

    def interrupted(self, message: str) -> None:
        """A signal came before the command had done what it was to do."""
        self.warn(message, error={"kind": "interrupted", "message": message})

    def outcome(self, body: Callable[[], int]) -> int:
        """What `body` returns; the status that a failure names, as a ConfigurationError does, 1 for another
        that has a reason. The reason is said. A StreamFailed is raised, as there may be nowhere to say it."""
        try:
            return body()
        except StreamFailed:
            raise
        except (ConfigurationError, ControlFailed) as error:
            self.fail(error)
            return error.exit
        except AoeError as error:
            self.fail(error)
        except OSError as error:
            self.fail(AoeError(stdio.reason(error)))
        except ImportError as error:
            self.fail(AoeError(f"a part of this program is missing: {error}; install it again"))
        return 1


def _nothing() -> None:
    pass


def message_of(error: BaseException) -> str:
    """In one line, with what was added to it."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def error_facts(error: AoeError) -> dict[str, Any]:
    """An error as an object."""
    known = error.kind if isinstance(error, ControlFailed) else "request"
    kind = next((kind for of, kind in KINDS if isinstance(error, of)), known)
    facts: dict[str, Any] = {"kind": kind, "message": message_of(error)}
    if isinstance(error, DiskError):
        facts |= {"byte": error.offset, "errno": error.errno}
    if isinstance(error, TargetRefused):
        facts["aoe_error"] = error.code
    return facts


def path_facts(path: "PathStatus") -> dict[str, Any]:
    """A path as an object."""
    return {
        "address": path.address,
        "interface": path.interface,
        "mac": path.mac,
        "state": path.state,
        "state_us": round(path.state_s * 1e6),
        "reason": path.reason,
        "owner": path.owner,
        "rtt_us": path.rtt_us,
        "payload_bytes": path.sectors * protocol.SECTOR,
        "payload_max_bytes": path.sectors_max * protocol.SECTOR,
        "narrow": path.narrow,
        "unsettled": path.unsettled,
        "fate": path.fate,
        "proof": path.proof,
        "draining": path.draining,
    }


def state_words(path: "PathStatus") -> str:
    """How a path is, and for how long where it cannot be used: `down for 3 s: silent`."""
    if path.state == "usable":
        words = f"{path.state} {path.remarks}".rstrip()
        return f"{words}: {path.narrow}" if path.narrow else words
    unanswered = "IDENTIFY is not answered" if path.state == "checking" else ""
    reason = path.reason or unanswered
    return f"{path.state} for {path.state_s:.0f} s" + (f": {reason}" if reason else "")
