"""What the opener hears itself of a person, and what a process that was broken into can show it instead."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.control.heard import heard
from aoe.control.messages import Request, encode_request
from aoe.errors import ConfigurationError

ASKED = encode_request(Request(1, "volume", {"pool": "fast"}))


class Seat:
    """A control socket, and connections to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    def connected(self, said: bytes = ASKED) -> tuple[socket.socket, socket.socket]:
        """The person's end, and the daemon's."""
        person = socket.socket(socket.AF_UNIX)
        person.connect(str(self.path))
        person.sendall(said)
        return person, self.listener.accept()[0]


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    made = Seat(tmp_path / "control")
    yield made
    made.listener.close()


def refusal(shown: socket.socket, seat: Seat) -> str:
    with pytest.raises(ConfigurationError) as caught:
        heard(shown.fileno(), seat.path)
    return str(caught.value)


def test_a_request_is_heard_once_with_the_kernels_word_for_who_made_it(seat: Seat) -> None:
    person, daemons = seat.connected(ASKED + ASKED.replace(b"fast", b"slow"))
    with person, daemons:
        request, peer = heard(daemons.fileno(), seat.path)
        assert request is not None
        assert (request.verb, request.arguments) == ("volume", {"pool": "fast"})
        assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
        assert peer.gids >= set(os.getgroups())
        again, _ = heard(daemons.fileno(), seat.path)
        assert again is not None
        assert again.arguments == {"pool": "slow"}
        with pytest.raises(BlockingIOError):
            heard(daemons.fileno(), seat.path)


def test_it_is_the_same_socket_however_its_directory_is_called(seat: Seat, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    person, daemons = seat.connected()
    with person, daemons:
        request, _ = heard(daemons.fileno(), tmp_path / "link" / "control")
        assert request is not None


def test_a_pair_of_sockets_proves_nothing(seat: Seat) -> None:
    """Its event loop has one that it made while it was root, with both ends."""
    ours, shown = socket.socketpair()
    with ours, shown:
        ours.sendall(ASKED)
        assert "alone; start it with the --socket of the daemon" in refusal(shown, seat)
        assert shown.recv(len(ASKED)) == ASKED, "nothing was read"


def test_what_a_service_of_roots_sends_back_proves_nothing(seat: Seat, tmp_path: Path) -> None:
    """The other end is root's, as the kernel says, and this end can be called like the control socket."""
    with socket.socket(socket.AF_UNIX) as echo, socket.socket(socket.AF_UNIX) as shown:
        echo.bind(str(tmp_path / "echo"))
        echo.listen()
        seat.path.unlink()
        shown.bind(str(seat.path))
        shown.connect(str(tmp_path / "echo"))
        with echo.accept()[0] as service:
            service.sendall(ASKED)
            assert "alone" in refusal(shown, seat)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_nor_does_a_socket_of_another_kind(kind: socket.SocketKind, seat: Seat) -> None:
    ours, shown = socket.socketpair(socket.AF_UNIX, kind)
    with ours, shown:
        ours.send(ASKED)
        assert "by its connection to the control socket" in refusal(shown, seat)
    with socket.socket(socket.AF_INET) as other:
        assert "by its connection to the control socket" in refusal(other, seat)


def test_what_is_no_socket_is_an_error(seat: Seat, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="non-socket"):
        heard(file.fileno(), seat.path)


def test_what_a_person_has_left_behind_is_not_done_later(seat: Seat) -> None:
    person, daemons = seat.connected()
    with daemons:
        person.close()
        assert "has gone; ask again" in refusal(daemons, seat)


def test_one_that_only_sends_no_more_is_heard(seat: Seat) -> None:
    person, daemons = seat.connected()
    with person, daemons:
        person.shutdown(socket.SHUT_WR)
        assert heard(daemons.fileno(), seat.path)[0] is not None


@pytest.mark.parametrize("cut", [1, 12, len(ASKED) // 2])
def test_a_part_of_what_was_asked_is_nothing(cut: int, seat: Seat) -> None:
    """A request has others in it: `{"request": {"verb": ...}}`."""
    person, daemons = seat.connected()
    with person, daemons:
        daemons.recv(cut)
        assert heard(daemons.fileno(), seat.path)[0] is None
    inner = encode_request(Request(1, "apply", {"text": ASKED.decode(), "more": {"verb": "volume"}}))
    person, daemons = seat.connected(inner)
    with person, daemons:
        daemons.recv(inner.index(b'{"verb'))
        assert heard(daemons.fileno(), seat.path)[0] is None


def test_a_line_without_an_end_is_left(seat: Seat) -> None:
    person, daemons = seat.connected(ASKED[:-1])
    with person, daemons:
        assert "in one piece" in refusal(daemons, seat)
