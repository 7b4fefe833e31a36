"""Volumes that are told in portions."""

import json
from pathlib import Path

import pytest

from aoe import limits
from aoe.cli import volumes
from aoe.pool.facts import facts_of, listed
from aoe.pool.requests import Clone, Create, Cut
from tests.pool.pools import MIB, fresh, working


def test_all_are_told_once_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LISTED_BYTES", 600)
    with working(fresh(tmp_path), reserve=0) as work:
        for number in range(7):
            work.do(Create(f"web{number}", 1 << 20, "raw"))
        told, portions = list[str](), 0
        found = {"last": "", "more": True}
        while found["more"]:
            found = listed(work, found["last"])
            told += [it["volume"] for it in found["volumes"]]
            portions += 1
        assert told == [f"fast/web{number}" for number in range(7)]
        assert 1 < portions < 7
        assert listed(work, "web6") == {
            **{"volumes": [], "problems": [], "last": "web6", "more": False, "leftovers": []}
        }


def test_how_many_there_are_is_told_where_not_all_are(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LISTED_STATES_MAX", 2)
    with working(pool) as work:
        work.do(Create("base", MIB))
        for number in range(3):
            work.do(Cut("base", f"a{number}"))
            work.do(Clone("base", "a0", f"web{number}"))
        (base, *_) = listed(work)["volumes"]
    assert [it["name"] for it in base["snapshots"]] == ["a1", "a2"]
    assert base["clones"] == ["fast/web1", "fast/web2"]
    assert (base["snapshot_count"], base["clone_count"]) == (3, 3)
    said = volumes._lines(base)
    assert "3 snapshots holding" in said[0]
    for what in ("snapshots", "clones"):
        assert f"  of 3 {what} the last are told; --config FILE shows all" in said


def test_an_answer_is_no_longer_than_an_opener_can_send(tmp_path: Path) -> None:
    """With as many snapshots and clones as are told, all of the longest names."""
    with working(fresh(tmp_path), reserve=0) as work:
        work.do(Create("a" * limits.POOL_NAME_MAX, 1 << 20, "raw"))
        facts = facts_of(work, "a" * limits.POOL_NAME_MAX)
    name = "b" * limits.POOL_NAME_MAX
    snapshot = {"name": name, "made": facts["made"], "bytes": 1 << 57, "cause": "before-rollback"}
    most = limits.LISTED_STATES_MAX
    facts |= {"path": "/" * 4096, "snapshots": [snapshot] * most, "clones": [f"{name}/{name}"] * most}
    leftovers = limits.LISTED_LEFTOVERS_MAX * 512
    assert len(json.dumps(facts)) + limits.LISTED_BYTES + leftovers < limits.OPENER_MESSAGE_BYTES_MAX
