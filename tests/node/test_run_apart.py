"""`run` as root, on a host that has a user for it: what serves has no right but to serve, and its opener
opens what root's file names, also later."""

import fcntl
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.wire.config import ConfigCommand
from tests.net.service import ask
from tests.node.test_sandbox import launcher, told
from tests.node.test_serve_apart import NOBODY, SERVICE, children, opener_of
from tests.support.labs.peers import image
from tests.support.labs.served import SECTORS, Served
from tests.support.tools import need_users
from tests.support.waiting import PATIENCE_S, statuses, wait_for

HEAD = """
[target]
links = ["udp:127.0.0.1:0,mtu=9000"]
engine = "python"
state-dir = "{work}/state"
"""
CAPABILITIES = 1 << 1 | 1 << 2 | 1 << 10 | 1 << 12 | 1 << 13
"""To open any file, ports below 1024, packet sockets, and large buffers for these."""


@pytest.fixture(autouse=True)
def root() -> None:
    need_users()


@pytest.fixture
def work() -> Iterator[Path]:
    """Where every user comes by; what is in it is root's alone."""
    with tempfile.TemporaryDirectory(prefix="aoe-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def write(work: Path, *disks: str) -> None:
    """Root's file, with disks of root's."""
    text = HEAD.format(work=work)
    for slot, name in enumerate(disks):
        if not (work / name).exists():
            image(work / name).chmod(0o600)
        text += f'[[export]]\npath = "{work}/{name}"\nshelf = 0\nslot = {slot}\n'
    file = work / "file.toml"
    file.write_text(text)
    file.chmod(0o600)


@contextmanager
def running(
    work: Path, program: Sequence[str] = SERVICE, more: Sequence[str | Path] = ()
) -> Iterator[Served]:
    words = ("run", "--config", work / "file.toml", "--socket", work / "control", "--json", *more)
    with subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            served = Served(process)
            while json.loads(served.line())["event"] != "ready":
                pass
            yield served
        finally:
            process.kill()


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in text.splitlines())}


def test_nothing_but_serving_can_be_done(work: Path) -> None:
    (work / "state").mkdir()
    write(work, "disk")
    with running(work, launcher(work / "state/tried", "service")):
        found = told(work / "state/tried")
        assert len(found) > 60
        assert "bind a socket" in found
        assert {name: it for name, it in found.items() if it} == {}
        assert ask(work / "control", "status")["exports"][0]["state"] == "serving"


def test_it_is_another_user_and_its_opener_has_few_rights(work: Path) -> None:
    write(work, "disk")
    with running(work) as target, target.client() as client:
        client.write(0, b"z" * 512)
        assert client.read(0)[:512] == b"z" * 512
        for found in statuses(target.process.pid):
            assert found["Uid"].split() == [str(NOBODY)] * 4
            assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0" * 16, "1", "2")
            assert found["Groups"] == ""
        found = status_of(opener_of(target))
        assert (found["Uid"].split()[0], found["NoNewPrivs"]) == ("0", "1")
        assert int(found["CapEff"], 16) & ~CAPABILITIES == 0
        assert stat.S_IMODE((work / "state").stat().st_mode) == 0o700
        assert (work / "state").stat().st_uid == NOBODY


def test_a_disk_that_roots_file_names_later_is_opened_and_let_go(work: Path) -> None:
    """What nobody but root may read, the file too."""
    write(work, "disk")
    with running(work) as target:
        write(work, "disk", "more")
        assert ask(work / "control", "apply")["exit"] == 0
        (export, other) = ask(work / "control", "status")["exports"]
        assert (export["state"], other["state"]) == ("serving", "serving")
        write(work, "disk")
        assert ask(work / "control", "apply")["said"] == [f"e0.1: remove {work}/more"]
        assert target.stop()[0] == 0


def test_what_is_kept_is_kept_by_the_user_it_became(work: Path) -> None:
    write(work, "disk")
    with running(work) as target, target.client() as client:
        client.config(ConfigCommand.FORCE_SET, b"kept")
        assert target.stop()[0] == 0
    with running(work) as target, target.client() as client:
        assert client.config().text == b"kept"
        os.truncate(work / "disk", 2 * SECTORS * 512)
        target.tell(signal.SIGHUP)
        wait_for(lambda: size(work) == 2 * SECTORS * 512, 30, "its size is not looked at")


def size(work: Path) -> int:
    """Of its disk, in bytes."""
    (export,) = ask(work / "control", "status")["exports"]
    return int(export["bytes"])


def test_a_link_of_another_kind_is_opened_later(work: Path) -> None:
    """Its host is looked up by the opener."""
    write(work, "disk")
    with running(work) as target:
        file = work / "file.toml"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            more = f'"udp:127.0.0.1:0,peer=localhost:{peer.getsockname()[1]}"'
            file.write_text(file.read_text().replace("links = [", f"links = [{more}, "))
            assert ask(work / "control", "apply")["exit"] == 0
            assert len(ask(work / "control", "status")["interfaces"]) == 2
        assert target.stop()[0] == 0


def test_an_opener_that_is_killed_is_said_once_and_serving_goes_on(work: Path) -> None:
    write(work, "disk")
    with running(work) as target, target.client() as client:
        os.kill(opener_of(target), signal.SIGKILL)
        write(work, "disk", "more")
        for _ in range(2):
            said = refusal(work / "control", "apply")["message"]
            assert said.startswith("the opener has ended: what is open is served on, and nothing more")
        client.write(0, b"z" * 512)
        assert client.read(0)[:512] == b"z" * 512
        found = ask(work / "control", "status")
        assert [it["state"] for it in found["exports"]] == ["serving"]
        assert found["notes"][-1].startswith("the opener has ended")
        status, _, errors = target.stop()
        assert status == 0
        assert len([line for line in errors.splitlines() if "the opener has ended" in line]) == 1


def refusal(path: Path, verb: str) -> dict[str, str]:
    """What a daemon says why not."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        control.connect(str(path))
        control.sendall(json.dumps({"version": 1, "id": 1, "verb": verb, "arguments": {}}).encode() + b"\n")
        with control.makefile() as lines:
            answer = json.loads(lines.readline())
    error: dict[str, str] = answer["error"]
    return error


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_its_opener_ends_with_it_and_the_next_one_serves(how: int, work: Path) -> None:
    write(work, "disk")
    with running(work) as target:
        its = [opener_of(target), *children(target.process.pid)]
        target.tell(how)
        target.process.wait(PATIENCE_S)
        wait_for(lambda: not any(Path(f"/proc/{it}").exists() for it in its), what="one stays")
    with running(work) as target:
        assert target.facts["address"] == "e0.0"


@pytest.mark.parametrize("program", [SERVICE, (*SERVICE, "unknown")], ids=["user", "root"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_socket_goes_with_it(number: int, program: Sequence[str], work: Path) -> None:
    """Which it has no right to remove."""
    write(work, "disk")
    with running(work, program) as target:
        assert left_in(work) == ["control", "control.lock"]
        target.tell(number)
        assert target.process.wait(30) == 0
        assert left_in(work) == []


@contextmanager
def starting(work: Path, *more: str | Path) -> Iterator[subprocess.Popen[str]]:
    words = (*SERVICE, "run", "--config", work / "file.toml", "--socket", work / "control", *more)
    with subprocess.Popen([sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_is_ended_while_it_starts_leaves_nothing(number: int, work: Path) -> None:
    """It waits for a disk that another program has."""
    write(work, "disk")
    with (work / "disk").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with starting(work) as process:
            wait_for((work / "control").is_socket, what="it does not start")
            openers = children(process.pid)
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-signal.SIGTERM if number == signal.SIGTERM else 128 + signal.SIGINT)
    how = "ended by SIGTERM" if number == signal.SIGTERM else "interrupted"
    assert said == f"aoe-target: {how} before it served anything\n"
    assert left_in(work) == []
    wait_for(lambda: not any(Path(f"/proc/{it}").exists() for it in openers), what="its opener stays")


def left_in(work: Path) -> list[str]:
    """Of its control socket."""
    return sorted(it.name for it in work.iterdir() if it.name.startswith("control"))


def test_it_is_said_where_there_is_no_user_to_become(work: Path) -> None:
    write(work, "disk")
    with running(work, (*SERVICE, "unknown")) as target:
        found = status_of(target.process.pid)
        assert (found["Uid"].split()[0], found["CapEff"], found["Seccomp"]) == ("0", "0" * 16, "2")
        assert "there is no user aoe-target: the process stays user 0" in target.stop()[2]


# An opener that is a service of its own


_GIVEN = 'eval "exec 3<&$0-"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


class OpenerUnit:
    """A socket, and for it `aoe-target opener`, as systemd starts it."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.path = work / "opener"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen(8)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        fd = self._listener.fileno()
        words = ("opener", "--config", self._work / "file.toml", "--socket", self._work / "control")
        command = ["bash", "-c", _GIVEN, fd, sys.executable, *SERVICE, *words]
        self.process = subprocess.Popen([*map(str, command)], pass_fds=[fd])

    def is_asked(self) -> bool:
        """Whether somebody waits to be served."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        self.kill()
        self._listener.close()


@pytest.fixture
def unit(work: Path) -> Iterator[OpenerUnit]:
    made = OpenerUnit(work)
    yield made
    made.close()


def test_the_next_opener_is_asked_where_one_was_killed(unit: OpenerUnit, work: Path) -> None:
    """What is served is served all the time."""
    write(work, "disk")
    unit.start()
    with running(work, more=("--opener", unit.path)) as target, target.client() as client:
        for names in (("disk", "more"), ("disk",)):
            unit.kill()
            client.write(0, b"z" * 512)
            unit.start()
            write(work, *names)
            assert ask(work / "control", "apply")["exit"] == 0
            assert len(ask(work / "control", "status")["exports"]) == len(names)
            assert client.read(0)[:512] == b"z" * 512
        status, _, errors = target.stop()
        assert status == 0
        said = "the opener has ended: what is open is served on, and the next opener is asked"
        assert errors.count(said) == 2


def test_a_start_that_waits_for_one_is_ended_at_once(unit: OpenerUnit, work: Path) -> None:
    """Its socket is there, and the manager has not started it yet."""
    write(work, "disk")
    with starting(work, "--opener", unit.path) as process:
        wait_for(unit.is_asked, what="it asks for none")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGTERM
    assert said.endswith("aoe-target: ended by SIGTERM before it served anything\n")


def test_without_one_it_is_said_how_to_start_it(work: Path) -> None:
    write(work, "disk")
    with starting(work, "--opener", work / "none") as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, "systemd tries it again"
    (line,) = said.splitlines()
    why = f"aoe-target: no opener at {work}/none: No such file or directory"
    assert line == f"{why}; systemctl restart aoe-target-opener.socket"


def test_an_opener_is_started_by_its_socket_alone(work: Path) -> None:
    write(work, "disk")
    command = [sys.executable, *SERVICE, "opener", "--config", str(work / "file.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("its socket starts it: systemctl start aoe-target-opener.socket")
