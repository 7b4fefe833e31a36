"""A command and a daemon of two releases, as while one is upgraded: what a side does not know is left out, or
told."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.target import main
from aoe.control.messages import VERSION, Answer, decode_request, encode_answer
from aoe.control.rights import Rights
from tests.control.asking import line_of, served
from tests.control.fake_node import FakeNode


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once one after the other."""
    monkeypatch.setattr("aoe.cli.status.CONTROL_SAMPLE_S", 0.01)


@contextmanager
def daemon(path: Path, answer: bytes) -> Iterator[Path]:
    """Of another release: it says that, whatever it is asked."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, connection.makefile("rb") as lines:
                        for _ in lines:
                            connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def answered(ok: dict[str, Any], version: int = VERSION, **more: Any) -> bytes:
    return json.dumps({"version": version, "id": 1, "ok": ok, **more}).encode() + b"\n"


def refusal(line: bytes) -> bytes:
    """What a daemon of today says to it."""
    said = decode_request(line)
    assert isinstance(said, Answer)
    return encode_answer(said)


NEWER = refusal(b'{"version": %d, "id": 1, "verb": "status", "arguments": {}}' % (VERSION + 1))
FAILED = b'{"version": 7, "id": 1, "error": {"kind": "new", "message": "ask again", "exit": 9, "at": 1}}\n'
NOT_UNDERSTOOD = "the daemon's answer cannot be understood; the command is older than the daemon"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (NEWER, f"the message is of version {VERSION + 1}, the daemon knows {VERSION}; the daemon is older"),
        (b'{"version": 7, "id": 1, "done": {}}\n', NOT_UNDERSTOOD),
        (b'{"version": 1, "id": 1, "done": {}}\n', "cannot be understood; restart the daemon"),
        (FAILED, "ask again"),
    ],
)
def test_a_daemon_that_is_not_understood_is_one_line_that_says_which_side_is_older(
    answer: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(tmp_path / "control", answer) as path:
        assert main(["status", "--socket", str(path)]) in (2, 3)
    said = capsys.readouterr()
    *_, line = said.err.splitlines()  # before that it may say that it waits
    assert told in line
    assert said.out == ""


@pytest.mark.parametrize("version", [VERSION, VERSION + 1])
def test_a_newer_daemon_may_say_more_and_an_older_one_less(
    version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = {"address": "e1.0", "path": "/a", "state": "serving", "colour": {"deep": [1]}}
    for number, ok in enumerate(({"number": 3, "exports": [export], "new": [None]}, {})):
        with daemon(tmp_path / f"control{number}", answered(ok, version, more=1)) as path:
            assert main(["status", "--socket", str(path)]) == 0
            assert main(["status", "--json", "--socket", str(path)]) == 0
    assert "e1.0: /a, serving" in capsys.readouterr().out


def test_a_daemon_answers_a_verb_and_fields_that_it_does_not_know(tmp_path: Path) -> None:
    """A newer command has them."""
    node = FakeNode()
    with served(tmp_path / "control", node, Rights(os.geteuid())) as running, running.connect() as connection:
        for verb in ("snapshot", "status"):
            facts = {"version": VERSION, "id": 1, "verb": verb, "arguments": {"depth": 3}, "since": 9}
            connection.sendall(json.dumps(facts).encode() + b"\n")
            said = line_of(connection)
            if verb == "snapshot":
                assert said["error"]["kind"] == "verb"
                assert "is older than a command that does; it has status, apply" in said["error"]["message"]
            else:
                assert "ok" in said
