"""The rooms of tests/support: each imports only from those above it, and nothing is there for one user."""

import functools
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import stays_together
from tests.support.labs.guests.files import SHELL
from tests.support.tools import need, package_of
from tests.support.waiting import wait_for
from tests.test_house import imports

ROOT = Path(__file__).parent.parent
SUPPORT = ROOT / "tests" / "support"
ROOMS = ["tools", "waiting", "labs", "checkers", "programs"]
PLACE = "tests.support."


def modules() -> list[str]:
    """All of them, with their rooms: `labs.network`."""
    found = (path.relative_to(SUPPORT).with_suffix("") for path in SUPPORT.rglob("*.py"))
    return sorted(".".join(path.parts) for path in found if path.name != "__init__")


def named(module: str) -> set[str]:
    """What a support module imports from here, as rooms."""
    source = (SUPPORT / module.replace(".", "/")).with_suffix(".py").read_text()
    found = (name.removeprefix(PLACE) for name in imports(source) if name.startswith(PLACE))
    return {name.partition(".")[0] for name in found}


def uses(names: Iterable[str], module: str) -> bool:
    """Whether one of these imports is a module or something of it."""
    whole = PLACE + module
    return any(name == whole or name.startswith(f"{whole}.") for name in names)


@functools.cache
def all_imports() -> dict[Path, list[str]]:
    python = [path for room in ("tests", "bench") for path in (ROOT / room).rglob("*.py")]
    return {path: list(imports(path.read_text())) for path in python}


def users(module: str) -> set[str]:
    tools = [path for path in (ROOT / "tools").iterdir() if path.is_file()]
    found = [path for path, names in all_imports().items() if uses(names, module)]
    found += [path for path in tools if PLACE + module in path.read_text()]
    return {str(path.relative_to(ROOT)) for path in found}


def test_every_module_is_in_a_room() -> None:
    assert {module.partition(".")[0] for module in modules()} == set(ROOMS)


@pytest.mark.parametrize("module", modules())
def test_rooms_import_only_from_rooms_above(module: str) -> None:
    room = module.partition(".")[0]
    assert named(module) <= set(ROOMS[: ROOMS.index(room) + 1])


@pytest.mark.parametrize("module", [it for it in modules() if not it.startswith("programs.")])
def test_what_has_one_user_is_beside_it(module: str) -> None:
    assert len(users(module)) > 1, f"{module}: move it to {users(module)}"


def test_the_checks_find_what_they_look_for() -> None:
    assert uses(imports("from tests.support.labs import loss\n"), "labs.loss")
    assert uses(imports("from tests.support.labs.loss import need_loss\n"), "labs.loss")
    assert not uses(imports("from tests.support.labs.losses import one\n"), "labs.loss")
    assert {"tools/test", "tests/vm/test_power_cut.py"} <= users("labs.guests.kernel")
    assert not users("labs.nothing")


def asked_for() -> set[str]:
    """The tools of the system that tests need, by the text of their calls."""
    calls = (re.findall(r"\bneed\(([^()]*)\)", path.read_text()) for path in all_imports())
    return {name for found in calls for call in found for name in re.findall(r'"([\w.-]+)"', call)}


def test_a_new_machine_gets_every_tool_that_a_test_needs() -> None:
    """From `tools/test`, unless Debian is never without it."""
    text = "".join((ROOT / "tools" / name).read_text() for name in ("test", "common.sh"))
    named = re.findall(r"(?:=|install_packages )([a-z][a-z0-9.+-]+)", text)
    installed = {*named, "apt", "dpkg", "util-linux"}
    missing = {name: it for name in asked_for() if not set(it := package_of(name).split()) <= installed}
    assert missing == {}
    assert {"qemu-system-x86_64", "mmdebstrap", "dpkg-deb", "vblade"} <= asked_for()


def test_tests_that_share_something_stay_together() -> None:
    tests = ROOT / "tests"
    assert stays_together(tests / "engine" / "test_trim.py")  # one lab for all
    assert stays_together(tests / "engine" / "test_fuzz.py")  # it says so
    assert not stays_together(tests / "cli" / "test_copy.py")


def test_a_test_that_hangs_fails_by_name_with_the_stacks_of_its_threads(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(
        "import threading, time\n"
        "def a_thread_of_it():\n    time.sleep(60)\n"
        "def test_that_hangs():\n"
        "    threading.Thread(target=a_thread_of_it, daemon=True).start()\n"
        "    time.sleep(60)\n"
        "def test_after_it():\n    pass\n"
    )
    words = (
        "-o",
        "timeout=3",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        tmp_path,
        "-p",
        "no:cacheprovider",
    )
    command = [sys.executable, "-m", "pytest", *words, tmp_path / "test_hanging.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "1 failed, 1 passed" in said, said
    assert re.search(r"FAILED \S*::test_that_hangs", said), said
    assert "Failed: Timeout (>3.0s)" in said
    assert "in a_thread_of_it" in said, "no stack of the other thread"


def test_the_shell_of_a_guest_loses_nothing_of_a_line_as_a_child_ends() -> None:
    need("busybox")
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(["busybox", "sh", "-c", SHELL], stdin=theirs, stdout=theirs, stderr=theirs):
        theirs.close()
        ours.settimeout(30)
        ours.sendall(b"sleep 0.2 & echo $!\n")
        child = int(until_status(ours)[0])
        ours.sendall(b"for i in a")
        wait_for(lambda: "\nState:\tZ" in status(child) or not status(child))
        ours.sendall(b" b; do echo $i; done\n")
        assert until_status(ours) == ["a", "b"]
        ours.shutdown(socket.SHUT_WR)


def until_status(shell: socket.socket) -> list[str]:
    said = b""
    while not said.endswith(b"status 0\n"):
        data = shell.recv(4096)
        assert data, said
        said += data
    return said.decode().splitlines()[:-1]


def status(pid: int) -> str:
    """Of a process that may have ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/status").read_text()
    return ""
