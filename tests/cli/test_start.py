"""The start of a command: Ctrl-C before it has a handler of its own, and what it does not wait for."""

import argparse
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from aoe.cli import cloud_parser, parser, target_parser, words
from aoe.wire.protocol import SECTOR
from man import generate

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
_LOADED = """
import sys
sys.argv = {argv!r}
try:
    {load}
except SystemExit:
    pass
print(*sorted(sys.modules), file=sys.stderr)
"""
HEAVY = {
    *("asyncio", "uvloop", "logging", "socket", "subprocess", "cffi", "inspect", "ssl", "tomllib", "tomlkit"),
    *("importlib.metadata", "concurrent.futures", "rich", "pyroute2", "cattrs", "asyncio_dgram"),
    *("aoe.engine", "aoe.cli.serve", "aoe.cli.running", "aoe.target", "aoe.initiator.session"),
}
"""What a command that only shows its words does not wait for."""
COMMANDS = {"client": ["aoe", "discover"], "target": ["aoe-target", "serve", "/dev/null"]}


def interrupted(
    command: str, module: str, *, argv: list[str] | None = None, ignored: bool = False
) -> "subprocess.CompletedProcess[str]":
    """A command that gets SIGINT as it begins to load a module."""
    typed = argv or COMMANDS[command]
    program = _PROGRAM.format(module=module, ignored=ignored, argv=typed, command=command)
    done = [sys.executable, "-c", program]
    return subprocess.run(done, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("module", ["aoe", "aoe.initiator.remote", "aoe.cli", "aoe.cli.stdio", "uvloop"])
def test_the_client_ends_without_a_traceback(module: str) -> None:
    done = interrupted("client", module)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "module", ["aoe", "aoe.target.server", "aoe.cli", "aoe.cli.target", "aoe.cli.serve", "aoe.cli.paths"]
)
def test_the_target_ends_without_a_traceback(module: str) -> None:
    done = interrupted("target", module)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")


_LACKING = """
import sys
import aoe_start

class Lacks:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Lacks())
sys.argv = {argv!r}
sys.exit(aoe_start.{command}())
"""
DISCOVER = ["aoe", "discover"]
NBD = ["aoe", "nbd", "e1.0", "--socket", "/dev/null/x", "--interface", "lo"]
RUN = ["aoe-target", "run", "--config", "/dev/null", "--socket", "/dev/null/x"]


@pytest.mark.parametrize(
    ("command", "argv", "module"),
    [
        *(("client", NBD, it) for it in ("aoe.cli.client", "aoe.cli.running", "aoe.disk.threads", "asyncio")),
        *(
            ("client", [*DISCOVER, "--interface", "none0"], it)
            for it in ("aoe.cli.parser", "aoe.cli.listing")
        ),
        *(("target", RUN, it) for it in ("aoe.cli", "aoe.cli.run", "aoe.node.node", "tomllib")),
        *(("target", COMMANDS["target"], it) for it in ("aoe.target.server", "aoe.disk.threads", "socket")),
        ("target", ["aoe-target", "status", "--socket", "/dev/null/x"], "aoe.control.client"),
        ("cloud", ["aoe-cloud", "image", "list"], "aoe.cloud.building"),
    ],
)
def test_a_module_that_is_missing_is_named_in_one_line(command: str, argv: list[str], module: str) -> None:
    program = _LACKING.format(module=module, argv=argv, command=command)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{argv[0]}: a part of this program is missing: "), line
    assert line.endswith("; install it again"), line
    assert module.rpartition(".")[2] in line
    assert (done.returncode, done.stdout) == (1, "")


def test_with_json_it_is_an_object() -> None:
    program = _LACKING.format(module="aoe.disk.threads", argv=[*NBD, "--json"], command="client")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["error"]["kind"] == "request"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("command", "name"), [("client", "aoe"), ("cloud", "aoe-cloud"), ("target", "aoe-target")]
)
def test_where_it_is_ignored_it_stays_so(command: str, name: str) -> None:
    done = interrupted(command, "aoe.errors", argv=[name, "--version"], ignored=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} ")


def test_nobody_looks_for_garbage_while_a_command_is_loaded() -> None:
    """That took a twentieth of the time of a start. While it runs it is looked for."""
    program = """
import gc, sys
import aoe_start

looks = []
gc.callbacks.append(lambda *_: looks.append("aoe.cli.check" in sys.modules))
sys.argv = ["aoe-target", "check", "/dev/null"]
try:
    aoe_start.target()
except SystemExit:
    pass
print(all(looks), gc.isenabled(), gc.get_freeze_count() > 1000)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "True True True"


def test_the_commands_begin_there() -> None:
    scripts = metadata.distribution("aoe-target").entry_points
    found = {it.name: it.value for it in scripts if it.group == "console_scripts"}
    assert found == {
        "aoe": "aoe_start:client",
        "aoe-cloud": "aoe_start:cloud",
        "aoe-target": "aoe_start:target",
    }


def loaded(load: str, *argv: str) -> set[str]:
    """The modules that are there afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(load=load, argv=list(argv))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("typed", [["--help"], ["serve", "--help"], ["serve"], ["frobnicate"]])
def test_words_of_the_target_wait_for_nothing(typed: list[str]) -> None:
    found = loaded("import aoe_start; aoe_start.target()", "aoe-target", *typed)
    assert "aoe.cli.target_parser" in found
    assert found & HEAVY == set()


@pytest.mark.parametrize("typed", [["--help"], ["image", "build", "--help"], ["image"]])
def test_words_of_the_cloud_wait_for_nothing(typed: list[str]) -> None:
    found = loaded("import aoe_start; aoe_start.cloud()", "aoe-cloud", *typed)
    assert "aoe.cli.cloud_parser" in found
    assert found & HEAVY == set()


@pytest.mark.parametrize("typed", [["--help"], ["nbd", "--help"], ["bench"], ["ping", "e0.0", "-c", "x"]])
def test_words_of_the_client_wait_for_nothing(typed: list[str]) -> None:
    found = loaded("import aoe_start; aoe_start.client()", "aoe", *typed)
    assert "aoe.cli.parser" in found
    assert found & HEAVY == set()


def test_the_package_loads_what_is_asked_of_it() -> None:
    assert loaded("import aoe") & HEAVY == set()
    assert {it for it in loaded("import aoe; aoe.DiskError") if it.startswith("aoe.")} == {"aoe.errors"}
    assert "aoe.initiator.session" in loaded("import aoe; aoe.attach")


@pytest.mark.parametrize(
    "top",
    [parser.parser(), cloud_parser.parser(), target_parser.parser()],
    ids=["aoe", "aoe-cloud", "aoe-target"],
)
def test_every_subcommand_means_something(top: argparse.ArgumentParser) -> None:
    for name, command in generate.commands(top).items():
        named = command.get_default("make") or command.get_default("means")
        assert callable(words.meant(named)), name


# What Debian 12 has, and has not

WITHOUT = "import sys; sys.modules[{missing!r}] = None; from aoe.cli.{command} import main; sys.exit(main())"
UDP = ("--link", "udp:127.0.0.1:0,peer=127.0.0.1:9")


@pytest.mark.parametrize(
    "typed", [("target", "serve", "/dev/null"), ("client", "discover"), ("client", "mask", "e0.0")]
)
def test_udp_without_its_library_is_said_in_one_line(typed: tuple[str, ...], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(SECTOR))
    command, *rest = (str(disk) if word == "/dev/null" else word for word in typed)
    program = WITHOUT.format(missing="asyncio_dgram", command=command)
    state = {"XDG_STATE_HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *rest, *UDP],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **state},
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("--link udp:... needs asyncio-dgram: pip install asyncio-dgram")


@pytest.mark.parametrize(
    ("before", "loop"),
    [
        ("import uvloop; del uvloop.run", "uvloop.Loop"),
        ("import sys; sys.modules['uvloop'] = None", "asyncio.unix_events._UnixSelectorEventLoop"),
    ],
    ids=["uvloop 0.17", "no uvloop"],
)
def test_a_command_runs_in_the_loop_that_there_is(before: str, loop: str) -> None:
    program = f"""{before}
import asyncio
from aoe.cli.loop import run

async def kind():
    it = type(asyncio.get_running_loop())
    return f"{{it.__module__}}.{{it.__qualname__}}"

print(run(kind()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == loop
