"""The stand-in for systemd's store of descriptors does what systemd 252 does."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.manager import Manager
from tests.node.store_scenes import HOLDS, SCENES, Scene
from tests.support.waiting import wait_for

STORING = Path(__file__).parent / "storing.py"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager([sys.executable, str(STORING), str(tmp_path)], tmp_path, holds=HOLDS) as made:
        made.start()
        yield made


def tell(manager: Manager, line: str) -> None:
    """Until it is done."""
    assert manager.process is not None
    assert manager.process.stdin is not None
    manager.process.stdin.write(f"{line}\n".encode())
    manager.process.stdin.flush()
    wait_for(lambda: manager.said.get("STATUS") == f"did {line}")


def returned(manager: Manager) -> list[str]:
    """What the service is started with."""
    manager.start()
    first, *names = manager.said["STATUS"].split()
    assert first == "given"
    return sorted(names)


@pytest.mark.parametrize("name", SCENES)
def test_it_does_what_systemd_does(manager: Manager, name: str) -> None:
    scene = SCENES[name]
    for line in scene.words:
        tell(manager, line)
    wait_for(lambda: len(manager.names()) == scene.held)
    end(manager, scene)
    assert returned(manager) == sorted(scene.returned)


def end(manager: Manager, scene: Scene) -> None:
    """Of one life; a next one may fail."""
    if scene.end == "stop":
        manager.stop()
    else:
        manager.kill(signal.SIGKILL if scene.end == "kill" else signal.SIGTERM)
    if "fail" in scene.words:
        manager.start(ready_s=None)
        assert manager.process is not None
        assert manager.process.wait(30) == 1


def test_what_is_stored_outlives_a_kill_and_comes_back_by_name(manager: Manager) -> None:
    for name in ("one", "two", "three"):
        tell(manager, f"put {name}")
    manager.kill()
    assert returned(manager) == ["one", "three", "two"]
    manager.kill()
    assert returned(manager) == ["one", "three", "two"]


def test_a_stop_empties_the_store(manager: Manager) -> None:
    tell(manager, "put one")
    manager.stop()
    manager.start()
    assert manager.names() == []


def test_one_open_file_is_held_once_and_two_of_one_name_are_two(manager: Manager) -> None:
    tell(manager, "put one")
    tell(manager, "put one again")
    assert manager.names() == ["one"]
    tell(manager, "put one")
    assert manager.names() == ["one", "one"]
    tell(manager, "remove one")
    assert manager.names() == []


def test_what_hangs_up_is_lost_unless_it_is_not_polled(manager: Manager) -> None:
    tell(manager, "socket watched")
    tell(manager, "socket left silent")
    assert manager.names() == ["left", "watched"]
    tell(manager, "hang")
    wait_for(lambda: manager.names() == ["left"])


def test_a_full_store_takes_no_more(manager: Manager) -> None:
    for number in range(10):
        tell(manager, f"put name{number}")
    assert len(manager.names()) == HOLDS
    assert manager.refused == 2


def test_a_name_that_would_not_fit_into_the_list_is_not_kept(manager: Manager) -> None:
    tell(manager, "put a:b")
    assert manager.names() == ["stored"]


def test_a_service_that_ends_before_it_is_ready_is_told(tmp_path: Path) -> None:
    with Manager(["false"], tmp_path) as made, pytest.raises(AssertionError, match="ended with 1"):
        made.start()
