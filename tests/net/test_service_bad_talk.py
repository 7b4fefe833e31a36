"""Processes that misuse the control socket of a service: each is answered in one clear line, or closed, and
what it serves is not touched: under load no request is lost, and nothing has changed."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe import limits
from tests.net.untouched import Site, serving
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for

ENGINES = ("c",)
FLOOD = 3000
HELD = 40
"""More connections than may be."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, load: Path) -> Iterator[Site]:
    need_namespaces()
    with serving(tmp_path_factory.mktemp("service"), load) as made:
        yield made


def line_of(connection: socket.socket) -> bytes:
    """The next answer; an empty one at the end."""
    line = b""
    with contextlib.suppress(ConnectionResetError):
        while not line.endswith(b"\n") and (piece := connection.recv(1 << 16)):
            line += piece
    return line


def connected(site: Site) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(site.service.socket))  # with a time-out it would not wait for room
    made.settimeout(30)
    return made


def request(verb: object, version: object = 1, **arguments: object) -> bytes:
    facts = {"version": version, "id": 1, "verb": verb, "arguments": arguments}
    return json.dumps(facts).encode() + b"\n"


NO_JSON = "a line is not JSON; write one object a line"
FORM = 'write {"version", "id", "verb", "arguments"} in one line'
LINES = {
    "garbage": (b"hello\n", NO_JSON),
    "bytes": (bytes(range(11, 256)) + b"\n", NO_JSON),
    "zeroes": (bytes(512) + b"\n", NO_JSON),
    "half a message": (request("status")[:20] + b"\n", NO_JSON),
    "two in a line": (request("status")[:-1] + request("status"), NO_JSON),
    "lists without end": (b"[" * 100_000 + b"\n", NO_JSON),
    "objects without end": (b'{"a":' * 100_000 + b"\n", NO_JSON),
    "a number without end": (b'{"version": 1, "id": ' + b"9" * 10_000 + b"}\n", NO_JSON),
    "no number": (b'{"version": NaN}\n', NO_JSON),
    "a list": (b"[]\n", "a line is not a JSON object"),
    "text": (b'"status"\n', "a line is not a JSON object"),
    "no version": (b'{"verb": "status"}\n', 'the message has no "version"; write 1'),
    "a version in words": (request("status", "1"), 'the message has no "version"; write 1'),
    "a newer version": (
        request("status", 2),
        "the message is of version 2, the daemon knows 1; the daemon is older than the command: restart it",
    ),
    "an older version": (
        request("status", 0),
        "the message is of version 0, the daemon knows 1; the command is older",
    ),
    "no id": (b'{"version": 1, "verb": "status"}\n', FORM),
    "no verb": (b'{"version": 1, "id": 1}\n', FORM),
    "a verb that is a number": (request(5), FORM),
    "control characters": (
        request("drain\x1b[2J\n"),
        "does not know the verb 'drain\\x1b[2J\\n'",
    ),
    "an address that is none": (
        request("release", address="e1.1\x1b[2J"),
        "'e1.1\\x1b[2J' is not an address; write it as e0.0",
    ),
    "half of a character": (request("release", address="\ud800"), "is not an address"),
    "a disk that is not served": (request("release", address="e9.9"), "e9.9 is not served here"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_wrong_line_is_answered_and_the_connection_goes_on(site: Site, name: str) -> None:
    line, told = LINES[name]
    with connected(site) as connection:
        connection.sendall(line)
        answer = json.loads(line_of(connection))
        print(answer)
        assert told in answer["error"]["message"]
        assert answer["error"]["message"].isprintable()
        assert answer["error"]["exit"] == 2
        connection.sendall(request("status"))
        assert json.loads(line_of(connection))["ok"]["exports"]


def test_a_line_of_two_mebibytes_ends_the_connection(site: Site) -> None:
    with site.untouched(), connected(site) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * (2 << 20))
        told = line_of(connection)
        assert not told or "is longer than 1048576 bytes; the connection ends" in told.decode()
        assert line_of(connection) == b""


def test_a_line_that_is_cut_is_not_obeyed(site: Site) -> None:
    with site.untouched():
        for end in range(1, len(request("apply")), 7):
            with connected(site) as connection:
                connection.sendall(request("apply")[:end])
                connection.shutdown(socket.SHUT_WR)
                assert line_of(connection) == b""


def test_a_flood_of_connections_holds_up_nothing(site: Site) -> None:
    """Those of root take the places of root's alone; once they are gone it is asked again."""
    with site.untouched():
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connected(site)) for _ in range(HELD)]
            for _ in range(FLOOD):
                connected(site).close()
            answers = [line_of(it) for it in held[limits.CONTROL_CONNECTIONS_MAX :]]
            assert all(b"as many connections are open as may be" in it for it in answers)
        wait_for(lambda: "exports" in answered(site), what="it is not asked any more")


def answered(site: Site) -> dict[str, Any]:
    """What a new connection is told."""
    with connected(site) as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(request("status"))
        said: dict[str, Any] = json.loads(line_of(connection) or b"{}")
    return dict(said.get("ok", {}))


def test_clients_that_read_slowly_or_never_hold_up_nothing(site: Site) -> None:
    with site.untouched(), connected(site) as deaf, connected(site) as slow:
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.send(request("status") * 100)
        slow.sendall(request("status"))
        first = slow.recv(1)
        for _ in range(3):
            assert answered(site)["exports"]
            first += slow.recv(16)
        assert json.loads(first + line_of(slow))["ok"]["exports"]
