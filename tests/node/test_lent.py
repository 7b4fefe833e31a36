"""What the configured group changes beside the file is kept, shown and ended as what the owner changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.node_verbs import NodeVerbs
from aoe.cli.wanted import Wanted
from aoe.config.changes import Change, dump, merged
from aoe.control.rights import Peer
from aoe.control.saving import save
from aoe.control.verbs import Apply, Outcome
from aoe.control.written import Written
from aoe.errors import ConfigurationError
from aoe.node.drains import Drains
from tests.node.scene import Scene, image
from tests.serve.initiator import mac

ROOT = Peer(1, 0, frozenset())
MEMBER = Peer(2, 1001, frozenset())
ALICE, BOB = mac(8).hex(":"), mac(9).hex(":")
SOON = "2026-11-28T12:00:00Z"
HEAD = """[target]
interfaces = ["m0"]
max-frame-age = 0.5
"""
FILE = """
[[export]]
path = "{}"
shelf = 1
slot = {}
{}
"""


def of(address: str = "e1.0", *gone: str, by: str = "uid 1001", at: str = SOON, **keys: Any) -> Change:
    """Some keys are set."""
    said = {name.replace("_", "-"): value for name, value in keys.items()}
    return Change(verb="set", address=address, by=by, at=at, keys=said, gone=gone)


class Daemon:
    """A node with its file, its state, and what its owner writes down."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.file = work / "target.toml"
        self.written = Written(work / "changes" / "changes.toml")
        self.wanted = Wanted(self.file, self.file.read_bytes, self.written.read)
        loaded = self.wanted.load()
        self.scene = Scene(work, self.wanted.keep(work / "state", loaded))

    async def start(self) -> None:
        await self.scene.start()
        self.verbs = NodeVerbs(self.scene.node, self.wanted, Drains(self.scene.node.target, self.work, None))

    async def lend(self, change: Change) -> Outcome:
        """A member of the group asks."""
        return await self.verbs.lend(change, MEMBER)

    async def own(self, change: Change) -> Outcome:
        """The owner asks, whose command writes it down, and takes it back where it is refused."""
        before = self.written.read()
        self.write(merged(before, change))
        try:
            return await self.verbs.take_up(change, ROOT)
        except ConfigurationError:
            self.write(before)
            raise

    async def apply(self, **how: Any) -> Outcome:
        """As `aoe-target apply`."""
        if not how.get("plan"):
            self.write(())
        return await self.verbs.apply(Apply(**how), ROOT)

    def write(self, now: tuple[Change, ...]) -> None:
        with self.written.held():
            self.written.write(now)

    async def patches(self) -> list[str]:
        """What `status` shows, without the time."""
        return [it["sentence"].split(" at ")[0] for it in (await self.verbs.status())["patches"]]

    async def export(self, address: str = "e1.0") -> dict[str, Any]:
        """As `status` has it."""
        (found,) = [it for it in (await self.verbs.status())["exports"] if it["address"] == address]
        return dict(found)

    async def limits(self, address: str = "e1.0") -> dict[str, float]:
        """Those that are in force, and are shown."""
        shown: dict[str, float] = (await self.export(address))["limits"]
        (one,) = [it for it in self.scene.node.target.exports if it.address == address]
        assert one.limits.iops == shown.get("limit-iops", 0)
        return {name: value for name, value in shown.items() if value and name != "limit-burst"}


def write(work: Path, *said: str) -> None:
    """The file: an export for each."""
    exports = (FILE.format(image(work, f"disk{slot}"), slot, it) for slot, it in enumerate(said))
    (work / "target.toml").write_text(HEAD + "".join(exports))


@asynccontextmanager
async def daemon(work: Path, *said: str) -> AsyncIterator[Daemon]:
    """It serves these; without any what the file says already."""
    if said:
        write(work, *said)
    made = Daemon(work)
    await made.start()
    try:
        yield made
    finally:
        await made.scene.node.stop()


def run(work: Path, test: Callable[[Daemon], Coroutine[Any, Any, None]], *said: str) -> None:
    async def whole() -> None:
        async with daemon(work, *said) as it:
            await test(it)

    asyncio.run(whole())


def test_it_is_in_force_and_shown_as_a_patch(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        number = it.scene.state.number
        done = await it.lend(of(limit_iops=100, limit_client_bandwidth="20M"))
        assert (done.exit, done.said) == (
            0,
            ("e1.0: change limit-iops to 100, limit-client-bandwidth to 20M",),
        )
        await it.lend(of(mask=[ALICE]))
        assert await it.limits() == {"limit-iops": 100, "limit-client-bandwidth": 20 << 20}
        assert (await it.export())["mask"] == (ALICE,)
        facts = await it.verbs.status()
        assert facts["number"] == number + 2
        assert [(one["lent"], one["by"], one["at"]) for one in facts["patches"]] == [
            (True, "uid 1001", SOON)
        ] * 2
        assert await it.patches() == [
            'set e1.0 limit-iops = 100, limit-client-bandwidth = "20M" (by uid 1001',
            f'set e1.0 mask = ["{ALICE}"] (by uid 1001',
        ]
        assert await it.limits("e1.1") == {}, "the others are as they were"

    run(tmp_path, test, "", "")


def test_it_outlives_a_restart_and_apply_ends_it(tmp_path: Path) -> None:
    async def first(it: Daemon) -> None:
        await it.lend(of(limit_iops=100))
        await it.lend(of("e1.1", mask=[ALICE]))

    async def second(it: Daemon) -> None:
        assert (await it.limits(), (await it.export("e1.1"))["mask"]) == ({"limit-iops": 100}, (ALICE,))
        await it.own(of(limit_client_iops=70, by="root (uid 0)"))
        sentences = [
            "set e1.0 limit-client-iops = 70 (by root (uid 0)",
            "set e1.0 limit-iops = 100 (by uid 1001",
            f'set e1.1 mask = ["{ALICE}"] (by uid 1001',
        ]
        assert await it.patches() == sentences
        planned = await it.apply(plan=True)
        ends = [line for line in planned.said if line.startswith("ends: ")]
        assert [line.split(" at ")[0] for line in ends] == [f"ends: {one}" for one in sentences]
        assert [one["lent"] for one in planned.facts["ends"]] == [False, True, True]
        assert len(await it.patches()) == 3
        done = await it.apply()
        assert done.exit == 0
        assert (await it.patches(), await it.limits()) == ([], {"limit-iops": 50})
        assert (await it.export("e1.1"))["mask"] == (BOB,), "the file's"

    async def third(it: Daemon) -> None:
        assert (await it.patches(), await it.limits()) == ([], {"limit-iops": 50})

    run(tmp_path, first, "limit-iops = 50", f'mask = ["{BOB}"]')
    run(tmp_path, second)
    run(tmp_path, third)


def test_without_a_mask_of_the_file_none_is_opened_at_the_end(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        await it.lend(of(mask=[ALICE]))
        done = await it.apply()
        assert (await it.export())["mask"] == (ALICE,)
        assert any("mask is not stated any more, and stays in force" in line for line in done.said)

    run(tmp_path, test, "")


def test_of_two_the_later_word_is_in_force(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        await it.lend(of(limit_iops=100, limit_client_iops=10))
        await it.own(of(limit_iops=50, by="root"))
        assert await it.limits() == {"limit-iops": 50, "limit-client-iops": 10}
        assert await it.patches() == [
            "set e1.0 limit-iops = 50 (by root",
            "set e1.0 limit-client-iops = 10 (by uid 1001",
        ]
        await it.lend(of("e1.0", "limit-client-iops", limit_iops=70, at="2020-01-01T00:00:00Z"))  # the clock
        assert await it.limits() == {"limit-iops": 70}
        write(tmp_path, "limit-client-iops = 30")
        await it.verbs.reload("a test")
        assert await it.limits() == {"limit-iops": 70}

    run(tmp_path, test, "")
    run(tmp_path, lambda it: _has_limit(it, 70))


async def _has_limit(it: Daemon, iops: int) -> None:
    assert await it.limits() == {"limit-iops": iops}


def test_what_root_wrote_down_while_the_daemon_was_away_is_the_later_word(tmp_path: Path) -> None:
    async def first(it: Daemon) -> None:
        await it.lend(of(limit_iops=100, limit_client_iops=10))
        it.write((of(limit_iops=50, by="root", at="2026-11-28T12:00:01Z"),))

    async def second(it: Daemon) -> None:
        assert await it.limits() == {"limit-iops": 50, "limit-client-iops": 10}

    run(tmp_path, first, "")
    run(tmp_path, second)


def test_what_is_removed_has_no_changes_when_it_is_added_again(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        await it.lend(of(limit_iops=100))
        gone = Change(verb="remove", address="e1.0", by="root", at=SOON)
        await it.own(gone)
        assert await it.patches() == ["remove e1.0 (by root"]
        path = image(tmp_path, "disk0")
        await it.own(Change(verb="add", address="e1.0", by="root", at=SOON, keys={"path": path}))
        assert await it.limits() == {}

    run(tmp_path, test, "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of("e7.7", limit_iops=10), "e7.7 is not there; look at aoe-target status"),
        (of(limit_iops=-1), "limit-iops"),
        (of(mask=["nosuch"]), "mask"),
        (of(mask=[]), "mask"),
        (of(limit_bandwidth="20X"), "limit-bandwidth"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path: Path, change: Change, told: str) -> None:
    async def test(it: Daemon) -> None:
        await it.lend(of(limit_iops=100))
        before = await it.verbs.status()
        with pytest.raises(ConfigurationError, match=told):
            await it.lend(change)
        after = await it.verbs.status()
        assert (after["number"], after["patches"]) == (before["number"], before["patches"])
        assert await it.limits() == {"limit-iops": 100}

    run(tmp_path, test, "")
    run(tmp_path, lambda it: _has_limit(it, 100))


def test_what_root_is_refused_leaves_it(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        await it.lend(of(limit_iops=100))
        with pytest.raises(ConfigurationError, match="durability"):
            await it.own(of(limit_iops=50, durability="perhaps", by="root"))
        write(tmp_path, f'serial = "{"x" * 21}"')
        with pytest.raises(ConfigurationError, match="serial"):
            await it.apply()
        write(tmp_path, "", f"length = {1 << 30}\nlimit-iops = 10")
        with pytest.raises(ConfigurationError, match=r"e1\.1"):  # what cannot be opened is known later
            await it.apply()
        assert (await it.limits(), len(await it.patches())) == ({"limit-iops": 100}, 1)
        await it.lend(of(mask=[ALICE]))
        assert await it.limits() == {"limit-iops": 100}

    run(tmp_path, test, "")
    write(tmp_path, "")
    run(tmp_path, lambda it: _has_limit(it, 100))


def test_a_key_that_does_nothing_for_a_copy_is_refused_in_a_sentence(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        with pytest.raises(ConfigurationError) as caught:
            await it.own(of(read_only=False, by="root"))
        refused = "read-only = false, and a copy of an image (copy-of) is never written to; leave it out"
        assert str(caught.value) == f"e1.0: {refused}"
        assert (await it.export())["read_only"]

    run(tmp_path, test, 'copy-of = "one"')


def test_a_file_that_was_refused_is_no_part_of_a_later_change(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        write(tmp_path, "limit-iops = 10", f"length = {1 << 30}")
        with pytest.raises(ConfigurationError, match=r"e1\.1"):
            await it.verbs.reload("a test")
        await it.lend(of(limit_client_iops=10))
        assert await it.limits() == {"limit-client-iops": 10}

    run(tmp_path, test, "")


def test_where_it_cannot_be_kept_nothing_is_changed(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        (tmp_path / "state" / "changes.new").mkdir()
        with pytest.raises(
            ConfigurationError, match=r"state/changes\.toml: .*; what is changed could not be kept"
        ):
            await it.lend(of(limit_iops=100))
        assert (await it.limits(), await it.patches()) == ({}, [])

    run(tmp_path, test, "")


def test_a_list_that_is_damaged_is_told(tmp_path: Path) -> None:
    write(tmp_path, "")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "changes.toml").write_text("[[change]]")
    with pytest.raises(ConfigurationError, match=r"state/changes\.toml is damaged .* run aoe-target apply"):
        Daemon(tmp_path)
    (tmp_path / "state" / "changes.toml").unlink()
    (tmp_path / "state" / "changes.toml").symlink_to("/dev/zero")
    with pytest.raises(
        ConfigurationError, match=r"state/changes\.toml: it is not a regular file; make it readable"
    ):
        Daemon(tmp_path)


def test_the_signal_leaves_both_and_says_so(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        await it.own(of(limit_iops=50, by="root"))
        await it.lend(of("e1.1", limit_iops=70))
        write(tmp_path, "limit-client-iops = 30", "", "")
        done = await it.verbs.reload("SIGHUP")
        assert done.exit == 0
        assert it.scene.addresses == ["e1.0", "e1.1", "e1.2"]
        assert await it.limits() == {"limit-iops": 50, "limit-client-iops": 30}
        assert await it.limits("e1.1") == {"limit-iops": 70}
        assert [line.split(" at ")[0] for line in await it.verbs.stays()] == await it.patches()
        assert len(await it.patches()) == 2

    run(tmp_path, test, "", "")


def test_a_change_that_comes_while_the_signal_waits_is_not_undone(tmp_path: Path) -> None:
    """What is wanted is looked at when its turn comes."""

    async def test(it: Daemon) -> None:
        node = it.scene.node
        async with node._change("a long one"):
            lent = asyncio.ensure_future(it.lend(of(limit_iops=70)))
            await asyncio.sleep(0)
            owned = asyncio.ensure_future(it.own(of("e1.1", limit_iops=90, by="root")))
            await asyncio.sleep(0)
            signalled = asyncio.ensure_future(it.verbs.reload("SIGHUP"))
            await asyncio.sleep(0.05)
        await asyncio.gather(lent, owned, signalled)
        assert (await it.limits(), await it.limits("e1.1")) == ({"limit-iops": 70}, {"limit-iops": 90})
        assert len(await it.patches()) == 2

    run(tmp_path, test, "", "")


def test_the_network_cannot_change_a_list_that_the_group_stated(tmp_path: Path) -> None:
    async def test(it: Daemon) -> None:
        (one,) = it.scene.node.target.exports
        assert one.remote_masks
        await it.lend(of(mask="any"))
        assert not one.remote_masks
        await it.apply()
        assert one.remote_masks

    run(tmp_path, test, "")


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    many = tuple(of(f"e{n}.0", mask="x" * (1 << 20)) for n in range(9))
    with pytest.raises(ConfigurationError, match=r"larger than \d+ bytes; put them into it"):
        dump(many)


def test_what_root_saved_is_no_patch_any_more(tmp_path: Path) -> None:
    """As `set --save` of root's does: it takes the change over, and then the file has it."""

    async def test(it: Daemon) -> None:
        await it.lend(of(limit_iops=100))
        (mine,) = it.wanted.lent
        await it.lend(of("e1.1", limit_iops=100))
        nothing = of(by="root")
        it.write(merged(merged((), mine), nothing))
        done = await it.verbs.take_up(nothing, ROOT)
        assert (done.exit, done.said) == (0, ("nothing to do",))
        save(it.written, "e1.0", it.file)
        assert await it.patches() == ["set e1.1 limit-iops = 100 (by uid 1001"]
        assert it.file.read_text().count("limit-iops = 100") == 1
        done = await it.apply()
        assert (await it.limits(), await it.limits("e1.1")) == ({"limit-iops": 100}, {})

    run(tmp_path, test, "", "")
