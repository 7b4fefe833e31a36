"""`aoe-target volume import`, `save` and `template`."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aoe.cli import pools
from aoe.disk import locks
from aoe.errors import PoolError
from aoe.pool import filling, qemu_img
from aoe.pool.requests import Create, Cut, Delete
from aoe.pool.work import Work
from tests.pool.pools import MIB, files, working
from tests.pool.test_command import Typed, config, typed
from tests.pool.web import Web, serving
from tests.support.tools import need, tool
from tests.support.waiting import wait_for

__all__ = ["config", "typed"]
COMMAND = (sys.executable, "-m", "aoe.cli.target", "volume")


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img")


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as it:
        it.data = b"x" * 4 * MIB
        yield it


def scratch(pool: Path) -> list[str]:
    within = pool / "scratch"
    return sorted(it.name for it in within.iterdir()) if within.exists() else []


def test_from_a_file_to_a_template_and_out_again(typed: Typed, tmp_path: Path, pool: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"x" * MIB)
    assert typed.line(f"volume import {image} fast/base") == f"fast/base: {MIB} bytes, raw"
    said = "fast/base: is a template, which is cloned and no more written to"
    assert typed.line("volume template fast/base") == said
    assert typed.line("volume clone fast/base fast/web") == "fast/web: a clone of fast/base@template"
    saved = tmp_path / "saved.raw"
    assert typed.line(f"volume save fast/web {saved}") == f"fast/web: saved to {saved}, {MIB} bytes"
    assert saved.read_bytes() == image.read_bytes()
    assert "is there already; choose another name" in typed.refused(f"volume save fast/web {saved}")
    *parts, done = typed.json(f"volume import {image} fast/other")
    assert [it["doing"] for it in parts] == ["copy"] * len(parts)
    assert done["volume"] == "fast/other"
    *parts, done = typed.json(f"volume save fast/other {tmp_path}/other")
    assert (parts[-1], done["bytes"]) == ({"doing": "copy", "percent": 100.0}, MIB)
    assert done["bytes"] == MIB


def test_plans_change_nothing(typed: Typed, tmp_path: Path, pool: Path, web: Web) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"x" * MIB)
    typed.line(f"volume import {image} fast/base")
    before = files(pool)
    (copied, found, *rest), _ = typed(f"volume import {image} fast/new --plan")
    assert copied.startswith(f"copy what {image} (raw) has into a new image ")
    assert copied.endswith(f".raw of {MIB} bytes")
    assert found.startswith("find the image ")
    assert "write the record of new" in rest
    assert "there is a volume base" in typed.refused(f"volume import {image} fast/base --plan")
    (fetched, *_), _ = typed(f"volume import {web.url()} fast/new --plan")
    assert fetched == f"fetch {web.url()} to {pool}/scratch, or what is missing there of it"
    assert not web.asked
    (copied, *rest), _ = typed("volume template fast/base --plan")
    assert copied.startswith("copy what fast/base has into a new image ")
    assert "write the record of base" in rest
    assert typed.json("volume template fast/base --plan")[0]["steps"][0].startswith("copy what fast/base has")
    saved = tmp_path / "saved.qcow2"
    steps, _ = typed(f"volume save fast/base {saved} --plan")
    assert steps == [f"copy what fast/base has into a new file (qcow2) of {MIB} bytes", f"name it {saved}"]
    assert "there is no snapshot fast/base@a" in typed.refused(f"volume save fast/base@a {saved} --plan")
    assert "is there already" in typed.refused(f"volume save fast/base {image} --plan")
    assert not saved.exists()
    with working(pool) as work, Path(work.path_of("base")).open("r+b") as file:
        locks.take(file.fileno(), Path(file.name), read_only=False, is_block=False)
        said = filling_refused(work)
    assert "is in use by" in said
    assert files(pool) == before


def filling_refused(work: Work) -> str:
    with pytest.raises(PoolError) as caught:
        filling.template_steps(work, "base")
    return str(caught.value)


def test_from_a_web_server(typed: Typed, web: Web, pool: Path) -> None:
    web.cut = 3 * MIB
    assert "ended after 3145728 of 4194304 bytes" in typed.refused(f"volume import {web.url()} fast/base", 1)
    assert len(scratch(pool)) == 2
    _, (waits,) = typed("volume list fast")
    assert f"3 MiB of {web.url()}, the last at 2" in waits
    assert waits.endswith("import it again to go on, or remove the file")
    web.cut = None
    assert typed.line(f"volume import {web.url()} fast/base") == f"fast/base: {4 * MIB} bytes, raw"
    assert scratch(pool) == []
    assert not typed("volume list fast")[1]


def test_an_image_that_is_damaged_is_not_fetched_for_ever(typed: Typed, web: Web, pool: Path) -> None:
    said = typed.refused(f"volume import {web.url('disk.qcow2')} fast/base", 1)
    assert f"{web.url('disk.qcow2')} is no sound qcow2 image: " in said
    assert scratch(pool) == []


def test_what_only_its_user_can_decide_is_not_fetched_twice(typed: Typed, web: Web, pool: Path) -> None:
    web.data = b"QFI\xfb" + web.data
    assert "say --format qcow2, or raw" in typed.refused(f"volume import {web.url()} fast/base")
    web.data += bytes(508)
    web.tag = '"one"'
    typed.line(f"volume import {web.url()} fast/base --format raw")
    assert web.asked[-1]["Range"] == f"bytes={4 * MIB + 4}-"


def test_words_that_cannot_be_right(typed: Typed, tmp_path: Path) -> None:
    assert "names a snapshot; name a volume" in typed.refused(f"volume import {tmp_path} fast/a@b")
    assert "is no SHA-256, which has 64" in typed.refused("volume import x fast/a --sha256 123")
    assert "there is no volume fast/a" in typed.refused("volume template fast/a")
    assert "there is no volume fast/a" in typed.refused(f"volume save fast/a {tmp_path}/x")


def test_a_pool_that_is_in_use_is_said_before_anything_is_fetched(
    typed: Typed, web: Web, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "Work", partial(Work, patience_s=0))
    with working(pool):
        assert "is in use by" in typed.refused(f"volume import {web.url()} fast/base", 1)
    assert not web.asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_is_ended_leaves_what_was_fetched(
    number: int, config: Path, web: Web, pool: Path
) -> None:
    web.cut, web.stall = 3 * MIB, True
    words = [*COMMAND, "import", web.url(), "fast/base", "--config", str(config), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: web.asked, what="nothing was asked for")
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 128 + signal.SIGINT
        assert json.loads(said.splitlines()[-1])["error"]["kind"] == "interrupted"
    with working(pool) as work:
        assert not work.volumes
    assert files(pool) == {"volumes": set(), "images": set()}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("words", ["import {image} fast/new", "template fast/base", "save fast/base {saved}"])
def test_ctrl_c_leaves_nothing_half_made(
    words: str, late: bool, typed: Typed, tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of what takes long, or right behind it; afterwards it can be done."""
    image, saved = tmp_path / "disk.raw", tmp_path / "saved.raw"
    image.write_bytes(b"x" * MIB)
    typed.line(f"volume import {image} fast/base")
    before, command = files(pool), f"volume {words.format(image=image, saved=saved)}"
    copying = qemu_img.convert

    def interrupted(*how: Any) -> None:
        if late:
            copying(*how)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(qemu_img, "convert", interrupted)
        assert typed.refused(command, 130) == "aoe-target: interrupted"
    assert files(pool) == before
    assert not saved.exists()
    typed.line(command)


@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_of_a_merge_leaves_every_state_whole_and_it_goes_on(
    late: bool,
    slow_pool: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before a later state has taken what it needs, or right behind that."""
    file = tmp_path / "slow.toml"
    file.write_text(f'[[pool]]\nname = "fast"\npath = "{slow_pool}"\n')
    typed = Typed(file, capsys)
    with working(slow_pool) as work:
        work.do(Create("base", MIB))
        tool("qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {MIB}", work.path_of("base"))
        for name in "ab":
            work.do(Cut("base", name))
        work.do(Delete("base", "a"))
    merging = qemu_img.rebase

    def interrupted(*how: Any) -> None:
        if late:
            merging(*how)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(qemu_img, "rebase", interrupted)
        assert typed.refused("volume merge fast/base", 130) == "aoe-target: interrupted"
    steps, _ = typed("volume merge fast/base --plan")
    assert [it for it in steps if "take what it needs of" in it] == steps[:1]
    assert typed.json("volume merge fast/base")[-1]["done"].endswith("merged into later ones")
    assert "has nothing to be merged" in typed.refused("volume merge fast/base --plan")
    saved = tmp_path / "saved.raw"
    typed.line(f"volume save fast/base {saved}")
    assert saved.read_bytes() == b"\7" * MIB


def test_a_terminal_shows_a_bar_until_there_is_a_result(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("rich")
    image = tmp_path / "disk.raw"
    image.write_bytes(b"x" * 4 * MIB)
    screen, side = pty.openpty()
    words = [*COMMAND, "import", str(image), "fast/base", "--config", str(config)]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(words, stdout=side, stderr=side, env=environment) as process:
        os.close(side)
        shown = b""
        try:
            while piece := os.read(screen, 65536):
                shown += piece
        except OSError:
            pass  # its other side is closed
        process.wait(60)
    os.close(screen)
    assert process.returncode == 0, shown
    bar, result, after = shown.partition(f"fast/base: {4 * MIB} bytes, raw\r\n".encode())
    assert result, shown
    assert b"copy" in bar
    assert bar.endswith(b"\x1b[2K"), "its line is cleared"
    assert not after
