"""The soak goes round all scenarios, goes on where it was, and hides no fault."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import failover
from tests.support.labs.failover import SCENARIOS
from tests.support.programs import soak


def a_run(name: str, seed: int, pause_s: float = 1.0, faults: tuple[str, ...] = ()) -> soak.Run:
    return soak.Run(name, seed, "2000-01-01T00:00:00+00:00", "abc", pause_s, 1, 5000, list(faults))


def test_every_scenario_has_its_turn_and_a_new_seed_each_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2 * len(SCENARIOS)):
        soak.keep(path, a_run(*soak.next_run(soak.ledger(path))))
    done = [(run.scenario, run.seed) for run in soak.ledger(path)]
    assert done == [(name, seed) for seed in (1, 2) for name in SCENARIOS]
    assert soak.missing(soak.ledger(path)) == (soak.RUNS_WANTED - 2) * len(SCENARIOS)


def test_the_table_has_the_worst_and_the_median() -> None:
    runs = [a_run("kill", 1, 0.9), a_run("kill", 2, 1.1), a_run("kill", 3, 1.0, ("read before written",))]
    assert "| kill | 3 | 1.100 | 1.000 | 15000 | 1 |" in soak.table(runs)


@pytest.mark.parametrize("raises", [False, True])
def test_a_fault_is_told_and_what_it_left_is_kept(
    raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path, *_: object) -> dict[str, Any]:
        (directory / "trace").write_text("here")
        assert not raises, "the client ended"
        return {"pause_s": 1.0, "moves": 1, "calls": 5000, "faults": ["torn"]}

    monkeypatch.setattr(failover, "run", broken)
    run = soak.perform("link down", 7, "abc", tmp_path)
    assert any(("the client ended" if raises else "torn") in fault for fault in run.faults)
    assert (tmp_path / "link-down-7" / "trace").read_text() == "here"
