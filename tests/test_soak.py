"""The soak goes round all scenarios, goes on where it was, and hides no fault."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import failover
from tests.support.labs.failover import SCENARIOS
from tests.support.programs import soak


def a_run(kind: soak.Kind, seed: int, pause_s: float = 1.0, faults: tuple[str, ...] = ()) -> soak.Run:
    when = "2000-01-01T00:00:00+00:00"
    return soak.Run(kind.scenario, seed, when, "abc", pause_s, 1, 5000, list(faults), kind.engine)


def test_every_scenario_has_its_turn_on_each_engine_and_a_new_seed_each_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2 * 2 * len(SCENARIOS)):
        soak.keep(path, a_run(*soak.next_run(soak.ledger(path), SCENARIOS)))
    done = [(run.scenario, run.engine, run.seed) for run in soak.ledger(path)]
    once = [(name, engine) for name in SCENARIOS for engine in ("c", "python")]
    assert done == [(*kind, seed) for seed in (1, 2) for kind in once]
    left = [soak.COURSES[kind.scenario].runs - 2 * (kind.scenario in SCENARIOS) for kind in soak.KINDS]
    assert soak.missing(soak.ledger(path)) == sum(left)


def test_each_scenario_comes_as_often_as_it_is_wanted(tmp_path: Path) -> None:
    runs: list[soak.Run] = []
    while soak.missing(runs):
        runs.append(a_run(*soak.next_run(runs)))
    wanted = {kind: soak.COURSES[kind.scenario].runs for kind in soak.KINDS}
    assert Counter(run.kind for run in runs) == wanted


def test_a_scenario_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(1, tmp_path, ["kill", "rest"]) == 2
    assert "no scenario rest; there are: link down, kill," in capsys.readouterr().err


def test_what_a_fuzzer_finds_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(_: Path, seconds: str, name: str, seed: str) -> tuple[int, str]:
        return int(seed) % 2, f"{name}: {'a' if int(seed) % 2 else 'no'} finding in 7 runs of {seconds} s"

    monkeypatch.setattr(soak, "fuzz", found)
    kind = soak.Kind("fuzzed loop", "c")
    good, bad = (soak.perform(kind, seed, "abc", tmp_path) for seed in (2, 3))
    assert (good.calls, good.faults) == (7, [])
    assert bad.faults == [f"loop: a finding in 7 runs of {soak.FUZZ_S} s"]
    assert {it.engine for it in soak.KINDS if it.scenario.startswith("fuzzed")} == {"c"}


def test_the_table_has_the_worst_and_the_median() -> None:
    kind = soak.Kind("kill", "python")
    runs = [a_run(kind, 1, 0.9), a_run(kind, 2, 1.1), a_run(kind, 3, 1.0, ("read before written",))]
    assert "| kill, python | 3 | 1.100 | 1.000 | 15000 | 1 |" in soak.table(runs)


def test_what_else_a_scenario_tells_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(_: Path, scenario: failover.Scenario, seed: int, *engines: str) -> dict[str, Any]:
        return {
            "pause_s": 1.0,
            "pause_absent_s": 2.5 / seed,
            "peak_kib": 1000 * seed,
            "all": [1],
            "faults": [],
        }

    monkeypatch.setattr(failover, "run", told)
    path = tmp_path / "ledger.jsonl"
    for seed in (1, 2):
        soak.keep(path, soak.perform(soak.Kind("kill", "c"), seed, "abc", tmp_path))
    assert [run.more for run in soak.ledger(path)] == [
        {"pause_absent_s": 2.5, "peak_kib": 1000},
        {"pause_absent_s": 1.25, "peak_kib": 2000},
    ]
    assert "| kill, c | 2 | 1.000 | 1.000 | 0 | 0 | pause_absent_s 2.5, peak_kib 2000 |" in soak.table(
        soak.ledger(path)
    )


def test_a_line_of_an_older_ledger_is_a_run_in_c(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    line = a_run(soak.Kind("kill", "c"), 4)._asdict()
    del line["engine"]
    path.write_text(json.dumps(line) + "\n")
    assert soak.ledger(path) == [a_run(soak.Kind("kill", "c"), 4)]


@pytest.mark.parametrize("raises", [False, True])
def test_a_fault_is_told_and_what_it_left_is_kept(
    raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path, *_: object) -> dict[str, Any]:
        (directory / "trace").write_text("here")
        os.mkfifo(directory / "pipe")
        assert not raises, "the client ended"
        return {"pause_s": 1.0, "moves": 1, "calls": 5000, "faults": ["torn"]}

    monkeypatch.setattr(failover, "run", broken)
    run = soak.perform(soak.Kind("link down", "c"), 7, "abc", tmp_path)
    assert any(("the client ended" if raises else "torn") in fault for fault in run.faults)
    assert [it.name for it in (tmp_path / "link-down-c-7").iterdir()] == ["trace"]
