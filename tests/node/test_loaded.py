"""What a service needs is loaded before it says that it is ready: an upgrade replaces its modules then."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.service import ask
from tests.node.manager import Manager
from tests.node.test_managed import FILE, MORE
from tests.support.labs.peers import image

VERBS: list[tuple[str, dict[str, Any]]] = [
    ("status", {}),
    ("drain", {"addresses": ["e1.0"]}),
    ("resume", {"addresses": ["e1.0"]}),
    ("release", {"address": "e1.0"}),
    ("log-level", {"level": "debug"}),
]
LOADS = "loads "
PROGRAM = f"""
import os, sys

class Told:
    def find_spec(self, name, *_):
        os.write(2, b"{LOADS}%s\\n" % name.encode())

sys.meta_path.insert(0, Told())
from aoe.cli import target
sys.exit(target.main())
"""


def manager(directory: Path) -> Manager:
    """Of a daemon that writes down what it begins to load."""
    image(directory / "disk")
    (directory / "file.toml").write_text(FILE.format(directory=directory))
    words = ("run", "--config", directory / "file.toml", "--socket", directory / "control")
    into = ("sh", "-c", 'exec "$@" 2>>"$0"', directory / "log")
    command = [*into, sys.executable, "-c", PROGRAM, *words]
    return Manager(list(map(str, command)), directory, environment=dict(os.environ))


def loaded(text: str) -> list[str]:
    return [it.removeprefix(LOADS) for it in text.splitlines() if it.startswith(LOADS)]


def use(directory: Path) -> None:
    """Its verbs, and files that are right and wrong."""
    control, file = directory / "control", directory / "file.toml"
    text = file.read_text()
    image(directory / "more")
    more = MORE.format(directory=directory, name="more", slot=1)
    for right in (text + more, text, text + more + 'mask = ["02:00:00:00:00:01"]\n'):
        file.write_text(right)
        assert ask(control, "apply")["exit"] == 0
    for verb in VERBS:
        ask(control, verb[0], **verb[1])
    for wrong in ("[[export]]\nshelf = 1\n", "a = \n"):
        file.write_text(text + wrong)
        with pytest.raises(AssertionError, match="error"):
            ask(control, "apply")
    file.write_text(text + MORE.format(directory="/none", name="x", slot=2))
    assert ask(control, "apply")["exit"] == 1


def test_nothing_is_loaded_once_it_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with manager(tmp_path) as one:
        one.start()
        before = log.read_text()
        assert "aoe.node.node" in loaded(before)
        use(tmp_path)
        assert one.kill(signal.SIGTERM) == 0
        assert loaded(log.read_text()[len(before) :]) == []
