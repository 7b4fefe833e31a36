"""A daemon is asked and changed over ssh, with a real sshd: every verb, and what clients see of it."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe.control.place import changes_of
from aoe.control.verbs import STEPS
from aoe.control.written import Written
from aoe.pool import init
from tests.net.sshd import need_sshd, sshd
from tests.support.labs.network import Lab
from tests.support.labs.peers import ENGINE
from tests.support.labs.raw_client import Client
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for

FILE = """# two disks
[target]
interfaces = ["v0"]
engine = "{engine}"
state-dir = "{work}/state"

[[export]]
path = "{work}/one"
shelf = 1
slot = 0
serial = "ONE"

[[export]]
path = "{work}/two"
shelf = 1
slot = 1
serial = "TWO"
mask = ["02:00:00:00:00:99"]
"""


class Remote:
    """A daemon in the target's namespace, and how a program on another machine asks it."""

    def __init__(self, lab: Lab, work: Path, ssh: list[str | Path]) -> None:
        self.lab = lab
        self.work = work
        self.file = work / "target.toml"
        self.text = FILE.format(work=work, engine=os.environ.get(ENGINE, "auto"))
        self.socket = work / "control"
        self.written = Written(changes_of(os.geteuid(), self.socket))
        self._ssh = ssh
        self._words = [sys.executable, "-m", "aoe.cli.target"]
        self._daemon: subprocess.Popen[bytes] | None = None
        self._bridge: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to serve."""
        words = [*self._words, "run", "--config", self.file, "--socket", self.socket]
        with (self.work / "output").open("ab") as output:
            self._daemon = self.lab.popen("target", *words, stdout=output, stderr=output, cwd=Path.cwd())
        wait_for(lambda: b"ready" in (self.work / "output").read_bytes(), what="it does not serve")

    def kill(self) -> None:
        """As a crash does; then begin again."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        (self.work / "output").write_bytes(b"")
        self.start()

    def connect(self) -> None:
        """Log in."""
        command = f"cd {Path.cwd()} && {sys.executable} -m aoe.cli.target control --socket {self.socket}"
        words = self.lab.command("client", *self._ssh, command)
        self._bridge = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The answer."""
        bridge = self._bridge
        assert bridge is not None
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        request = {"version": 1, "id": 5, "verb": verb, "arguments": arguments}
        bridge.stdin.write(json.dumps(request).encode() + b"\n")
        bridge.stdin.flush()
        answer: dict[str, Any] = json.loads(bridge.stdout.readline())
        assert answer["id"] == 5
        return answer

    def done(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """What it did, wholly."""
        answer = self.ask(verb, **arguments)
        assert "ok" in answer, answer
        done: dict[str, Any] = answer["ok"]
        assert done.get("exit", 0) == 0, done
        return done

    def command(self, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """A command on the daemon's machine."""
        command, *others = words
        whole = [*self._words, command, "--socket", self.socket, *others]
        return subprocess.run(list(map(str, whole)), capture_output=True, text=True, timeout=60, check=False)

    def exports(self) -> dict[str, dict[str, Any]]:
        """How they are, by address."""
        return {it["address"]: it for it in self.done("status")["exports"]}

    def close(self) -> None:
        """End both."""
        if self._bridge is not None and self._bridge.stdin is not None:
            self._bridge.communicate(timeout=30)
            assert self._bridge.returncode == 0
        if self._daemon is not None:
            self._daemon.terminate()
            assert self._daemon.wait(30) == 0, (self.work / "output").read_text()
        for left in self.written.path.parent.glob(f"{self.written.path.name}*"):
            left.unlink()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    need_namespaces()
    need_sshd()
    for name in ("one", "two", "three"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    with Lab() as lab, sshd(lab, tmp_path) as ssh:
        made = Remote(lab, tmp_path, ssh)
        made.file.write_text(made.text)
        made.start()
        made.connect()
        yield made
        made.close()


@pytest.fixture
def host(remote: Remote) -> Iterator[Client]:
    with remote.lab.client(shelf=1, slot=0) as client:
        yield client


def answers(host: Client, slot: int) -> bool:
    """Whether a disk is served to this host, which may take a while to say so."""
    return host.ask(1, shelf=1, slot=slot) is not None


def silent(host: Client, slot: int) -> bool:
    """Whether it is not."""
    return not host.ask_all(1, seconds=0.3, shelf=1, slot=slot)


def test_every_verb_over_ssh(remote: Remote, host: Client) -> None:
    asked = {
        "status",
        "apply",
        "add",
        "remove",
        "set",
        "mask",
        "release",
        "reopen",
        "drain",
        "resume",
        "volume",
        "volumes",
        "log-level",
    }
    assert asked == set(STEPS), "each verb is asked for here"
    assert (answers(host, 0), silent(host, 1), silent(host, 2)) == (True, True, True)
    # Beside the file
    remote.done("add", address="e1.2", keys={"path": str(remote.work / "three"), "serial": "THREE"})
    assert answers(host, 2)
    remote.done("mask", address="e1.1", mask=[host.mac.hex(":")])
    assert answers(host, 1)
    remote.done("set", address="e1.2", keys={"read-only": True})
    assert remote.exports()["e1.2"]["read_only"]
    patches = [it["sentence"] for it in remote.done("status")["patches"]]
    assert [it.split(" (by")[0] for it in patches] == [
        f'set e1.1 mask = ["{host.mac.hex(":")}"]',
        f'add e1.2 path = "{remote.work}/three", serial = "THREE"',
        "set e1.2 read-only = true",
    ]
    # A crash ends none of it
    remote.kill()
    assert (answers(host, 1), answers(host, 2)) == (True, True)
    assert remote.exports()["e1.2"]["read_only"]
    # What the network took is given back
    host.reserve(1, host.mac)
    assert remote.exports()["e1.0"]["reserve"] == [host.mac.hex(":")]
    remote.done("release", address="e1.0")
    assert remote.exports()["e1.0"]["reserve"] == []
    assert remote.ask("reopen", address="e1.0")["error"]["message"] == (
        "e1.0 has not failed; look at aoe-target status"
    )
    remote.done("drain", addresses=["e1.1"])
    assert remote.exports()["e1.1"]["state"] == "draining"
    remote.kill()
    assert remote.exports()["e1.1"]["state"] == "serving", (
        "without a service manager it ends with the process"
    )
    remote.done("drain", all=True)
    assert remote.done("resume", addresses=["e1.0"])["said"] == ["e1.0: clients may use it again"]
    remote.done("resume", all=True)
    assert {it["state"] for it in remote.exports().values()} == {"serving"}
    remote.done("log-level", level="debug")
    assert remote.done("status")["log_level"] == "debug"
    # Back to the file
    number = remote.done("status")["number"]
    planned = remote.done("apply", plan=True)
    assert len([it for it in planned["said"] if it.startswith("ends: ")]) == 3
    assert remote.ask("apply", expect=number - 1)["error"]["exit"] == 2
    assert len(remote.written.read()) == 3, "a refusal takes nothing away"
    remote.done("apply", expect=number)
    assert (answers(host, 0), silent(host, 1), silent(host, 2)) == (True, True, True)
    assert remote.done("status")["patches"] == []
    remote.done("remove", address="e1.0")
    assert silent(host, 0)
    # A pool
    pool = remote.work / "pool"
    pool.mkdir()
    init(str(pool), plain_directory=True)
    remote.file.write_text(f'{remote.text}\n[[pool]]\nname = "fast"\npath = "{pool}"\n')
    remote.done("apply")
    create = {"verb": "create", "volume": "web1", "size": 4096, "format": "raw"}
    remote.done("volume", pool="fast", request=create)
    assert "web1" in json.dumps(remote.done("volumes", pool="fast"))


def test_what_is_refused_leaves_nothing_behind(remote: Remote, host: Client) -> None:
    before, taken = remote.done("status"), remote.work / "three"
    lock = os.open(taken, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for verb, arguments, told in (
        (
            "add",
            {"address": "e1.0", "keys": {"path": "/dev/null"}},
            "e1.0 is there already; set or remove it",
        ),
        ("set", {"address": "e7.7", "keys": {"mask": "any"}}, "e7.7 is not there; add it"),
        ("remove", {"address": "e7.7"}, "e7.7 is not there; add it"),
        ("set", {"address": "e1.0", "keys": {"durability": "perhaps"}}, "durability"),
        ("set", {"address": "e1.0", "keys": {"no-such": 1}}, "no-such"),
        ("set", {"address": "e1.0", "keys": {"slot": 3}}, "its address stays"),
        ("set", {"address": "e1.0", "gone": ["path"]}, "path is missing"),
        (
            "add",
            {"address": "e1.3", "keys": {"path": str(remote.work / "one")}},
            "has sectors that e1.0 serves, too; serve",
        ),
        ("add", {"address": "e1.3", "keys": {"path": str(taken)}}, str(taken)),
    ):
        answer = remote.ask(verb, **arguments)
        assert answer.get("error", {}).get("exit") == 2, answer
        assert told in answer["error"]["message"], answer
        assert answer["error"]["message"].isprintable()
    os.close(lock)
    assert remote.written.read() == ()
    after = remote.done("status")
    assert (after["number"], after["patches"]) == (before["number"], [])
    assert answers(host, 0)


def test_a_daemon_that_comes_back_is_asked_again(remote: Remote) -> None:
    assert remote.exports()
    remote.kill()
    assert remote.exports()


def test_the_commands_on_its_own_machine(remote: Remote, host: Client) -> None:
    made = remote.command("add", "1.2", remote.work / "three", "serial=THREE")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("e1.2: serve ")
    assert answers(host, 2)
    shown = remote.command("status")
    assert shown.returncode == 0
    assert f"e1.2: {remote.work}/three, serving" in shown.stdout
    assert "beside the file: add e1.2" in shown.stdout
    saved = remote.command("set", "e1.2", "mask=any", "--save", "--config", remote.file)
    assert saved.returncode == 0, saved.stderr
    assert remote.file.read_text().startswith("# two disks\n")
    assert 'serial = "THREE"\nmask = "any"\n' in remote.file.read_text()
    assert "beside the file" not in remote.command("status").stdout
    assert remote.done("apply")["said"] == ["nothing to do"]
    assert answers(host, 2)
    gone = remote.command("remove", "e1.2", "--save", "--config", remote.file)
    assert gone.returncode == 0, gone.stderr
    assert remote.file.read_text() == remote.text
    assert remote.command("release", "e9.9").returncode == 2
    assert remote.command("mask", "e1.1", "any").returncode == 0
    assert answers(host, 1)
    planned = remote.command("apply", "--plan").stdout
    assert 'ends: set e1.1 mask = "any" (by ' in planned
    assert remote.command("apply").returncode == 0
    assert silent(host, 1)


def test_what_clients_do_is_counted(remote: Remote, host: Client) -> None:
    """By export and by host, whichever code serves them."""
    for lba in (0, 8, 16):
        assert host.read(lba, 2) == bytes(1024)
    host.write(4, bytes(512))
    host.flush()
    with remote.lab.client(shelf=1, slot=0) as again:
        again.read(0)
    found = remote.exports()
    one, two = found["e1.0"], found["e1.1"]
    assert (one["reads"], one["writes"], one["flushes"]) == (4, 1, 1)
    assert (one["read_bytes"], one["written_bytes"], one["queue"]) == (3 * 1024 + 512, 512, 0)
    ((client, heard_us),) = [((it["mac"], it["requests"]), it["heard_us"]) for it in one["clients"]]
    assert client == (host.mac.hex(":"), 6)
    assert 0 <= heard_us < 20_000_000
    assert (two["reads"], two["clients"]) == (0, [])
    shown = remote.command("status")
    assert f"  {host.mac.hex(':')}: 6 requests, 0.0 MB read, 0.0 MB written" in shown.stdout
    assert "0 IOPS, 0.0 MB/s, queue 0" in shown.stdout
    remote.done("remove", address="e1.0")
    remote.done("add", address="e1.0", keys={"path": str(remote.work / "one"), "serial": "ONE"})
    assert (remote.exports()["e1.0"]["reads"], remote.exports()["e1.0"]["clients"]) == (0, [])
