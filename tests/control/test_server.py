"""The server with a real socket: every kind of client that does not behave."""

import asyncio
import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.control.client import Client
from aoe.control.messages import NO_DAEMON, PARTLY, REFUSED, Request, encode_request
from aoe.control.rights import Peer, Rights
from aoe.control.verbs import Apply
from aoe.errors import ControlFailed, DiskError
from tests.control.asking import Running, line_of, served
from tests.control.fake_node import refused
from tests.support.tools import need_users
from tests.support.waiting import PROMPT_S

STATUS = encode_request(Request(1, "status", {}))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    with served(tmp_path / "control") as running:
        yield running


def test_a_client_is_answered(daemon: Running) -> None:
    with Client(daemon.path) as client:
        assert client.ask("status") == {"number": 7, "exports": []}
        assert client.ask("apply", plan=True, expect=3)["said"] == ["did apply"]
        assert client.ask("reopen", address="1.0")["exit"] == 0
        assert client.ask("release", address="e1.0")["exit"] == 0
        assert client.ask("log-level", level="debug")["number"] == 5
    assert daemon.node.asked == [
        ("status",),
        ("apply", Apply(plan=True, expect=3)),
        ("reopen", "e1.0"),
        ("release", "e1.0"),
        ("log_level", "debug"),
    ]


@pytest.mark.parametrize(
    ("verb", "arguments", "told"),
    [
        ("release", {}, 'release needs "address"'),
        ("drain", {}, 'drain needs "addresses"'),
        ("drain", {"addresses": []}, 'drain needs "addresses"'),
        ("resume", {"addresses": ["e1"]}, "'e1' is not an address"),
        ("resume", {"addresses": [7]}, "7 is not an address"),
        ("resume", {"all": 1}, 'resume needs "all", true or false'),
        ("release", {"address": 5}, 'release needs "address"'),
        ("release", {"address": "eth0"}, "'eth0' is not an address"),
        ("apply", {"plan": "yes"}, 'apply needs "plan", true or false'),
        ("apply", {"expect": True}, 'apply needs "expect", a whole number'),
        ("apply", {"text": "x"}, 'only with "plan"'),
        ("mask", {"address": "e1.0"}, 'mask needs "mask"'),
        ("mask", {"address": "e1.0", "mask": []}, 'mask needs "mask"'),
        ("mask", {"address": "e1.0", "mask": ["x"]}, "write it as 02:00:00:00:00:01"),
        ("mask", {"address": "e1.0", "mask": ["ff:ff:ff:ff:ff:ff"]}, "group address"),
        (
            "mask",
            {"address": "e1.0", "mask": [f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}" for n in range(999)]},
            "999 hosts",
        ),
        ("log-level", {"level": "loud"}, "one of debug, info"),
        ("drain\x1b[2J", {}, "does not know the verb 'drain\\x1b[2J'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    daemon: Running, verb: str, arguments: dict[str, object], told: str
) -> None:
    with Client(daemon.path) as client:
        with pytest.raises(ControlFailed) as caught:
            client.ask(verb, **arguments)
        assert told in str(caught.value)
        assert str(caught.value).isprintable()
        assert caught.value.exit == REFUSED
        assert not daemon.node.asked
        assert client.ask("status")


def test_what_the_node_refuses_is_told(daemon: Running) -> None:
    with Client(daemon.path) as client:
        daemon.node.error = refused("e1.0 is\nnot served here")
        with pytest.raises(ControlFailed, match=r"e1\.0 is not served here") as caught:
            client.ask("release", address="e1.0")
        assert (caught.value.kind, caught.value.exit) == ("usage", REFUSED)
        daemon.node.error = DiskError("sync: Input/output error", 0, 5)
        with pytest.raises(ControlFailed, match="sync: Input"):
            client.ask("reopen", address="e1.0")


def test_a_defect_of_the_node_ends_nothing(daemon: Running, caplog: pytest.LogCaptureFixture) -> None:
    with Client(daemon.path) as client:
        daemon.node.error = ZeroDivisionError("x")
        with pytest.raises(ControlFailed, match="defect in the daemon") as caught:
            client.ask("reopen", address="e1.0")
        assert caught.value.exit == PARTLY
        daemon.node.error = None
        assert client.ask("status")
    assert "defect: reopen" in caplog.text


# Clients that do not behave


def test_garbage_and_other_versions_are_answered_and_the_connection_goes_on(daemon: Running) -> None:
    with daemon.connect() as connection:
        for line in (
            b"hello\n",
            b"\x00\xff\n",
            b'{"version": 99, "id": 4, "verb": "status"}\n',
            b"[" * 5000 + b"\n",
        ):
            connection.sendall(line)
            assert line_of(connection)["error"]["exit"] == REFUSED
        connection.sendall(b"\n\n" + STATUS)
        assert line_of(connection)["ok"]["number"] == 7


def test_a_line_in_pieces_and_many_in_one_piece(daemon: Running) -> None:
    with daemon.connect() as connection:
        for at in range(len(STATUS)):
            connection.sendall(STATUS[at : at + 1])
        assert line_of(connection)["id"] == 1
        connection.sendall(b"".join(encode_request(Request(n, "status", {})) for n in range(50)))
        assert [line_of(connection)["id"] for _ in range(50)] == [*range(50)]


def test_a_line_that_is_cut_is_forgotten(daemon: Running) -> None:
    with daemon.connect() as connection:
        connection.sendall(STATUS[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert line_of(connection) == {}
    assert not daemon.node.asked


def test_a_line_without_an_end_ends_the_connection(daemon: Running) -> None:
    with daemon.connect() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(limits.CONTROL_REQUEST_MAX // 1000 + 100):
                connection.sendall(b"x" * 1000)
        told = line_of(connection)
        assert not told or "longer than" in told["error"]["message"]
        assert line_of(connection) == {}
    with Client(daemon.path) as client:
        assert client.ask("status")


def test_a_client_that_never_reads_holds_up_nothing(daemon: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CONTROL_TAKEN_S", 0.5)
    daemon.node.said = {"filler": "x" * 300_000}
    with daemon.connect() as deaf:
        deaf.setblocking(False)
        sent = 0
        try:
            while True:
                sent += deaf.send(STATUS * 100)
        except BlockingIOError:
            pass
        with Client(daemon.path) as client:
            began = time.monotonic()
            assert client.ask("status")
            assert time.monotonic() - began < PROMPT_S
        asked = len(daemon.node.asked)
        assert asked < 10, "the next line is read when the answer to the last one was taken"
        deaf.settimeout(30)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                deaf.sendall(STATUS)
                time.sleep(0.01)


def test_one_that_says_nothing_is_closed(daemon: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CONTROL_IDLE_S", 0.2)
    with daemon.connect() as silent:
        assert line_of(silent) == {}


def test_a_verb_whose_client_is_gone_is_done_all_the_same(daemon: Running) -> None:
    gate = daemon.node.gate = daemon.call(asyncio.Event)
    with daemon.connect() as connection:
        connection.sendall(encode_request(Request(1, "release", {"address": "e1.0"})))
        while not daemon.node.asked:
            time.sleep(0.01)
    daemon.call(gate.set)
    daemon.node.gate = None
    with Client(daemon.path) as client:
        assert client.ask("status")
    assert daemon.node.asked[0] == ("release", "e1.0")


def test_more_connections_than_allowed(daemon: Running) -> None:
    held = [daemon.connect() for _ in range(limits.CONTROL_CONNECTIONS_MAX)]
    for connection in held:
        connection.sendall(STATUS)
        assert line_of(connection)["ok"]
    with (
        pytest.raises(ControlFailed, match="as many connections are open as may be") as caught,
        Client(daemon.path) as client,
    ):
        client.ask("status")
    assert caught.value.exit == REFUSED
    held.pop().close()
    deadline = time.monotonic() + 30
    while True:
        try:
            with Client(daemon.path) as client:
                assert client.ask("status")
            break
        except ControlFailed:
            assert time.monotonic() < deadline
    for connection in held:
        connection.close()


def test_others_do_not_take_the_places_of_the_owner(daemon: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as others:
        others.setattr("aoe.control.server.peer_of", lambda _: Peer(1, 12345, frozenset()))
        held = [daemon.connect() for _ in range(limits.CONTROL_CONNECTIONS_MAX + 1)]
        assert line_of(held[-1])["error"]["kind"] == "busy"
    with Client(daemon.path) as client:
        assert client.ask("status")
    for connection in held:
        connection.close()


def test_the_end_lets_a_verb_finish(tmp_path: Path) -> None:
    with served(tmp_path / "control") as daemon:
        gate = daemon.node.gate = daemon.call(asyncio.Event)
        idle, busy = daemon.connect(), daemon.connect()
        busy.sendall(encode_request(Request(5, "release", {"address": "e1.0"})))
        while not daemon.node.asked:
            time.sleep(0.01)
        daemon.call(lambda: asyncio.get_running_loop().call_later(0.3, gate.set))
    assert line_of(busy)["ok"]["said"] == ["did release"]
    assert line_of(busy) == {}
    assert line_of(idle) == {}
    idle.close()
    busy.close()
    assert not (tmp_path / "control").exists()


# Rights, as the kernel tells them

ASK = """
import json, os, socket, sys
path, uid, gids = sys.argv[1], int(sys.argv[2]), [int(it) for it in sys.argv[3].split(",")]
os.setgroups(gids)
os.setgid(uid)
os.setuid(uid)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(path)
for verb in sys.argv[4:]:
    line = {"version": 1, "id": 1, "verb": verb, "arguments": {"address": "e1.0", "mask": "any"}}
    connection.sendall(json.dumps(line).encode() + b"\\n")
    print(connection.makefile().readline().strip())
"""


@pytest.fixture
def users() -> None:
    """There are others."""
    need_users()


def as_user(path: Path, uid: int, gids: list[int], *verbs: str) -> list[str]:
    """What a process of another user is answered: `ok`, or the kind of the error."""
    words = [sys.executable, "-c", ASK, str(path), str(uid), ",".join(map(str, gids)), *verbs]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return ["ok" if "ok" in it else it["error"]["kind"] for it in answers]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that other users reach."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.mark.usefixtures("users")
def test_a_supplementary_group_counts(open_directory: Path) -> None:
    with served(open_directory / "control", rights=Rights(owner=0, group=4321)) as daemon:
        assert as_user(daemon.path, 1234, [4321], "status", "mask", "release", "add") == [
            "ok",
            "ok",
            "ok",
            "rights",
        ]
        assert as_user(daemon.path, 1234, [4322], "status", "mask") == ["rights", "rights"]
        assert ("lend", "e1.0", {"mask": "any"}, "uid 1234") in daemon.node.asked


@pytest.mark.usefixtures("users")
def test_of_many_groups_the_last_one_counts(open_directory: Path) -> None:
    with served(open_directory / "control", rights=Rights(owner=0, group=9000)) as daemon:
        assert as_user(daemon.path, 1234, [*range(5000, 5400), 9000], "release") == ["ok"]


@pytest.mark.usefixtures("users")
def test_others_read_only_if_allowed(open_directory: Path) -> None:
    with served(open_directory / "control", rights=Rights(owner=0, all_read=True)) as daemon:
        assert as_user(daemon.path, 1234, [1234], "status", "release", "apply") == ["ok", "rights", "rights"]
        daemon.call(lambda: setattr(daemon.server, "rights", Rights(0)))
        assert as_user(daemon.path, 1234, [1234], "status") == ["rights"]


@pytest.mark.usefixtures("users")
def test_a_refusal_is_logged_once_not_each_time(
    open_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(open_directory / "control", rights=Rights(0)) as daemon:
        as_user(daemon.path, 1234, [1234], *["release"] * 50)
    lines = [it.message for it in caplog.records if "uid 1234" in it.message]
    assert 1 <= len(lines) <= 3


# A client and a daemon that is not there


def test_no_daemon_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ControlFailed, match="aoe-target run") as caught:
        Client(tmp_path / "control")
    assert caught.value.exit == NO_DAEMON
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(ControlFailed, match="Connection refused"):
        Client(tmp_path / "left")


def test_a_daemon_that_ends_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        client = Client(tmp_path / "control")
        listener.accept()[0].close()
        with pytest.raises(ControlFailed, match=r"ended before it answered|is lost") as caught:
            client.ask("status")
        assert caught.value.exit == PARTLY
        client.close()


def test_a_daemon_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CONTROL_QUIET_S", 0.05)
    monkeypatch.setattr(timing, "CONTROL_LOOK_S", 0.12)
    said: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        with (
            Client(tmp_path / "control", said.append) as client,
            pytest.raises(ControlFailed, match="does not answer"),
        ):
            client.ask("status")
    assert f"process {os.getpid()}" in said[0]
    assert len(said) == 2


def test_a_daemon_that_accepts_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.control.client._PATIENCE", struct.pack("ll", 0, 200_000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen(0)
        with Client(tmp_path / "control"), pytest.raises(ControlFailed, match="accepts no connection"):
            Client(tmp_path / "control")


def test_without_descriptors_it_waits_and_goes_on(daemon: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it spin: the loop has its time."""
    tries: list[float] = []

    class Poor:
        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def fileno(self) -> int:
            return self._real.fileno()

        def accept(self) -> tuple[socket.socket, object]:
            tries.append(time.monotonic())
            if len(tries) < 4:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._real.accept()

        def close(self) -> None:
            self._real.close()

    seat = daemon.server._seat
    daemon.call(lambda: setattr(seat, "socket", Poor(seat.socket)))
    daemon.call(daemon.server._listen)
    with Client(daemon.path) as client:
        assert client.ask("status")
    assert len(tries) == 4
    assert tries[3] - tries[0] >= 2 * timing.CONTROL_AGAIN_S


VOLUME = {"pool": "fast", "request": {"verb": "delete", "volume": "web1"}}
DELETE = encode_request(Request(1, "volume", VOLUME))


def test_a_verb_of_a_pool_is_read_by_what_does_it(daemon: Running) -> None:
    """The node shows another process the connection; what comes behind the line waits."""
    daemon.node.reads = len(DELETE)
    with daemon.connect() as client:
        client.sendall(STATUS + DELETE + STATUS)
        assert [line_of(client).get("id") for _ in range(3)] == [1, 1, 1]
    assert daemon.node.read == [DELETE]
    assert [what[0] for what in daemon.node.asked] == ["status", "volume", "status"]


def test_what_no_other_process_has_read_is_done_once(daemon: Running) -> None:
    with daemon.connect() as client:
        client.sendall(DELETE + STATUS)
        assert "ok" in line_of(client)
        assert "ok" in line_of(client)
        plan = encode_request(Request(2, "volume", {**VOLUME, "plan": True}))
        client.sendall(plan[:20])
        client.sendall(plan[20:])
        assert line_of(client)["id"] == 2
    assert [what[0] for what in daemon.node.asked] == ["volume", "status", "volume"]
    assert daemon.node.unread == [True, False]


def test_one_that_came_in_pieces_is_answered_too(daemon: Running) -> None:
    with daemon.connect() as client:
        client.sendall(DELETE[:9])
        daemon.call(lambda: None)
        client.sendall(DELETE[9:] + STATUS)
        assert "ok" in line_of(client)
        assert "ok" in line_of(client)


def test_where_it_is_not_known_whether_it_was_read_the_connection_ends(daemon: Running) -> None:
    daemon.node.reads = None
    with daemon.connect() as client:
        client.sendall(DELETE)
        assert "ok" in line_of(client)
        assert line_of(client) == {}
