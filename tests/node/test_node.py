"""A node that is changed while it serves: only what differs is touched."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aoe import limits, timing
from aoe.config.values import Config, PoolConfig
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError
from aoe.node.done import Done
from aoe.node.needs import There
from aoe.node.steps import Note
from aoe.target.rates import Limits
from aoe.target.records import StateStore
from aoe.wire import mask
from aoe.wire.frame import FLAG_RESPONSE, Command
from aoe.wire.mask import Directive, DirectiveCommand, Mask, MaskCommand, MaskError
from tests.disk.helpers import noise, sparse
from tests.node.scene import FRAME_AGE_S, SECTORS, TARGETED, Scene, export, image, scene
from tests.serve.initiator import NoAnswer, mac
from tests.support.waiting import PATIENCE_S, wait_for

ALICE = mac(7)


def said(done: Done) -> str:
    return "\n".join(done.sentences)


def is_free(path: Path | str) -> bool:
    try:
        open_disk(Path(path), Opening(lock_wait_s=0)).close()
    except ConfigurationError:
        return False
    return True


def test_it_serves_the_file_and_only_the_difference_is_done(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a"), export(tmp_path, "b", 1)) as here:
            assert here.addresses == ["e1.0", "e1.1"]
            kept = here.node.target.exports[0]
            host = here.host(0)
            await host.write(1, noise(1))
            done = await here.apply(export(tmp_path, "a"), export(tmp_path, "c", 2))
            assert (done.exit, here.addresses) == (0, ["e1.0", "e1.2"])
            assert here.node.target.exports[0] is kept
            assert await host.read(1) == noise(1)
            assert is_free(tmp_path / "b")
            assert here.announced == ["e1.0", "e1.1", "e1.2"]
            again = await here.apply(export(tmp_path, "a"), export(tmp_path, "c", 2))
            assert (again.sentences, again.number) == (["nothing to do"], done.number)

    asyncio.run(run())


def test_the_pools_of_a_file_are_told_as_soon_as_it_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "POOL_LOOK_S", 3600.0)

    async def run() -> None:
        async with scene(tmp_path) as here:
            for pools in ((PoolConfig(name="fast", path=str(tmp_path / "none")),), ()):
                here.opener.pools.follow(pools)  # as an opener does, which reads the file
                await here.node.apply(Config(TARGETED, (), pools), "a test")
                async with asyncio.timeout(PATIENCE_S):
                    while [it.name for it in here.node.status().pools] != [it.name for it in pools]:
                        await asyncio.sleep(0.02)

    asyncio.run(run())


def test_two_exports_swap_their_disks_with_their_locks(tmp_path: Path) -> None:
    async def run() -> None:
        a, b = export(tmp_path, "a"), export(tmp_path, "b", 1)
        async with scene(tmp_path, a, b) as here:
            await here.host(0).write(0, noise(1))
            before = {it.slot: it.identity for it in here.node.target.exports}
            began = asyncio.get_running_loop().time()
            done = await here.apply(export(tmp_path, "b", 0), export(tmp_path, "a", 1), remove=True)
            assert done.exit == 0, said(done)
            assert asyncio.get_running_loop().time() - began > FRAME_AGE_S
            assert await here.host(1).read(0) == noise(1)
            after = {it.slot: it.identity for it in here.node.target.exports}
            assert (after[0].serial, after[1].serial) == (before[1].serial, before[0].serial)
            instances = {it.instance for it in (*before.values(), *after.values())}
            assert len(instances) == 4
            assert not is_free(tmp_path / "a")
        assert is_free(tmp_path / "a")
        assert is_free(tmp_path / "b")

    asyncio.run(run())


def test_a_disk_that_cannot_be_had_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            other = open_disk(Path(image(tmp_path, "taken")))
            wrong = export(tmp_path, "taken", 2)
            done = await here.apply(export(tmp_path, "b", 1), wrong)
            assert (done.exit, here.addresses) == (2, ["e1.0"])
            assert "e1.2" in said(done)
            assert "is in use by" in said(done)
            assert is_free(tmp_path / "b")
            other.close()
            assert (await here.apply(export(tmp_path, "b", 1), wrong)).exit == 0
            assert here.addresses == ["e1.1", "e1.2"]

    asyncio.run(run())


def test_at_the_start_one_bad_disk_keeps_no_other_from_being_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "FAILED_AGAIN_S", 0.2)

    async def run() -> None:
        other = open_disk(Path(image(tmp_path, "taken")))
        async with scene(tmp_path, export(tmp_path, "a"), export(tmp_path, "taken", 1)) as here:
            assert here.states() == {"e1.0": "serving", "e1.1": "failed"}
            other.close()
            await here.until(1)
            assert here.states() == {"e1.0": "serving", "e1.1": "serving"}

    asyncio.run(run())


def test_what_is_not_there_is_served_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ARRIVAL_S", 0.05)

    async def run() -> None:
        late, moving = export(tmp_path, "late", 1), export(tmp_path, "a")
        Path(late.path).unlink()
        async with scene(tmp_path, moving, late) as here:
            assert here.states() == {"e1.0": "serving", "e1.1": "waiting"}
            number = here.node.status().number
            sparse(Path(late.path), SECTORS)
            await here.until(1)
            assert here.states() == {"e1.0": "serving", "e1.1": "serving"}
            assert here.node.status().number == number + 1

    asyncio.run(run())


def test_what_a_client_uses_stays_even_when_a_disk_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ARRIVAL_S", 0.05)

    async def run() -> None:
        late = export(tmp_path, "late", 1)
        Path(late.path).unlink()
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            await here.host(0).read(0)
            done = await here.apply(late)
            assert (done.exit, here.states()) == (1, {"e1.0": "kept", "e1.1": "waiting"})
            monkeypatch.setattr(timing, "USED_LATELY_S", 0.0)  # by now it was not used lately
            sparse(Path(late.path), SECTORS)
            await here.until(1)
            assert here.states() == {"e1.0": "kept", "e1.1": "serving"}
            assert (await here.apply(late, remove=True)).exit == 0
            assert here.addresses == ["e1.1"]

    asyncio.run(run())


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            done = await here.plan(export(tmp_path, "b", 1))
            assert said(done).splitlines()[1] == f"e1.1: serve {tmp_path}/b"
            assert (here.addresses, is_free(tmp_path / "b")) == (["e1.0"], True)
            assert json.loads(json.dumps(done.facts()))["number"] == here.node.status().number

    asyncio.run(run())


# What is new is asked for on the wire


@pytest.mark.parametrize(("new", "ahead"), [(1, True), (limits.ASKED_AHEAD_MAX + 1, False)])
def test_it_is_asked_for_while_its_disk_is_looked_for(
    new: int, ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that are few addresses: so `apply` waits for nothing. Each is asked for so often in all."""
    monkeypatch.setattr(timing, "ADDRESS_ANSWERS_S", PATIENCE_S)

    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            host, found, before = here.host(), here.opener.find, list[int]()

            def asked() -> int:
                return sum(not it.flags & FLAG_RESPONSE for it in host.headers)

            def find(places: Iterable[str]) -> There:
                if ahead:
                    wait_for(lambda: asked() == limits.ADDRESS_QUERIES, what="it is not asked for")
                before.append(asked())
                return found(places)

            monkeypatch.setattr(here.opener, "find", find)
            await here.apply(*(export(tmp_path, f"{it}", it) for it in range(1, new + 1)))
            assert bool(before[0]) == ahead
            assert asked() == limits.ADDRESS_QUERIES * new

    asyncio.run(run())


# One at a time


def test_a_second_change_waits_and_names_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CHANGE_WAIT_S", 0.1)

    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            hands, goes = here.node._hands.carry_out, asyncio.Event()

            async def late(*arguments: Any) -> list[Note]:
                await goes.wait()
                return await hands(*arguments)

            monkeypatch.setattr(here.node._hands, "carry_out", late)
            slow = asyncio.ensure_future(here.apply(export(tmp_path, "b")))
            await asyncio.sleep(0.05)
            with pytest.raises(
                ConfigurationError, match=r"a change is under way for \d+ s \(apply by a test\)"
            ):
                await here.apply(export(tmp_path, "c"))
            goes.set()
            assert (await slow).exit == 0
            assert (await here.apply(export(tmp_path, "c"))).exit == 0

    asyncio.run(run())


def test_a_change_that_was_not_expected_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            number = here.node.status().number
            await here.apply(export(tmp_path, "b", 1), expect=number)
            with pytest.raises(ConfigurationError, match=f"is number {number + 1}, not {number}"):
                await here.apply(export(tmp_path, "c", 2), expect=number)
            assert here.addresses == ["e1.1"]

    asyncio.run(run())


def test_the_number_of_a_change_never_falls(tmp_path: Path) -> None:
    async def run() -> int:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            return here.node.status().number

    assert asyncio.run(run()) < asyncio.run(run())


# Lists of hosts


def test_a_list_of_the_file_wins_and_the_network_cannot_change_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            host = here.host(0)
            await _add_to_mask(host, host.link.mac)
            assert here.node.target.exports[0].state.mask == (host.link.mac,)
            await here.apply(export(tmp_path, "a", mask=(host.link.mac, ALICE)))
            await _add_to_mask(host, mac(8))
            assert here.node.target.exports[0].state.mask == (host.link.mac, ALICE)
            done = await here.apply(export(tmp_path, "a"))
            assert 'mask is not stated any more, and stays in force; mask = "any" opens it' in said(done)
            assert here.node.target.exports[0].state.mask == (host.link.mac, ALICE)
            await _add_to_mask(host, mac(8))
            assert here.node.target.exports[0].state.mask == (host.link.mac, ALICE, mac(8))
            await here.apply(export(tmp_path, "a", mask=()))
            assert here.node.target.exports[0].state.mask == ()

    asyncio.run(run())


async def _add_to_mask(host: object, address: bytes) -> None:
    edit = Mask(MaskCommand.EDIT, MaskError.NONE, 1, (Directive(DirectiveCommand.ADD, address),))
    await host.ask(Command.MASK, mask.encode(edit))  # type: ignore[attr-defined]


@pytest.mark.parametrize("more", [{"serial": "OTHER"}, {"slot": 1}, {"direct": False}])
def test_a_list_goes_with_its_disk(tmp_path: Path, more: dict[str, object]) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a", mask=(ALICE,))) as here:
            await here.apply(export(tmp_path, "a", **more))
            (now,) = here.node.target.exports
            assert now.state.mask == (ALICE,)
            with pytest.raises(NoAnswer):
                await here.host(now.slot, patience_s=0.1).config()

    asyncio.run(run())


def test_what_serve_kept_is_taken_over(tmp_path: Path) -> None:
    async def run() -> tuple[str, tuple[bytes, ...]]:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            (one,) = here.node.target.exports
            await here.node.target.restate(1, 0, mask=(ALICE,))
            return one.identity.serial, one.state.mask

    first = asyncio.run(run())
    assert asyncio.run(run()) == first
    (record,) = StateStore(tmp_path / "state").records
    assert (record.serial, record.state.mask) == first


# In place


def test_durability_and_access_change_without_a_break(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            host, one = here.host(0), here.node.target.exports[0]
            await host.write(0, noise(1))
            done = await here.apply(export(tmp_path, "a", durability="write-back", read_only=True))
            assert said(done) == "e1.0: change durability to write-back, read-only to true"
            assert here.node.target.exports == [one]
            assert (one.identity.cache, one.drive.read_only) == (True, True)
            await here.apply(export(tmp_path, "a"))
            await host.write(0, noise(1, 1))

    asyncio.run(run())


def test_limits_change_without_a_break(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            host, one = here.host(0), here.node.target.exports[0]
            await host.write(0, noise(1))
            slow = export(tmp_path, "a", limit_iops=10, limit_burst=0.0, limit_bandwidth=100 << 20)
            done = await here.apply(slow)
            assert said(done) == "e1.0: change limit-iops to 10, limit-bandwidth to 100M, limit-burst to 0.0"
            began = time.monotonic()
            await asyncio.gather(*(host.write(8 * at, noise(1)) for at in range(3)))
            assert time.monotonic() - began >= 0.19
            writes = asyncio.gather(*(host.write(8 * at, noise(1, 1)) for at in range(3)))
            await asyncio.sleep(0.01)
            await here.apply(export(tmp_path, "a"))
            await writes
            assert here.node.target.exports == [one]
            assert one.rates is None

    asyncio.run(run())


def test_an_export_begins_with_its_limits(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a", limit_client_iops=500)) as here:
            assert here.node.target.exports[0].limits == Limits(client_iops=500)

    asyncio.run(run())


def test_settings_of_the_target(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            said_now = replace(TARGETED, remote_admin=False, log_level="debug", threads=2)
            done = await here.node.apply(Config(said_now, (export(tmp_path, "a"),)), "a test")
            assert done.exit == 1
            assert "all: threads is in force after a restart of the service" in said(done)
            assert logging.getLogger("aoe").level == logging.DEBUG
            assert not here.node.target.server.responder.remote_masks
            again = await here.node.apply(Config(said_now, (export(tmp_path, "a"),)), "a test")
            assert here.states() == {"e1.0": "serving"}
            assert here.node.status().notes == ("all: threads is in force after a restart of the service",)
            assert said(again) == "waits: all: threads is in force after a restart of the service"

    before = logging.getLogger("aoe").level
    try:
        asyncio.run(run())
    finally:
        logging.getLogger("aoe").setLevel(before)


def test_a_disk_is_opened_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a", mask=(ALICE,))) as here:
            (before,) = here.node.target.exports
            instance = before.identity.instance
            assert before.identity.alone
            with pytest.raises(ConfigurationError, match=r"e1\.0 has not failed"):
                await here.node.reopen((1, 0), "a test")
            here.node.target.server.served(before).disk.distrust()
            assert here.node.status().exports[0].state == "failed"
            await here.node.reopen((1, 0), "a test")
            (after,) = here.node.target.exports
            assert after is before
            assert after.identity.instance != instance
            assert not after.identity.alone, "this process may have requests to the last instance"
            assert after.state.mask == (ALICE,)
            assert here.node.status().exports[0].state == "serving"
            with pytest.raises(ConfigurationError, match=r"e1\.9 is not served"):
                await here.node.reopen((1, 9), "a test")

    asyncio.run(run())


# What goes wrong


def test_nothing_is_taken_away_for_a_disk_that_came_and_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ARRIVAL_S", 0.05)

    async def run() -> None:
        late = export(tmp_path, "late")
        Path(late.path).unlink()
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            await here.apply(late)
            assert here.states() == {"e1.0": "kept"}
            (kept,) = here.node.target.exports
            other = open_disk(sparse(tmp_path / "fresh", SECTORS))
            (tmp_path / "fresh").rename(late.path)
            async with asyncio.timeout(30):
                while here.states() != {"e1.0": "failed"}:
                    await asyncio.sleep(0.05)
            assert here.node.target.exports == [kept]
            assert await here.answers(0)
            other.close()
            assert (await here.apply(late)).exit == 0
            assert here.node.target.exports != [kept]

    asyncio.run(run())


def test_a_failed_step_is_listed_and_the_next_apply_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            rival = await _rival(here)
            done = await here.apply(export(tmp_path, "a"), export(tmp_path, "b", 1), export(tmp_path, "c", 2))
            assert (done.exit, here.addresses) == (1, ["e1.0", "e1.2"])
            assert [it.address for it in done.failed] == ["e1.1"]
            assert "is already served by" in done.failed[0].text
            assert is_free(tmp_path / "b")
            await rival.node.stop()
            done = await here.apply(export(tmp_path, "a"), export(tmp_path, "b", 1), export(tmp_path, "c", 2))
            assert (done.exit, here.addresses) == (0, ["e1.0", "e1.1", "e1.2"])

    asyncio.run(run())


async def _rival(here: Scene) -> Scene:
    """Another target on the same network, which has e1.1."""
    work = here.work / "rival"
    work.mkdir()
    made = Scene(work, Config(TARGETED, (export(work, "other", 1),)))
    made.opener.network = here.network
    made.opener.mac = mac(2)
    await made.start()
    return made


def test_a_file_that_was_replaced_is_said_and_what_is_served_is_not_touched(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            await here.host(0).write(0, noise(1))
            os.replace(image(tmp_path, "new"), tmp_path / "a")  # noqa: PTH105 - what an editor does
            done = await here.apply(export(tmp_path, "a"))
            assert (done.plan.steps, done.exit) == ((), 0)
            assert "is another file by now" in said(done)
            assert await here.host(0).read(0) == noise(1)

    asyncio.run(run())


def test_a_change_that_is_not_kept_counts_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with scene(tmp_path, export(tmp_path, "a")) as here:
            number = here.node.status().number
            (tmp_path / "state" / "changes.count").mkdir()
            assert (await here.apply(export(tmp_path, "b", 1))).number == number + 1

    asyncio.run(run())
    assert "the number of this change is not kept" in caplog.text


def test_what_is_changed_of_many_is_changed_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose disk hangs keeps no other from being changed."""
    count = 12

    async def run() -> None:
        names = [str(it) for it in range(count)]
        async with scene(tmp_path, *(export(tmp_path, it, int(it)) for it in names)) as here:
            target, hung = here.node.target, asyncio.Event()
            change = target.change

            async def slow(shelf: int, slot: int, **what: bool) -> None:
                if slot == 0:
                    await hung.wait()
                await change(shelf, slot, **what)

            monkeypatch.setattr(target, "change", slow)
            others = [export(tmp_path, it, int(it), read_only=True) for it in names]
            applying = asyncio.ensure_future(here.apply(*others))
            async with asyncio.timeout(30):
                while not all(it.drive.read_only for it in target.exports[1:]):
                    await asyncio.sleep(0.01)
            assert not applying.done()
            hung.set()
            assert (await applying).exit == 0
            assert all(it.drive.read_only for it in target.exports)

    asyncio.run(run())
