"""What the journal is told: fields, in one datagram a message, and nothing that waits for it."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.cli import journal
from aoe.cli.journal import Journal, handler_of
from aoe.limits import JOURNAL_MESSAGE_MAX
from aoe.target.notices import Peer

MAC = "02:00:00:00:00:07"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A stand-in for journald."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.settimeout(30)
        monkeypatch.setattr(journal, "SOCKET", tmp_path / "socket")
        yield made


def stream() -> str:
    found = os.fstat(2)
    return f"{found.st_dev}:{found.st_ino}"


@pytest.fixture
def log(daemon: socket.socket) -> Iterator[logging.Logger]:
    handler = handler_of({"JOURNAL_STREAM": stream()})
    assert isinstance(handler, Journal)
    made = logging.Logger("aoe.target")
    made.addHandler(handler)
    yield made
    handler.close()


def fields(data: bytes) -> dict[str, str]:
    """Of a datagram, as journald reads it."""
    found = {}
    while data:
        name, end, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            key, (length,) = name, struct.unpack_from("<Q", rest)
            value, data = rest[8 : 8 + length], rest[8 + length + 1 :]
            assert rest[8 + length : 8 + length + 1] == b"\n"
        assert end
        found[key.decode()] = value.decode()
    return found


def test_a_message_has_its_export_and_peer_as_fields(log: logging.Logger, daemon: socket.socket) -> None:
    log.error("%s: %s answers for this address too", "e1.0", Peer(MAC))
    assert fields(daemon.recv(1 << 16)) == {
        "MESSAGE": f"e1.0: {MAC} answers for this address too",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "aoe-target",
        "LOGGER": "aoe.target",
        "AOE_EXPORT": "e1.0",
        "AOE_PEER": MAC,
    }


def test_one_about_nothing_of_that_has_none(log: logging.Logger, daemon: socket.socket) -> None:
    log.info("served in Python %s", MAC)
    found = fields(daemon.recv(1 << 16))
    assert found["PRIORITY"] == "6"
    assert not found.keys() & {"AOE_EXPORT", "AOE_PEER"}


def test_no_name_makes_a_field_or_a_line(log: logging.Logger, daemon: socket.socket) -> None:
    log.warning("e1.0: %s is gone", "a\nPRIORITY=0\x1b[2J\udcff")
    found = fields(daemon.recv(1 << 16))
    assert found["MESSAGE"] == "e1.0: a PRIORITY=0\\u001b[2J\\udcff is gone"
    assert found["PRIORITY"] == "4"


def test_a_traceback_comes_with_its_message(log: logging.Logger, daemon: socket.socket) -> None:
    log.critical("defect", exc_info=ValueError("why"))
    message = fields(daemon.recv(1 << 16))["MESSAGE"].splitlines()
    assert (message[0], message[-1]) == ("defect", "ValueError: why")


def test_what_is_too_long_is_cut(log: logging.Logger, daemon: socket.socket) -> None:
    log.error("x" * (1 << 20))
    assert fields(daemon.recv(1 << 20))["MESSAGE"] == "x" * JOURNAL_MESSAGE_MAX


def test_a_journal_that_does_not_read_keeps_nothing_waiting(
    log: logging.Logger, daemon: socket.socket
) -> None:
    for number in range(2000):
        log.error("message %d", number)
    daemon.setblocking(False)
    seen = 0
    try:
        while True:
            daemon.recv(1 << 16)
            seen += 1
    except BlockingIOError:
        pass
    assert 0 < seen < 2000
    log.error("last")
    said = [fields(daemon.recv(1 << 16))["MESSAGE"] for _ in range(2)]
    assert said == [f"{2000 - seen} messages are missing here: the journal had no room for them", "last"]


def test_without_it_messages_are_on_standard_error(
    log: logging.Logger, daemon: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    (handler,) = log.handlers
    assert isinstance(handler, Journal)
    handler.setFormatter(journal.Plain())
    handler.setStream(sys.stderr)
    daemon.close()
    log.error("e1.0: still said")
    assert capsys.readouterr().err == "aoe-target: e1.0: still said\n"


@pytest.mark.parametrize("given", [None, "", "0:0", "1:2:3", "x"])
def test_standard_error_that_is_something_else_is_used(given: str | None, daemon: socket.socket) -> None:
    assert handler_of({} if given is None else {"JOURNAL_STREAM": given}) is None


def test_where_there_is_no_socket_standard_error_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SOCKET", tmp_path / "none")
    assert handler_of({"JOURNAL_STREAM": stream()}) is None


PROGRAM = """
import os, sys
from pathlib import Path
from aoe.cli import journal
journal.SOCKET = Path({socket!r})
found = os.fstat(2)
if {matches}:
    os.environ["JOURNAL_STREAM"] = f"{{found.st_dev}}:{{found.st_ino}}"
from aoe.cli.target import main
sys.exit(main({words!r}))
"""
FILE = """
[target]
links = ["udp:127.0.0.1:0"]
state-dir = "{work}/state"
json = {json}
[[export]]
path = "{work}/absent"
shelf = 1
slot = 0
[[export]]
path = "{work}/disk"
shelf = 1
slot = 1
serial = "ONE"
"""


def run(work: Path, *, matches: bool, as_json: bool = False) -> str:
    """Standard error of a service whose disk has no record that can be written."""
    (work / "disk").write_bytes(bytes(1 << 16))
    (work / "state").mkdir()
    (work / "state/changes").mkdir()  # so that the number of the change is not kept, which is said
    (work / "file.toml").write_text(FILE.format(work=work, json=str(as_json).lower()))
    words = ["run", "--config", str(work / "file.toml"), "--socket", str(work / "control")]
    program = PROGRAM.format(socket=str(work / "socket"), matches=matches, words=words)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        while "ready" not in (line := service.stdout.readline()):
            assert line, service.communicate()[1]
        service.terminate()
        errors = service.communicate(timeout=30)[1]
    assert service.returncode == 0, errors
    return errors


SAID = "the number of this change is not kept"


def test_a_service_says_it_there(tmp_path: Path, daemon: socket.socket) -> None:
    assert SAID not in run(tmp_path, matches=True)
    messages = iter(lambda: fields(daemon.recv(1 << 16))["MESSAGE"], None)
    assert any(message.startswith(SAID) for message in messages)


def test_elsewhere_it_is_a_line_or_an_object(tmp_path: Path, daemon: socket.socket) -> None:
    for name, as_json in (("text", False), ("json", True)):
        work = tmp_path / name
        work.mkdir()
        (line,) = [it for it in run(work, matches=False, as_json=as_json).splitlines() if SAID in it]
        if as_json:
            said = json.loads(line)
            assert (said["event"], said["level"]) == ("log", "warning")
        else:
            assert line.startswith(f"aoe-target: {SAID}")
    daemon.setblocking(False)
    with pytest.raises(BlockingIOError):
        daemon.recv(1)
