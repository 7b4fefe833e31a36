"""`aoe-target check`: what is wrong with a file, and what of it cannot be used on this host."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe import limits
from aoe.cli import on_host
from aoe.config.read import read
from aoe.disk.open import open_disk
from aoe.link.naming import Known
from aoe.pool.requests import Create
from tests.pool.pools import fresh, working
from tests.support.tools import need_images

LO = '[target]\ninterfaces = ["lo"]\n'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 16))
    os.utime(path, (0, 0))
    yield path
    assert path.read_bytes() == bytes(1 << 16)
    assert path.stat().st_mtime == 0, "a look changes nothing"


def export(path: Path | str, slot: int = 0, more: str = "") -> str:
    return f"[[export]]\npath = {json.dumps(str(path))}\nshelf = 1\nslot = {slot}\n{more}"


def check(directory: Path, text: str | bytes, *words: str) -> "subprocess.CompletedProcess[str]":
    file = directory / "f.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    command = [sys.executable, "-m", "aoe.cli.target", "check", str(file), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def found(text: str) -> list[tuple[bool, str]]:
    return [(it.usable, it.text) for it in on_host.findings(read(text, "f.toml"))]


def test_what_can_be_served_is_said(disk: Path, tmp_path: Path) -> None:
    done = check(tmp_path, LO + export(disk))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "interface lo: up, MTU 65536",
        f"e1.0: {disk}: 65536 bytes, buffered",
        f"{tmp_path}/f.toml: 1 export",
    ]


def test_volumes_are_looked_at_in_their_pools_also_while_a_daemon_has_these(tmp_path: Path) -> None:
    pool = fresh(tmp_path)
    text = f'[[pool]]\nname = "fast"\npath = "{pool}"\n[[pool]]\nname = "gone"\npath = "/nowhere"\n'
    text += export("fast/web1") + export("fast/web2", 1) + export("gone/a", 2)
    with working(pool, reserve=0) as work:
        work.do(Create("web1", 1 << 20, "raw"))
        said = found(LO + text)
        assert said[1] == (True, "e1.0: fast/web1: 1048576 bytes, buffered")
        assert said[2] == (False, "e1.1: there is no volume fast/web2")
        assert said[3] == (
            False,
            "e1.2: pool gone (/nowhere): No such file or directory; name a directory that this user may use",
        )
        held = open_disk(Path(work.path_of("web1")))
        assert found(LO + text)[1][0] is False
        held.close()


def test_an_image_and_its_key_are_looked_for_and_not_opened(tmp_path: Path) -> None:
    need_images()
    image, key = tmp_path / "a.luks", tmp_path / "key"
    text = LO + export(image, more=f'key-file = "{key}"\n')
    assert found(text)[1] == (False, f"e1.0: {image} is no file; name an image")
    image.touch()
    assert found(text)[1] == (False, f"e1.0: {image}: {key} is no file; name the file with the key")
    key.touch()
    assert found(text)[1] == (True, f"e1.0: {image}: an image in luks")


def test_json_has_the_same_as_objects(disk: Path, tmp_path: Path) -> None:
    done = check(tmp_path, LO + export(disk, more="read-only = true\n") + export("/nowhere", 1), "--json")
    assert (done.returncode, done.stderr) == (1, "")
    first, second, third, last = map(json.loads, done.stdout.splitlines())
    assert first == {"interface": "lo", "mtu": 65536, "usable": True}
    assert second == {
        **{"address": "e1.0", "path": str(disk), "bytes": 65536, "direct": False, "read_only": True},
        "usable": True,
    }
    message = "e1.1: /nowhere: No such file or directory; name an existing file or block device"
    assert third == {
        **{"address": "e1.1", "path": "/nowhere", "usable": False},
        "error": {"kind": "usage", "message": message},
    }
    assert last == {"exports": 2}


def test_every_fault_of_a_file_is_a_line(tmp_path: Path) -> None:
    text = "[target]\nengin = 'c'\n" + export("disk.img", 300)
    done = check(tmp_path, text)
    assert (done.returncode, done.stdout) == (2, "")
    file = f"aoe-target: {tmp_path}/f.toml"
    assert done.stderr.splitlines() == [
        f"{file}:2: [target]: engin is no key of [target]; is engine meant?",
        f'{file}:4: e1.300: path = "disk.img": write an absolute path, or LABEL=, UUID=, PARTLABEL= or '
        "PARTUUID= with a value, or POOL/VOLUME",
        f"{file}:6: e1.300: slot = 300: write a whole number from 0 to 254",
    ]
    done = check(tmp_path, text, "--json")
    assert (done.returncode, done.stderr) == (2, "")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(it["line"], it["where"]) for it in said] == [(2, "[target]"), (4, "e1.300"), (6, "e1.300")]
    assert all(it["file"] == f"{tmp_path}/f.toml" for it in said)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nope", "No such file or directory; name a configuration file that this user may read"),
        (".", "is not a file; name a configuration file"),
        ("pipe", "is not a file; name a configuration file"),
        ("loop", "Too many levels of symbolic links; name a configuration file that this user may read"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, problem: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    command = [sys.executable, "-m", "aoe.cli.target", "check", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert problem in line


def test_a_file_of_ten_mebibytes_is_not_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    with file.open("wb") as opened:
        opened.truncate(10 << 20)
    command = [sys.executable, "-m", "aoe.cli.target", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert f"larger than {limits.CONFIG_BYTES_MAX} bytes" in done.stderr


def test_no_export_at_all(tmp_path: Path) -> None:
    done = check(tmp_path, "")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/f.toml: no exports\n")


# Stores


@pytest.mark.parametrize(
    ("path", "more", "problem"),
    [
        ("/etc", "", "e1.0: /etc is not a disk; name a regular file or a block device"),
        (
            "LABEL=no such",
            "",
            r"e1.0: /dev/disk/by-label/no\x20such: No such file or directory; name an existing file or block "
            "device",
        ),
        (
            "/a\nb\x1b",
            "",
            "e1.0: /a\\u000ab\\u001b: No such file or directory; name an existing file or block device",
        ),
        ("{disk}", "offset = 128\n", "e1.0: {disk} holds no whole sector from offset 128 on; make it larger"),
        ("{disk}", "offset = 8\nlength = 121\n", "e1.0: {disk} has 120 sectors there, not length 121"),
    ],
)
def test_a_store_that_cannot_be_served(path: str, more: str, problem: str, disk: Path) -> None:
    said = found(LO + export(path.format(disk=disk), more=more))
    assert said[1:] == [(False, problem.format(disk=disk))]


def test_a_store_that_another_program_has(disk: Path) -> None:
    with disk.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        ((_, _), (usable, text)) = found(LO + export(disk))
        assert not usable
        assert text.startswith(f"e1.0: {disk} is in use by ")
        assert text.endswith("; stop it, or say shared = true")
        assert found(LO + export(disk, more="shared = true\n"))[1][0]
    assert found(LO + export(disk))[1][0], "a look keeps no lock"


def test_a_store_that_is_served_already(disk: Path, tmp_path: Path) -> None:
    """By a process that the kernel calls aoe-target."""
    name = "import fcntl, sys; open('/proc/self/comm', 'w').write('aoe-target'); f = open(sys.argv[1]); "
    code = name + "fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        said = found(LO + export(disk))
        done = check(tmp_path, LO + export(disk), "--json")
    holder = f"aoe-target (process {process.pid})"
    assert said[1:] == [(True, f"e1.0: {disk}: is served now, by {holder}")]
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[1])["served_by"] == holder


def test_one_store_by_two_names(disk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.symlink_to(disk)
    problem = (
        f"e1.1: {other} is {disk} of e1.0 by another name; serve each sector once, or say read-only = true "
    )
    problem += "in both"
    first, second = export(disk), export(other, 1)
    assert found(LO + first + second)[3:] == [(False, problem)]
    assert len(found(LO + first + "length = 8\n" + second + "offset = 8\n")) == 3
    assert len(found(LO + "[defaults]\nread-only = true\n" + first + second)) == 3


# Interfaces, and what [target] says


def known() -> list[Known]:
    return [Known("lo", ("loopback-0",), b"", b"", is_ethernet=False), Known("gone0", ("enp9s9",))]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lo", (True, "interface lo: up, MTU 65536")),
        ("loopback-0", (True, "interface lo (loopback-0): up, MTU 65536")),
        ("eth9", (False, "there is no network interface eth9; Ethernet ones are: gone0")),
        (
            "02:00:00:00:00:09",
            (False, "there is no network interface 02:00:00:00:00:09; Ethernet ones are: gone0"),
        ),
    ],
)
def test_interfaces(name: str, said: tuple[bool, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "all_known", known)
    assert found(f'[target]\ninterfaces = ["{name}"]\n') == [said]


def test_an_interface_that_left_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "all_known", known)
    ((usable, text),) = found('[target]\ninterfaces = ["enp*"]\n')
    assert not usable
    assert text.startswith("there is no network interface gone0")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ('links = ["udp:127.0.0.1:7000"]', (True, "link udp:127.0.0.1:7000: can be bound")),
        (
            'links = ["udp:0.0.0.0:7000"]',
            (False, "link udp:0.0.0.0:7000 is open to everyone; bind 127.0.0.1 or name peer=HOST:PORT"),
        ),
        (
            'links = ["udp:192.0.2.1:7000,peer=127.0.0.1:1"]',
            (
                False,
                "link udp:192.0.2.1:7000,peer=127.0.0.1:1: Cannot assign requested address; bind an address "
                "of this host",
            ),
        ),
        ('state-dir = "/etc/passwd"', (False, "state-dir /etc/passwd is not a directory; name another one")),
        ('state-dir = "/nowhere/a"', (True, "state-dir /nowhere/a: will be made")),
        ('control-group = "no-group"', (False, "control-group no-group: no such group; groupadd no-group")),
        ("engine = 'python'", None),
    ],
)
def test_what_target_says(target: str, said: tuple[bool, str] | None) -> None:
    assert found(f"[target]\n{target}\n") == ([said] if said else [])


def test_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    assert found("[target]\ncpus = [0, 2]\n") == [(True, "cpus 0, 2: can be used")]
    assert found("[target]\ncpus = [1, 2]\n") == [(False, "cpus 1 cannot be used here; these can: 0, 2")]


def test_an_engine_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "why_unavailable", lambda: "it was not built")
    assert found("[target]\nengine = 'c'\n") == [
        (False, 'engine = "c": it was not built; or write engine = "python"')
    ]
    monkeypatch.setattr(on_host, "why_unavailable", lambda: None)
    assert found("[target]\nengine = 'c'\n") == [(True, 'engine = "c": can be loaded')]


def test_where_no_interface_is_named(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    monkeypatch.setattr("aoe.link.packet.ethernet_interfaces_up", lambda *_: ["eth0", "eth1"])
    (usable, text), _ = found(export(disk))
    assert not usable
    assert len(found(export(disk, more='interfaces = ["lo"]\n'))) == 2, "it is not asked for"
    assert text == 'several Ethernet interfaces are up (eth0, eth1); say interfaces = ["NAME"]'
