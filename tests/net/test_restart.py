"""A service that starts again under the load of two clients, its sockets, stores and addresses held by a
manager as systemd holds them: clients see a pause and no error, and nothing that was acknowledged is lost or
undone. `tools/soak` does it 50 times, with more exports."""

import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import restarts
from tests.support.waiting import at_best

TIMES = 3
USED = 4
PAUSE_MAX_S = 6.0
"""On a machine that does other things, too; bench/README.md has what it is."""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
def test_clients_see_a_pause_and_nothing_else(tmp_path: Path, engine: str, how: signal.Signals) -> None:
    def tried() -> dict[str, Any]:
        work = Path(tempfile.mkdtemp(dir=tmp_path))
        found = restarts.run(work, how, engine, seed=1, times=TIMES, used=USED)
        print(found)
        if found["faults"]:
            pytest.fail(f"{found['faults']}")
        assert found["pause_s"] < PAUSE_MAX_S
        return found

    found = at_best(tried, 2)
    assert len(found["pauses_s"]) == TIMES
    sockets = len(restarts.CLIENTS) * (2 if engine == "c" else 1)
    held = found["held"]
    assert (held["link"], held["store"]) == (sockets, USED)
    assert held["address"] >= USED, "on each cable, unless they are one network"


def test_a_wait_counts_for_each_restart_that_it_lasts_through() -> None:
    waits = [(0.5, 1.5), (2.25, 2.5), (2.0, 4.5), (9.0, 9.5)]
    assert restarts.longest([1.0, 2.0, 4.0, 5.0], waits) == [1.0, 2.5, 2.5, 0.5]
    assert restarts.longest([3.0, 4.0], [(1.0, 2.0), (5.0, 6.0)]) == [0.0, 1.0]
