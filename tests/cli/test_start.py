"""Ctrl-C while a command is loaded, before it has a handler of its own."""

import signal
import subprocess
import sys
from importlib import metadata

import pytest

_PROGRAM = """
import os, signal, sys
import aoe_start

class Interrupts:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

if {ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.meta_path.insert(0, Interrupts())
sys.argv = {argv!r}
sys.exit(aoe_start.{command}())
"""
COMMANDS = {"client": ["aoe", "discover"], "target": ["aoe-target", "serve", "/dev/null"]}


def interrupted(
    command: str, module: str, *, argv: list[str] | None = None, ignored: bool = False
) -> "subprocess.CompletedProcess[str]":
    """A command that gets SIGINT as it begins to load a module."""
    words = argv or COMMANDS[command]
    program = _PROGRAM.format(module=module, ignored=ignored, argv=words, command=command)
    done = [sys.executable, "-c", program]
    return subprocess.run(done, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("module", ["aoe", "aoe.initiator.remote", "aoe.cli", "aoe.cli.stdio", "uvloop"])
def test_the_client_ends_without_a_traceback(module: str) -> None:
    done = interrupted("client", module)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize("module", ["aoe", "aoe.target.server", "aoe.cli", "aoe.cli.target", "aoe.cli.paths"])
def test_the_target_ends_without_a_traceback(module: str) -> None:
    done = interrupted("target", module)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize(("command", "name"), [("client", "aoe"), ("target", "aoe-target")])
def test_where_it_is_ignored_it_stays_so(command: str, name: str) -> None:
    done = interrupted(command, "aoe.errors", argv=[name, "--version"], ignored=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} ")


def test_the_commands_begin_there() -> None:
    scripts = metadata.distribution("aoe-target").entry_points
    found = {it.name: it.value for it in scripts if it.group == "console_scripts"}
    assert found == {"aoe": "aoe_start:client", "aoe-target": "aoe_start:target"}
