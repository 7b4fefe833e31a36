"""Log messages for the journal, with what they are about as fields (systemd's native protocol).

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram for each message, `NAME=value` lines in it, or for a
value of several lines its name, its length in 64 bits, and the value.
"""

import json
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from aoe.limits import JOURNAL_MESSAGE_MAX
from aoe.printable import one_line
from aoe.target.notices import Peer

SOCKET = Path("/run/systemd/journal/socket")
_NAME = "aoe-target"
_ABOUT = re.compile(r"e\d+\.\d+(?=: )")
"""Every message about an export begins so."""
_GRAVITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_BUSY = (BlockingIOError, InterruptedError)


def handler_of(environment: Mapping[str, str], fd: int = 2) -> "Journal | None":
    """If the journal has that descriptor. To be asked while a socket can still be opened."""
    if environment.get("JOURNAL_STREAM") != _identity(fd):
        return None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        made.connect(os.fspath(SOCKET))
    except OSError:
        made.close()
        return None
    return Journal(made)


def _identity(fd: int) -> str:
    try:
        found = os.fstat(fd)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def facts(record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    """What a message is about: `export` (its address), `peer` (a MAC)."""
    about = _ABOUT.match(record.getMessage())
    if about is not None:
        yield "export", about[0]
    peers = record.args if isinstance(record.args, tuple) else ()
    yield from (("peer", it) for it in peers if isinstance(it, Peer))


class Journal(logging.StreamHandler):  # type: ignore[type-arg]
    """Waits for nothing: what the journal has no room for is counted, and the count is said with the next
    message. Where the journal does not take it at all it goes to standard error."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__()
        self._socket = connected
        self._missing = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._missing:
                said = f"{self._missing} messages are missing here: the journal had no room for them"
                self._socket.send(_datagram(said, logging.WARNING, {}))
                self._missing = 0
            self._socket.send(self._encoded(record))
        except _BUSY:
            self._missing += 1
        except OSError:
            super().emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _encoded(self, record: logging.LogRecord) -> bytes:
        said = one_line(record.getMessage())
        if record.exc_info:
            said += "\n" + logging.Formatter().formatException(record.exc_info)
        fields = {f"AOE_{name.upper()}": value for name, value in facts(record)}
        return _datagram(said, record.levelno, {"LOGGER": record.name, **fields})


def _datagram(said: str, level: int, fields: Mapping[str, str]) -> bytes:
    priority = next((number for least, number in _GRAVITY if level >= least), 7)
    whole = {"MESSAGE": said, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": _NAME, **fields}
    return b"".join(_field(name, value) for name, value in whole.items())


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")[:JOURNAL_MESSAGE_MAX]
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)


def start_log() -> None:
    """Log to the journal where standard error is that, else there, a line each."""
    handler: logging.Handler | None = handler_of(os.environ)
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain())
    logging.basicConfig(handlers=[handler])


def log_as_json() -> None:
    """From now on, where it is not the journal."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, Journal):
            handler.setFormatter(Json())


class Plain(logging.Formatter):
    """For what is no journal: a message stays one line whatever is in the names that it quotes."""

    def __init__(self) -> None:
        super().__init__(f"{_NAME}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


class Json(logging.Formatter):
    """An object for each message."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"event": "log", "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said | dict(facts(record)))
