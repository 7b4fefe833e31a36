"""`aoe-target pool` and `aoe-target volume`."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aoe.cli import target
from aoe.cli.pools import in_words
from aoe.errors import PoolError
from aoe.pool.work import Work
from tests.pool.pools import MIB, files, fresh, is_whole, working

GIB = 1 << 30


@pytest.fixture
def config(pool: Path, tmp_path: Path) -> Path:
    """A file that names the pool `fast`, and one that is none."""
    file = tmp_path / "aoe-target.toml"
    file.write_text(
        f'[[pool]]\nname = "fast"\npath = "{pool}"\n\n[[pool]]\nname = "none"\npath = "{tmp_path}"\n'
    )
    return file


class Typed:
    """Commands with that file, in this process."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys

    def __call__(self, words: str, status: int = 0) -> tuple[list[str], list[str]]:
        """What it prints and complains of."""
        assert target.main([*words.split(), "--config", str(self._config)]) == status, words
        said = self._capsys.readouterr()
        return said.out.splitlines(), said.err.splitlines()

    def line(self, words: str) -> str:
        """The only line."""
        (line,), errors = self(words)
        assert not errors
        return line

    def refused(self, words: str, status: int = 2) -> str:
        """The only line of complaint."""
        out, (line,) = self(words, status)
        assert not out
        return line

    def json(self, words: str, status: int = 0) -> list[dict[str, Any]]:
        out, errors = self(f"{words} --json", status)
        assert not errors
        return [json.loads(line) for line in out]


@pytest.fixture
def typed(config: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(config, capsys)


def test_from_a_volume_to_its_clones(typed: Typed, pool: Path) -> None:
    assert typed.line("volume create fast/base 10G") == "fast/base: 10737418240 bytes, raw"
    assert typed.line("volume snapshot fast/base@golden") == "fast/base@golden: cut"
    assert typed.line("volume clone fast/base@golden fast/web1") == "fast/web1: a clone of fast/base@golden"
    assert typed.line("volume clone fast/web1 fast/web2") == "fast/web2: a clone of fast/web1@clone-web2"
    said = typed.line("volume rollback fast/base@golden")
    assert said.startswith("fast/base: as in golden; what it was is kept as fast/base@before-rollback-2")
    assert typed.line("volume resize fast/base 20G") == "fast/base: 21474836480 bytes"
    assert typed.line("volume rename fast/base fast/template") == "fast/base: is fast/template now"
    first, *volumes = typed("volume list fast")[0]
    assert first.startswith(f"fast: {pool}, ")
    assert "(reserve 10 %), 3 volumes of 40 GiB in all (" in first
    assert [line.split(":")[0] for line in volumes] == ["fast/template", "fast/web1", "fast/web2"]
    assert volumes[1].endswith("1 snapshot holding 0 bytes or more, a clone of fast/template@golden")
    assert typed.line("volume delete fast/web2") == "fast/web2: deleted"
    assert "fast/template has clones (fast/web1); delete them first" in typed.refused(
        "volume delete fast/template"
    )
    typed("volume delete fast/web1")
    assert "say --recursive" in typed.refused("volume delete fast/template")
    typed("volume delete fast/template@golden")
    typed("volume delete fast/template --recursive")
    assert files(pool) == {"volumes": set(), "images": set()}


def test_objects(typed: Typed, pool: Path) -> None:
    (made,) = typed.json("volume create fast/base 4M")
    assert {"volume": "fast/base", "bytes": 4 * MIB, "format": "raw", "parent": None}.items() <= made.items()
    typed("volume snapshot fast/base@a")
    typed("volume clone fast/base@a fast/web")
    (shown,) = typed.json("volume show fast/base")
    assert shown["clones"] == ["fast/web"]
    assert [it["name"] for it in shown["snapshots"]] == ["a"]
    assert Path(shown["path"]).parent == pool / "images"
    base, web = typed.json("volume list fast")
    assert (base, web["parent"]) == (shown, "fast/base@a")
    assert set(base) == set(web) == set(made) - {"done"}
    there, not_there = typed.json("pool list", status=1)
    assert {
        "pool": "fast",
        "volumes": 2,
        "promised_bytes": 8 * MIB,
        "reserve_percent": 10,
    }.items() <= there.items()
    assert not_there["pool"] == "none"
    assert "is not marked as a pool" in not_there["error"]["message"]
    for words, left, size in (
        ("snapshot fast/base@b", "base", 4),
        ("rollback fast/base@b", "base", 4),
        ("resize fast/base 8M", "base", 8),
        ("clone fast/base@b fast/more", "more", 4),
        ("rename fast/more fast/last", "last", 4),
    ):
        (done,) = typed.json(f"volume {words}")
        assert (done["volume"], done["bytes"]) == (f"fast/{left}", size * MIB), words
        assert set(done) == set(made), words
    (gone,) = typed.json("volume delete fast/web")
    assert gone == {"done": "fast/web: deleted", "volume": "fast/web"}


def test_a_plan_changes_nothing(typed: Typed, pool: Path) -> None:
    typed("volume create fast/base 4M")
    before = files(pool)
    for words in (
        "create fast/a 1G",
        "snapshot fast/base@a",
        "clone fast/base fast/web",
        "resize fast/base 8M",
        "rename fast/base fast/b",
        "delete fast/base",
    ):
        steps, errors = typed(f"volume {words} --plan")
        assert steps
        assert not errors
    assert steps[0] == "put the record of base aside"
    assert typed.json("volume delete fast/base --plan")[0] == {"steps": steps}
    assert files(pool) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("volume create fast/base 1000", "a disk cannot have 1000 bytes"),
        ("volume create fast/base x", "'x' is not a size; write it as 10G"),
        ("volume create fast/../x 1G", '"../x" cannot name a volume'),
        ("volume create fast/a@b 1G", "fast/a@b names a snapshot"),
        ("volume create a 1G", '"a" names no volume; write it as POOL/VOLUME'),
        ("volume create fsat/a 1G", "names no pool fsat; it has fast, none"),
        ("volume create none/a 1G", "is not marked as a pool; is its file system mounted?"),
        ("volume snapshot fast/a", "fast/a names no snapshot; write it as POOL/VOLUME@SNAPSHOT"),
        ("volume rollback fast/a@b", "there is no volume fast/a"),
        ("volume clone fast/a none/b", "fast/a and none/b are in two pools"),
        ("volume rename fast/a none/b", "fast/a and none/b are in two pools"),
        ("volume show fast/nothing", "there is no volume fast/nothing"),
        ("pool init fast", "is a pool already"),
        ("pool init nothing", "names no pool nothing"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: str, message: str, typed: Typed, pool: Path) -> None:
    assert message in typed.refused(words)
    assert files(pool) == {"volumes": set(), "images": set()}


def test_a_file_without_pools_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = Typed(tmp_path / "f.toml", capsys)
    (tmp_path / "f.toml").write_text("[target]\n")
    assert "names no pool; add [[pool]] with name and path" in typed.refused("volume list")
    (tmp_path / "f.toml").unlink()
    assert "No such file or directory" in typed.refused("pool list")


def test_init_marks_a_directory(xfs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = xfs / f"new-{tmp_path.name}"
    directory.mkdir()
    (tmp_path / "f.toml").write_text(f'[[pool]]\nname = "fast"\npath = "{directory}"\n')
    typed = Typed(tmp_path / "f.toml", capsys)
    assert (
        typed.line("pool init fast") == f"fast: {directory} is a pool now; volumes are raw and share blocks"
    )
    assert "no volumes of 0 bytes in all" in typed.line("pool list")


def test_on_ext4_it_says_what_that_means(
    ext4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = fresh(ext4)
    (tmp_path / "f.toml").write_text(f'[[pool]]\nname = "slow"\npath = "{directory}"\n')
    typed = Typed(tmp_path / "f.toml", capsys)
    out, (note,) = typed("volume create slow/a 1M")
    assert out == ["slow/a: 1048576 bytes, qcow2"]
    assert note.startswith("aoe-target: slow/a is qcow2: this file system cannot share blocks")


def test_what_does_not_fit_is_listed(typed: Typed, pool: Path) -> None:
    typed("volume create fast/base 4M")
    (pool / "volumes" / "base.json").unlink()
    for words in ("volume list fast", "pool list"):
        _, errors = typed(words, 1)
        assert "no volume has this image; put back the record" in errors[0]


def test_another_command_is_waited_for_and_named(
    typed: Typed, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aoe.cli.pools.Work", lambda *words, **how: Work(*words, **how, patience_s=0))
    with working(pool):
        assert "is in use by" in typed.refused("volume create fast/a 1G", 1)
        assert "no volumes" in typed.line("volume list fast")


_SLOW = """
import sys, time
from aoe.pool.directory import Directory
from aoe.pool.steps import Save
from aoe.cli.target import main

doing = Directory.do

def do(self, step):
    if isinstance(step, Save):
        print(flush=True)
        time.sleep(60)
    doing(self, step)

Directory.do = do
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_made(config: Path, pool: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _SLOW, "volume", "create", "fast/a", "1G", "--config", str(config)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        assert child.stdout
        assert child.stderr
        child.stdout.readline()
        child.send_signal(number)
        (line,) = child.stderr.read().splitlines()
    assert child.returncode == 128 + number
    assert line in ("aoe-target: interrupted", "aoe-target: ended by SIGTERM")
    assert files(pool) == {"volumes": set(), "images": set()}
    with working(pool) as work:
        assert is_whole(work)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 bytes"),
        (1536, "1.5 KiB"),
        (10 * GIB, "10 GiB"),
        (GIB + 1, "1.0 GiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_bytes_in_words(count: int, words: str) -> None:
    assert in_words(count) == words


def test_one_pool_that_is_not_there_keeps_nothing_from_the_rest(
    typed: Typed, config: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = config.read_text().split("\n\n")
    config.write_text("\n\n".join(reversed(parts)))
    typed("volume create fast/a 1M")
    typed("volume create fast/b 1M")
    out, (problem,) = typed("volume list", 1)
    assert [line.split(":")[0] for line in out] == ["fast", "fast/a", "fast/b"]
    assert "is not marked as a pool" in problem
    measured = Work.usage

    def usage(self: Work, volume: str) -> object:
        if volume == "a":
            raise PoolError("Input/output error")
        return measured(self, volume)

    monkeypatch.setattr(Work, "usage", usage)
    out, errors = typed("volume list", 1)
    assert [line.split(":")[0] for line in out] == ["fast", "fast/b"]
    assert len(errors) == 2


def test_check_looks_at_pools(config: Path, pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert target.main(["check", str(config)]) == 1
    said = capsys.readouterr()
    assert f"pool fast: {pool}" in said.out.splitlines()
    assert "is not marked as a pool; is its file system mounted?" in said.err
    (pool / "images" / "stranger").touch()
    assert target.main(["check", str(config), "--json"]) == 1
    first, *_ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["pool"], first["usable"]) == ("fast", False)
    assert "images/stranger: it does not belong to the pool" in first["error"]["message"]
