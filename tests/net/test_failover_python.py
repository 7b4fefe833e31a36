"""Failover between targets on the engine in Python, to an initiator on each arithmetic. It is one scenario:
`tools/soak` has them all."""

from pathlib import Path

import pytest

from tests.net.test_failover import survived
from tests.support.tools import need_engine

ENGINES = ("python",)


@pytest.mark.parametrize("initiator", ["python", "c"])
def test_the_owner_is_paused_and_goes_on(initiator: str, tmp_path: Path) -> None:
    """Neither a write nor a TRIM that the owner had in its queue lands over what the other one did."""
    if initiator == "c":
        need_engine()
    survived(tmp_path, "pause", initiator=initiator)
