"""Two primaries, each a host of its own, on one shared file: what a client's writers see when one is lost."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import failover
from tests.support.labs.failover import SCENARIOS
from tests.support.waiting import at_best

ENGINES = ("c",)


def survived(directory: Path, name: str, **how: Any) -> dict[str, Any]:
    """What the writers said: nothing is wrong with it. Others may spoil how soon they go on, not what they
    read."""
    scenario = SCENARIOS[name]

    def tried() -> dict[str, Any]:
        said = failover.run(Path(tempfile.mkdtemp(dir=directory)), scenario, **how)
        print(said)
        late = failover.complaints(scenario, said)
        if any(it not in late for it in said["faults"]):
            pytest.fail(f"{said['faults']}")
        assert not late
        return said

    return at_best(tried, 3)


def test_the_link_to_the_owner_goes_down(tmp_path: Path) -> None:
    survived(tmp_path, "link down")


def test_the_owner_is_killed(tmp_path: Path) -> None:
    said = survived(tmp_path, "kill")
    assert sorted(path["state"] for path in said["paths"]) == ["down", "usable"]


def test_the_owner_is_killed_and_starts_again(tmp_path: Path) -> None:
    survived(tmp_path, "kill and start")


def test_the_owner_is_paused_and_goes_on(tmp_path: Path) -> None:
    """What it had in its queue must not land over what was written by the other one meanwhile."""
    survived(tmp_path, "pause")


@pytest.mark.parametrize("direction", ["from client", "to client"])
def test_the_network_swallows_one_direction(direction: str, tmp_path: Path) -> None:
    """The link stays up. What is lost on the way to the client was done by the owner all the same."""
    survived(tmp_path, f"silence {direction}")


def test_one_after_the_other_is_restarted(tmp_path: Path) -> None:
    survived(tmp_path, "restart")


def test_links_that_flap(tmp_path: Path) -> None:
    survived(tmp_path, "flap")


GOOD: dict[str, Any] = {
    "calls": 5000,
    "pause_s": 0.01,
    "moves": 1,
    "verbs": dict.fromkeys(("read", "write", "write with FUA", "trim"), 100),
}


@pytest.mark.parametrize(
    ("other", "complains"),
    [
        ({}, 0),
        ({"calls": 200}, 1),
        ({"pause_s": 0.5}, 1),
        ({"moves": 2}, 1),
        ({"verbs": GOOD["verbs"] | {"trim": 9}}, 1),
        ({"verbs": {"read": 5000}}, 1),
    ],
)
def test_what_is_not_as_it_should_be_is_seen(other: dict[str, Any], complains: int) -> None:
    assert len(failover.complaints(SCENARIOS["link down"], GOOD | other)) == complains
