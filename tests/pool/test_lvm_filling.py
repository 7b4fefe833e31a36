"""Whole images into a thin pool of LVM that only computes, out of it, and as templates."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.cli.filling import Import
from aoe.cli.filling import Template as TemplateOf
from aoe.cli.pools import say_downloads
from aoe.cli.report import Report
from aoe.config.values import PoolConfig
from aoe.disk import locks
from aoe.errors import ConfigurationError, FetchFailed, PoolError
from aoe.pool import filling
from aoe.pool.adopting import Adopt, Freeze
from aoe.pool.filling import Filled
from aoe.pool.requests import Clone, Create, Cut, Delete
from tests.pool.fake_lvm import EXTENT, FakeLvm
from tests.pool.pools import MIB, SIZE, first, is_whole, write
from tests.pool.test_filling import bring, content, told
from tests.pool.thin import lv_of, refusal, working
from tests.pool.web import serving
from tests.support.tools import need, tool


@pytest.fixture(autouse=True)
def _qemu() -> None:
    need("qemu-img")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One of 6 MiB in qcow2, which is no number of whole extents."""
    raw, file = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(b"\5" * MIB + bytes(4 * MIB) + b"\6" * MIB)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, file)
    return file


@contextmanager
def filled(lvm: FakeLvm, image: Path) -> Iterator[Filled]:
    """A copy of an image that no verb has found yet, by a process beside the one that has the pool."""
    with (
        working(lvm, locked=False) as look,
        filling.source(image, None) as of,
        filling.imported(look, of, "new", None, told) as made,
    ):
        yield made


def test_an_image_becomes_a_volume_and_is_saved_again(lvm: FakeLvm, image: Path, tmp_path: Path) -> None:
    with working(lvm) as work:
        bring(work, image)
        assert work.volumes["new"].size == 6 * MIB
        assert lvm.lvs[lv_of(work, "new")].size == 2 * EXTENT
        assert content(work, "new", tmp_path) == (tmp_path / "disk.raw").read_bytes()
        work.do(Cut("new", "a"))
        write(work, "new", 7)
        saved = tmp_path / "saved.qcow2"
        filling.save(work, "new", "a", saved, "qcow2", told)
        assert is_whole(work)
    tool("qemu-img", "compare", "-f", "qcow2", "-F", "raw", saved, tmp_path / "disk.raw")


def test_what_is_filled_is_left_alone_and_found(lvm: FakeLvm, image: Path) -> None:
    """By another process too, which begins meanwhile, or cleans up after a verb."""
    with filled(lvm, image) as made:
        with working(lvm) as work:
            lvm.after = failing_once
            with pytest.raises(PoolError, match="planted"):
                work.do(Create("other", SIZE))
            lvm.after = lambda _: None
            assert list(work.found.new) == [made.image.file]
        with working(lvm) as work:
            made.done_by(work)
    with working(lvm) as work:
        assert is_whole(work)
        assert first(work, "new") == 5


def failing_once(words: object) -> None:
    assert isinstance(words, tuple)
    if words[0] == "lvcreate":
        raise PoolError("planted")


def test_nothing_is_left_of_what_no_verb_finds(lvm: FakeLvm, image: Path) -> None:
    before = set(lvm.lvs)
    with filled(lvm, image):
        assert len(lvm.lvs) == len(before) + 1
    assert set(lvm.lvs) == before
    with filled(lvm, image) as made, working(lvm) as work:
        work.do(Create("new", SIZE))
        with pytest.raises(ConfigurationError, match="there is a volume new"):
            made.done_by(work)
        with pytest.raises(PoolError, match="is not there, or has another size"):
            work.do(Adopt("web", made.image.id, 4 * SIZE, "raw"))
    with working(lvm) as work:
        assert is_whole(work)
    assert len(lvm.lvs) == len(before) + 1


@pytest.mark.parametrize("kind", ["lvcreate", "fsync"])
def test_a_store_that_fails_keeps_nothing(
    kind: str, lvm: FakeLvm, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if kind == "fsync":
        monkeypatch.setattr("aoe.pool.lvm.os.fsync", full)
    else:
        lvm.after = failing_once
    before = set(lvm.lvs)
    with working(lvm) as work:
        with pytest.raises(PoolError, match=r"planted|naming what was copied: No space left"):
            bring(work, image)
        monkeypatch.undo()
        assert set(lvm.lvs) == before


def test_what_was_killed_goes_with_the_next_one(lvm: FakeLvm, image: Path) -> None:
    with working(lvm) as work:
        made = ("lvcreate", "--yes", "--name", f"aoe-{'1' * 32}", "--virtualsize", "512b")
        lvm.run((*made, "--thinpool", lvm.path, "--wipesignatures", "n", "--addtag", "aoe.new"))
        with filled(lvm, image) as one:
            one.done_by(work)
        assert is_whole(work)
        assert len(lvm.lvs) == 2


def test_it_is_a_template_as_it_is(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        lvm.said.clear()
        work.do(Freeze("base"))
        assert len(lvm.changes()) == 3
        work.do(Clone("base", "", "web"))
        assert work.volumes["web"].parent is not None
        assert "is a template already" in refusal(work, Freeze("base"))
        assert "is a template, which stays as it is" in refusal(work, Cut("base", "a"))
        work.do(Cut("web", "a"))
        assert "has snapshots" in refusal(work, Freeze("web"))
        assert first(work, "web") == 1
        assert is_whole(work)


def test_nothing_is_merged(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        head = work.volumes["base"].head
        with pytest.raises(PoolError, match="none are merged"):
            work.rebase(head, (), None, told)


def test_what_is_written_becomes_no_template(lvm: FakeLvm) -> None:
    with working(lvm) as work:
        with Path(work.ready("base")).open("r+b") as file:
            locks.take(file.fileno(), Path("base"), read_only=False, is_block=True)
            assert "is in use by" in refusal(work, Freeze("base"))
        assert not work.volumes["base"].template


@pytest.fixture
def named(lvm: FakeLvm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool, by the name that a file gives it."""
    vg, _, thin = lvm.path.partition("/")
    pool = PoolConfig(name="fast", kind="lvm-thin", vg=vg, thin_pool=thin)
    monkeypatch.setattr("aoe.cli.filling.one", lambda *_: pool)
    monkeypatch.setattr("aoe.cli.volumes.one", lambda *_: pool)


@pytest.mark.usefixtures("named")
def test_commands(lvm: FakeLvm, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, where = Report("volume", as_json=False), (Path("file"), None, False, False)
    assert Import(*where, str(image), "fast/new", None, None, None).run(report) == 0
    assert TemplateOf(*where, "fast/new").run(report) == 0
    with pytest.raises(ConfigurationError, match="keeps disks as raw"):
        Import(*where, str(image), "fast/more", None, "qcow2", None).run(report)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"fast/new: {6 * MIB} bytes, raw"
    assert "is a template, which is cloned and no more written to" in said[1]
    with working(lvm) as work:
        assert work.volumes["new"].template
        work.do(Delete("base"))
        assert is_whole(work)


@pytest.mark.usefixtures("named")
def test_what_a_url_has_is_fetched_beside_it(
    lvm: FakeLvm, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, where = Report("volume", as_json=False), (Path("file"), None, False)
    cache = lvm.host.cache / lvm.path
    with serving() as web:
        words = web.url("disk.qcow2"), "fast/new", None, None, None
        web.data, web.cut = image.read_bytes(), 1000
        with pytest.raises(FetchFailed, match="do it again to go on"):
            Import(*where, False, *words).run(report)
        with working(lvm, locked=False) as look:
            say_downloads(look, report)
        assert f"fast: {cache}/scratch/" in capsys.readouterr().err
        web.cut = None
        assert Import(*where, True, *words).run(report) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"fetch {web.url('disk.qcow2')} to {cache}/scratch, or what is missing there of it",
            "copy what that has into a new image (raw), and remove it",
            "write the record of new",
        ]
        assert Import(*where, False, *words).run(report) == 0
        assert web.asked[-1]["Range"] == "bytes=1000-"
    assert not list((cache / "scratch").iterdir())
    with working(lvm) as work:
        assert content(work, "new", tmp_path) == (tmp_path / "disk.raw").read_bytes()
