"""What a daemon is asked for by commands that copy whole images past it, and what they tell meanwhile."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe.cli import target
from aoe.control.rights import Rights
from aoe.control.verbs import Outcome
from aoe.pool.requests import Create, Cut, Delete
from tests.control.asking import served
from tests.control.fake_node import FakeNode, refused
from tests.pool.pools import MIB, files, with_base, working
from tests.support.tools import need


class Node(FakeNode):
    """Knows which images of the pool bore names when it was asked."""

    def __init__(self, pool: Path) -> None:
        super().__init__()
        self._pool = pool
        self.seen: list[tuple[str, bool, set[str]]] = []
        """Verb, whether it was only planned, and new images."""

    async def _did(self, *what: object) -> Outcome:
        if what[0] == "volume":
            _, _, request, plan, _ = what
            assert isinstance(request, dict)
            new = {it for it in files(self._pool)["images"] if it.endswith(".new")}
            self.seen.append((str(request["verb"]), bool(plan), new))
        return await super()._did(*what)


class Asking:
    """Commands that ask such a daemon, and find its pool in a file."""

    def __init__(self, pool: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = Node(pool)
        self.file, self.socket = work / "etc.toml", work / "control"
        self.file.write_text(f'[[pool]]\nname = "fast"\npath = "{pool}"\n')
        self._capsys = capsys

    def __call__(self, words: str, status: int = 0) -> list[dict[str, Any]]:
        """What one says."""
        where = ["--config", str(self.file), "--socket", str(self.socket)]
        argv = ["volume", *words.split(), *where, "--json"]
        assert target.main(argv) == status, self._capsys.readouterr()
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


def asking(pool: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Asking]:
    need("qemu-img")
    it = Asking(pool, work, capsys)
    with served(it.socket, it.node, Rights(os.geteuid())):
        yield it


@pytest.fixture
def ask(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Asking]:
    with_base(pool)
    yield from asking(pool, tmp_path, capsys)


def check_told(said: list[dict[str, Any]], what: str) -> None:
    """How far it was, then what the daemon said."""
    *parts, done = said
    assert {it["doing"] for it in parts} == {what}
    percents = [it["percent"] for it in parts]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert done["said"] == ["did volume"]


@pytest.mark.parametrize(
    ("words", "verb"), [("import {image} fast/new", "adopt"), ("template fast/base", "template")]
)
def test_what_is_copied_gets_a_name_when_the_daemon_would_take_it(
    words: str, verb: str, ask: Asking, tmp_path: Path, pool: Path
) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"x" * MIB)
    check_told(ask(words.format(image=image)), "copy")
    *early, first, second = ask.node.seen
    assert early == [(verb, True, set())] * (verb == "template"), "what is served is not copied first"
    assert first == (verb, True, set())
    assert second[:2] == (verb, False)
    assert len(second[2]) == 1
    with working(pool):
        pass  # what no record names goes
    before = files(pool)
    ask.node.error = refused("there is no room")
    (failed,) = [it for it in ask(words.format(image=image), 2) if "error" in it]
    assert "there is no room" in failed["error"]["message"]
    assert files(pool) == before


def test_what_is_merged_is_told_to_the_daemon_one_after_the_other(
    slow_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working(slow_pool) as work:
        work.do(Create("base", MIB))
        for name in "ab":
            work.do(Cut("base", name))
        work.do(Delete("base", "a"))
    for ask in asking(slow_pool, tmp_path, capsys):
        check_told(ask("merge fast/base"), "merge")
        assert [it[:2] for it in ask.node.seen] == [("merged", True), ("merged", False)]
