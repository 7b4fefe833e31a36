"""The plan: from what is served to what the file says, and nothing else."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.node.plan import Running, Serving, Store, plan, unused
from aoe.node.steps import Add, Adjust, Change, Plan, Remove

ALICE, BOB = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
DISKS = {"/a": 1, "/b": 2, "/c": 3, "/d": 4}


def export(slot: int = 0, path: str = "/a", **said: Any) -> ExportConfig:
    return ExportConfig(path=path, shelf=1, slot=slot, **said)


def served(it: ExportConfig, there: Mapping[str, Store] = DISKS, **said: Any) -> Serving:
    facts = {"serial": it.serial or f"S{it.path}@{it.offset}+{it.length}", "mask": it.mask or ()}
    return Serving(export=it, store=there[it.place], **(facts | said))


def lately() -> bool:
    return True


def running(*them: Serving) -> Running:
    return Running(exports={it.export.key: it for it in them})


def wanted(*exports: ExportConfig) -> Config:
    return Config(exports=exports)


def planned(now: Running, *exports: ExportConfig, there: Mapping[str, Store] = DISKS, **how: Any) -> Plan:
    return plan(wanted(*exports), now, there, **how)


def test_nothing_to_do_is_no_step() -> None:
    now = running(served(export()), served(export(1, "/b")))
    assert planned(now, export(), export(1, "/b")) == Plan()


def test_what_is_new_is_added_and_what_is_gone_removed_first() -> None:
    now = running(served(export()))
    assert planned(now, export(1, "/b")).steps == (Remove(export()), Add(export(1, "/b")))


def test_two_exports_swap_their_disks() -> None:
    now = running(served(export()), served(export(1, "/b")))
    there = planned(now, export(0, "/b"), export(1, "/a"))
    assert there.steps == (
        Remove(export(), returns=True),
        Remove(export(1, "/b"), returns=True),
        Add(export(0, "/b"), ("path",), "e1.1"),
        Add(export(1, "/a"), ("path",), "e1.0"),
    )
    assert there.exit == 0


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"path": "/b"}, "path"),
        ({"serial": "NEW"}, "serial"),
        ({"offset": 8}, "offset"),
        ({"length": 8}, "length"),
        ({"direct": True}, "direct"),
        ({"shared": True}, "shared"),
        ({"copy_of": "one"}, "copy-of"),
    ],
)
def test_other_bytes_or_another_opening_are_a_replacement(said: dict[str, Any], key: str) -> None:
    new = export(**said)
    first, second = planned(running(served(export())), new).steps
    assert first == Remove(export(), returns=True)
    assert isinstance(second, Add)
    assert second.instead == (key,)
    assert f"it replaces what is there ({key}), with a new instance once the frame age" in second.sentence


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"durability": "write-back"}, "durability"),
        ({"read_only": True}, "read-only"),
        ({"mask": (ALICE,)}, "mask"),
        ({"interfaces": ("eth1",)}, "interfaces"),
        ({"limit_iops": 100}, "limit-iops"),
        ({"limit_bandwidth": 1 << 20}, "limit-bandwidth"),
        ({"limit_client_iops": 100}, "limit-client-iops"),
        ({"limit_client_bandwidth": 1 << 20}, "limit-client-bandwidth"),
        ({"limit_burst": 2.0}, "limit-burst"),
    ],
)
def test_what_can_be_changed_in_place_is(said: dict[str, Any], key: str) -> None:
    new = export(**said)
    assert planned(running(served(export())), new).steps == (Change(new, (key,)),)


def test_a_disk_that_was_opened_for_reading_only_is_opened_again() -> None:
    was = export(read_only=True)
    assert planned(running(served(was)), export()).steps == (Change(export(), ("read-only",)),)
    first, second = planned(running(served(was, writable=False)), export()).steps
    assert (first, second) == (
        Remove(was, returns=True),
        Add(export(), ("read-only",), "e1.0"),
    )


def test_a_serial_that_is_stated_as_it_is_changes_nothing() -> None:
    assert planned(running(served(export(), serial="S")), export(serial="S")) == Plan()


def test_settings_of_the_target_are_adjusted_or_wait_for_a_restart() -> None:
    said = TargetConfig(max_frame_age=2.0, threads=2, control_group="disk")
    there = plan(Config(said), Running(), DISKS)
    assert there.steps == (Adjust(said, ("max-frame-age",)),)
    assert [it.sentence for it in there.waits] == ["all: threads is in force after a restart of the service"]
    assert there.exit == 1


# What is not there yet


def test_what_is_not_there_waits() -> None:
    there = planned(running(), export(path="/new"), export(1, "/b"))
    assert there.steps == (Add(export(1, "/b")),)
    assert [it.sentence for it in there.waits] == ["e1.0: /new is not there"]
    assert there.exit == 1


def test_nothing_is_taken_away_for_a_disk_that_is_not_there() -> None:
    there = planned(running(served(export())), export(path="/new"))
    assert there.steps == ()
    assert [it.sentence for it in there.kept] == ["e1.0: /new is not there"]


def test_what_needs_its_disk_waits_with_it() -> None:
    now = running(served(export()), served(export(1, "/b")))
    there = planned(now, export(path="/new"), export(1, "/a"), export(2, "/b"))
    assert there.steps == ()
    assert [it.sentence for it in there.kept] == [
        "e1.0: /new is not there",
        "e1.1: /a is served at e1.0, which stays",
    ]
    assert [it.sentence for it in there.waits] == ["e1.2: /b is served at e1.1, which stays"]


# What clients use


def test_what_a_client_used_lately_stays_unless_it_is_said() -> None:
    now = running(served(export(), used=lately))
    there = planned(now)
    assert there.steps == ()
    assert there.exit == 1
    assert "apply --remove does it now" in there.kept[0].sentence
    assert planned(now, remove=True).steps == (Remove(export()),)


def test_what_was_in_use_stays_when_a_disk_comes_later() -> None:
    now = running(served(export()))
    assert planned(now, export(1, "/b"), held={(1, 0), (1, 7)}).steps == (Add(export(1, "/b")),)


def test_it_gets_no_other_disk_either_and_its_own_goes_nowhere() -> None:
    now = running(served(export(), used=lately), served(export(1, "/b")))
    there = planned(now, export(0, "/b"), export(1, "/a"))
    assert there.steps == ()
    assert [it.address for it in there.kept] == ["e1.0", "e1.1"]
    assert len(planned(now, export(0, "/b"), export(1, "/a"), remove=True).steps) == 4


def test_its_serial_is_not_given_away() -> None:
    now = running(served(export(serial="S"), used=lately))
    there = planned(now, export(1, "/b", serial="S"))
    assert [it.sentence for it in there.waits] == ["e1.1: serial S is that of e1.0, which stays"]


def test_use_is_asked_of_what_leaves_alone() -> None:
    asked: list[str] = []

    def served_as(slot: int, path: str) -> Serving:
        return served(export(slot, path), used=lambda: bool(asked.append(path)))

    now = running(served_as(0, "/a"), served_as(1, "/b"), served_as(2, "/c"))
    planned(now, export(), export(1, "/d"))
    assert sorted(asked) == ["/b", "/c"]
    planned(now, export(), remove=True)
    assert len(asked) == 2


def test_what_is_used_may_change_in_place() -> None:
    now = running(served(export(), used=lately))
    assert len(planned(now, export(durability="write-back")).steps) == 1


# Who may use it


def test_a_list_that_is_not_stated_any_more_stays_and_that_is_said() -> None:
    was = export(mask=(ALICE,))
    there = planned(running(served(was)), export())
    assert there.steps == (Change(export(), ("mask",)),)
    assert there.notes[0].sentence == (
        'e1.0: mask is not stated any more, and stays in force; mask = "any" opens it'
    )


def test_a_list_that_is_not_stated_is_what_was_kept() -> None:
    assert planned(running(served(export(), mask=(ALICE,))), export()) == Plan()


def test_what_is_stated_wins_over_what_was_kept() -> None:
    now = running(served(export(mask=()), mask=(ALICE,)))
    assert planned(now, export(mask=())).steps == (Change(export(mask=()), ("mask",)),)


def test_the_order_of_a_list_is_no_matter() -> None:
    now = running(served(export(mask=(ALICE, BOB)), mask=(BOB, ALICE)))
    assert planned(now, export(mask=(ALICE, BOB))).steps == ()


@pytest.mark.parametrize("there", [export(serial="NEW"), export(1), export(offset=8)])
def test_a_list_goes_with_its_disk(there: ExportConfig) -> None:
    now = running(served(export(mask=(ALICE,))))
    added = planned(now, there).steps[-1]
    assert isinstance(added, Add)
    assert added.mask == (ALICE,)


# What cannot be


def test_another_disk_needs_another_serial() -> None:
    now = running(served(export(serial="S")))
    there = planned(now, export(0, "/b", serial="S"))
    assert [it.sentence for it in there.problems] == [
        "e1.0: /b is another disk than that of serial S; give it another serial, or none"
    ]
    assert (there.steps, there.exit) == ((), 2)


def test_a_file_that_was_moved_keeps_its_serial() -> None:
    now = running(served(export(serial="S")))
    assert planned(now, export(0, "/moved", serial="S"), there={"/moved": 1}).problems == ()


def test_a_serial_that_another_has_is_refused() -> None:
    now = running(served(export(), serial="S"))
    there = planned(now, export(), export(1, "/b", serial="S"))
    assert [it.sentence for it in there.problems] == ["e1.1: serial S is that of e1.0; give another"]


def test_one_disk_by_two_names_is_refused() -> None:
    there = planned(running(served(export())), export(), export(1, "/link"), there={"/a": 1, "/link": 1})
    assert [it.sentence for it in there.problems] == ["e1.1: /link is the disk of e1.0, too; serve it once"]


def test_parts_of_one_disk_may_be_served() -> None:
    assert planned(running(), export(length=8), export(1, "/a", offset=8)).problems == ()
    assert planned(running(), export(length=9), export(1, "/a", offset=8)).problems != ()


def test_a_file_that_was_replaced_is_said_and_not_touched() -> None:
    there = planned(running(served(export())), export(), there={"/a": 9})
    assert there.steps == ()
    assert "/a is another file by now" in there.notes[0].sentence


# Any of them

exports = st.builds(
    export,
    slot=st.integers(0, 3),
    path=st.sampled_from([*DISKS, "/new"]),
    serial=st.sampled_from([None, "S1", "S2"]),
    length=st.sampled_from([None, 8]),
    offset=st.sampled_from([0, 8]),
    durability=st.sampled_from(["write-through", "write-back"]),
    read_only=st.booleans(),
    copy_of=st.sampled_from([None, None, "one", "two"]),
    limit_iops=st.sampled_from([0, 100]),
    mask=st.sampled_from([None, (), (ALICE,), (BOB, ALICE)]),
)


def distinct(them: Iterable[ExportConfig], there: Iterable[str]) -> tuple[ExportConfig, ...]:
    """As a file may have them: no address, no disk and no stated serial twice."""
    chosen: dict[object, ExportConfig] = {}
    for it in them:
        names = {it.key, it.path, it.serial or it.key}
        if not names & chosen.keys() and it.path in there:
            chosen |= dict.fromkeys(names, it)
    return tuple(dict.fromkeys(chosen.values()))


uses = st.sampled_from([lately, unused])


@st.composite
def runs(draw: st.DrawFn) -> Running:
    them = distinct(draw(st.lists(exports, max_size=6)), DISKS)
    return running(
        *(
            served(
                it,
                used=draw(st.sampled_from([lately, unused])),
                writable=not it.read_only or draw(st.booleans()),
            )
            for it in them
        )
    )


files = st.lists(exports, max_size=6).map(lambda them: wanted(*distinct(them, [*DISKS, "/new"])))


def carried_out(there: Plan, now: Running) -> Running:
    """What a node that holds each disk once comes to."""
    model = dict(now.exports)
    for step in there.steps:
        if isinstance(step, Remove):
            del model[step.export.key]
        elif isinstance(step, Change):
            was = model[step.export.key]
            mask = was.mask if step.export.mask is None else step.export.mask
            model[step.export.key] = was._replace(export=step.export, mask=mask)
        elif isinstance(step, Add):
            assert step.export.key not in model, "its address is free"
            fresh = served(step.export, mask=step.mask or ())
            same = [one for one in model.values() if one.store == fresh.store]
            assert not any(parts_meet(one.export, fresh.export) for one in same), "its disk is free"
            assert fresh.serial not in {one.serial for one in model.values()}, "its serial is free"
            model[step.export.key] = fresh._replace(writable=not step.export.read_only)
    return Running(exports=model)


def shown(it: ExportConfig) -> ExportConfig:
    """Without what clients cannot see."""
    return replace(it, serial=None)


@given(files, runs(), st.booleans())
def test_done_it_is_as_wanted_and_twice_is_empty(file: Config, now: Running, remove: bool) -> None:
    there = plan(file, now, DISKS, remove=remove)
    if there.problems:
        assert there.steps == ()
        return
    after = carried_out(there, now)
    waiting = {it.address for it in (*there.kept, *there.waits)}
    is_now = {it.export.address: shown(it.export) for it in after.exports.values()}
    should_be = {it.address: shown(it) for it in file.exports}
    assert {at: it for at, it in is_now.items() if at not in waiting} == {
        at: it for at, it in should_be.items() if at not in waiting
    }
    again = plan(file, after, DISKS, remove=remove)
    assert again.steps == ()
    assert again.problems == ()


@given(files, runs(), st.booleans())
def test_what_stays_as_it_is_is_not_touched(file: Config, now: Running, remove: bool) -> None:
    there = plan(file, now, DISKS, remove=remove)
    touched = [it.export.address for it in there.steps if not isinstance(it, Adjust)]
    same = [one for one in now.exports.values() if file.by_key.get(one.export.key) == one.export]
    quiet = {one.export.address for one in same if one.writable or one.export.read_only}
    assert not quiet & set(touched)
    if not remove:
        used = {one.export.address for one in now.exports.values() if one.used()}
        assert not used & {it.export.address for it in there.steps if isinstance(it, Remove | Add)}


@given(files, runs())
def test_no_host_gets_access_by_what_is_not_stated(file: Config, now: Running) -> None:
    there = plan(file, now, DISKS, remove=True)
    before = {one.store: one for one in now.exports.values()}
    for one in carried_out(there, now).exports.values():
        was = before.get(one.store)
        if was is not None and one.export.mask is None and parts_meet(was.export, one.export):
            assert one.mask == was.mask


def parts_meet(one: ExportConfig, other: ExportConfig) -> bool:
    spans = [set(range(it.offset, it.offset + (it.length or 100))) for it in (one, other)]
    return bool(spans[0] & spans[1])


@given(files, runs(), st.booleans())
def test_removals_come_first_and_all_of_it_can_be_said(file: Config, now: Running, remove: bool) -> None:
    there = plan(file, now, DISKS, remove=remove)
    kinds = [isinstance(it, Remove) for it in there.steps]
    assert kinds == sorted(kinds, reverse=True)
    assert json.loads(json.dumps(there.facts()))["steps"] == [it.facts() for it in there.steps]
    assert all("\n" not in said for said in there.sentences)


def test_a_volume_by_another_name_is_the_same_disk_and_stays() -> None:
    there = {"fast/web1": 1, "fast/www": 1, "fast/other": 2, "/a": 1}
    now = running(served(export(0, "fast/web1"), there, used=lately))
    assert planned(now, export(0, "fast/www"), there=there) == Plan()
    for path in ("fast/other", "/a"):
        (kept,) = planned(now, export(0, path), there=there).kept
        assert kept.text.startswith("a client used it in the last minute")


def test_what_is_known_of_a_place_is_the_reason_to_wait() -> None:
    why = {"fast/web1": "pool fast is not there"}
    steps = planned(running(), export(0, "fast/web1"), export(1, "/none"), there={}, why=why)
    assert [it.sentence for it in steps.waits] == ["e1.0: pool fast is not there", "e1.1: /none is not there"]
