"""What a command and a daemon say to each other: JSON, one message a line.

    {"version": 1, "id": 7, "verb": "status", "arguments": {}}
    {"version": 1, "id": 7, "ok": {...}}
    {"version": 1, "id": 7, "error": {"kind": "rights", "message": "...", "exit": 2}}

Fields that are not known are ignored. What cannot be understood is a `Failure`, which is answered.
"""

import json
from typing import Any, NamedTuple, NoReturn, TypeGuard

from aoe.printable import one_line

VERSION = 1
"""Of these messages. It rises when a side that knows only the last one would misunderstand them."""

DONE, PARTLY, REFUSED, NO_DAEMON = range(4)
"""Exit statuses of the commands: done; partly, or something waits; nothing was changed; no daemon answers."""


class Failure(NamedTuple):
    """Why something was not done: `message` is one line with the remedy, `exit` the status of the command."""

    kind: str
    message: str
    exit: int = REFUSED


class Request(NamedTuple):
    """`verb` with its arguments; the answer has the same `id`."""

    id: int
    verb: str
    arguments: dict[str, Any]


class Answer(NamedTuple):
    """What became of the request `id` (None: of a line that was none): facts, or a failure."""

    id: int | None
    result: "dict[str, Any] | Failure"


class TooLong(ValueError):
    """A line that is longer than was agreed on. What follows it cannot be understood."""


class Lines:
    """Lines out of pieces of bytes, as long as none is longer than `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()

    @property
    def is_cut(self) -> bool:
        """Whether a line has begun and is not over."""
        return bool(self._kept)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without their ends. TooLong once there is one that is too long."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._keep(piece)
            lines.append(bytes(self._kept))
            self._kept.clear()
        self._keep(rest)
        return lines

    def _keep(self, piece: bytes) -> None:
        self._kept += piece
        if len(self._kept) > self._most:
            raise TooLong(f"a line is longer than {self._most} bytes")


def encode_request(request: Request) -> bytes:
    """A line."""
    return _line({"id": request.id, "verb": request.verb, "arguments": request.arguments})


def encode_answer(answer: Answer) -> bytes:
    """A line."""
    if isinstance(answer.result, Failure):
        return _line({"id": answer.id, "error": answer.result._asdict()})
    return _line({"id": answer.id, "ok": answer.result})


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **facts}, allow_nan=False).encode() + b"\n"


def decode_request(line: bytes) -> Request | Answer:
    """What a line asks for; an answer that says why it asks for nothing."""
    facts = _facts(line)
    if isinstance(facts, Failure):
        return Answer(None, facts)
    number = facts.get("id")
    known = number if _is_whole(number) else None
    problem = _other_version(facts.get("version"))
    if problem is not None:
        return Answer(known, problem)
    verb, arguments = facts.get("verb"), facts.get("arguments", {})
    if known is None or not isinstance(verb, str) or not isinstance(arguments, dict):
        return Answer(known, Failure("message", 'write {"version", "id", "verb", "arguments"} in one line'))
    return Request(known, verb, arguments)


def _other_version(version: object) -> Failure | None:
    if version == VERSION and _is_whole(version):
        return None
    if not _is_whole(version):
        return Failure("message", 'the message has no "version"; write 1')
    older = (
        "the daemon is older than the command: restart it" if version > VERSION else "the command is older"
    )
    return Failure("version", f"the message is of version {version}, the daemon knows {VERSION}; {older}")


def decode_answer(line: bytes) -> Answer:
    """What a daemon said; a failure where that cannot be understood."""
    facts = _facts(line)
    if isinstance(facts, Failure):
        return Answer(None, Failure("message", f"the daemon's answer is no message: {facts.message}"))
    number = facts.get("id")
    known = number if _is_whole(number) else None
    ok, error = facts.get("ok"), facts.get("error")
    if isinstance(ok, dict):
        return Answer(known, ok)
    return Answer(known, _failure(error, facts.get("version")))


def _failure(error: object, version: object) -> Failure:
    facts = error if isinstance(error, dict) else {}
    kind, message, status = facts.get("kind"), facts.get("message"), facts.get("exit", REFUSED)
    if isinstance(kind, str) and isinstance(message, str) and _is_whole(status):
        return Failure(kind, one_line(message), min(max(status, PARTLY), NO_DAEMON))
    newer = _is_whole(version) and version > VERSION
    remedy = (
        "the command is older than the daemon: use the daemon's release" if newer else "restart the daemon"
    )
    return Failure("message", f"the daemon's answer cannot be understood; {remedy}")


def _is_whole(value: object) -> TypeGuard[int]:
    return type(value) is int


def _facts(line: bytes) -> dict[str, Any] | Failure:
    try:
        facts = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return Failure("message", "a line is not JSON; write one object a line")
    return facts if isinstance(facts, dict) else Failure("message", "a line is not a JSON object")


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)
