"""Where a daemon listens."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aoe.control import place
from aoe.control.client import Client
from aoe.control.listening import Seat, clear
from aoe.errors import ConfigurationError, ControlFailed
from tests.control.asking import served


def test_a_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    words = "import os, pathlib, sys; from aoe.control.listening import Seat; "
    words += "Seat(pathlib.Path(sys.argv[1])); os._exit(0)"
    subprocess.run([sys.executable, "-c", words, str(path)], check=True, timeout=60)
    assert path.is_socket()
    with served(path), Client(path) as client:
        assert client.ask("status")


def test_a_live_one_is_refused_with_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with served(path):
        with pytest.raises(
            ConfigurationError, match=f"process {os.getpid()} is a daemon at .*control already"
        ):
            Seat(path)
        with Client(path) as client:
            assert client.ask("status")


def test_one_that_another_program_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()} "):
            Seat(path)
        assert path.is_socket()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("mine")
    with pytest.raises(ConfigurationError, match="is no socket; remove it"):
        Seat(tmp_path / "control")
    assert (tmp_path / "control").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "control")
    with pytest.raises(ConfigurationError, match="is no socket"):
        Seat(tmp_path / "link")


def test_after_a_refusal_the_place_is_free(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("mine")
    with pytest.raises(ConfigurationError):
        Seat(tmp_path / "control")
    (tmp_path / "control").unlink()
    Seat(tmp_path / "control").close()
    assert not (tmp_path / "control").exists()


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(ConfigurationError, match="longer than 107 bytes; name a shorter --socket"):
        Seat(path)
    with pytest.raises(ConfigurationError, match="longer than 107 bytes"):
        Client(path)


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"no control socket at .*(Not a directory|File exists)"):
        Seat(tmp_path / "file" / "control")


def test_where_a_daemon_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert place.daemons() == Path("/run/aoe-target/control")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    assert place.daemons() == Path("/run/one/control")
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place.daemons() == tmp_path / ".local/state/aoe-target/control"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert place.daemons() == tmp_path / "run/aoe-target/control"


def test_an_ordinary_user_asks_the_own_daemon_or_else_roots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert place.askers() == Path("/run/aoe-target/control")
    own = tmp_path / "aoe-target"
    seat = Seat(own / "control")
    assert place.askers() == own / "control"
    seat.close()


def test_any_process_may_connect_and_is_judged_then(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "control")
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o666
    seat.close()
    with pytest.raises(ControlFailed):
        Client(tmp_path / "control")


def test_others_can_reach_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        seat = Seat(tmp_path / "run" / "control")
    finally:
        os.umask(before)
    seat.close()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    Seat(tmp_path / "run" / "control").close()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_what_a_dead_daemon_left_is_cleared_and_nothing_of_a_live_one(tmp_path: Path) -> None:
    """By a process that has the right to it."""
    path = tmp_path / "control"
    seat = Seat(path)
    clear(path)
    assert names(tmp_path) == ["control", "control.lock"]
    seat.socket.close()
    os.close(seat._lock)
    clear(path)
    assert names(tmp_path) == []
    clear(path)
    (tmp_path / "other.lock").touch()
    (tmp_path / "control.lock").symlink_to(tmp_path / "other.lock")
    path.write_text("mine")
    clear(path)
    (tmp_path / "control.lock").unlink()
    os.mkfifo(tmp_path / "control.lock")
    clear(path)
    assert path.read_text() == "mine"


def test_one_that_waited_for_a_lock_that_is_removed_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "control", fcntl.flock
    first = Seat(path)

    def later(fd: int, how: int) -> None:
        monkeypatch.setattr("aoe.control.listening.fcntl.flock", real)
        first.close()
        real(fd, how)

    monkeypatch.setattr("aoe.control.listening.fcntl.flock", later)
    second = Seat(path)
    with pytest.raises(ConfigurationError, match="is a daemon at"):
        Seat(path)
    second.close()
    assert names(tmp_path) == []


def names(directory: Path) -> list[str]:
    return sorted(it.name for it in directory.iterdir())
