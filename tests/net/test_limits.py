"""Limits as clients meet them: what `aoe bench` gets, and what others get meanwhile."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs.engine_target import counted
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_namespaces
from tests.support.waiting import PATIENCE_S, at_best, delayed_s

MTU = 9000
SECTORS = 65536
SHARE = 0.10
"""How far from its limit a rate may be."""
RUNTIME_S = 3.0
BURST_S = 0.1


class Bench:
    """`aoe bench` on one side of a lab, under way."""

    def __init__(self, target: AoeTarget, side: str, *words: str) -> None:
        load = ("--rw", "randread", "--runtime", f"{RUNTIME_S:g}", "--interface", "v0", "--json", *words)
        command = (sys.executable, "-m", "aoe.cli.client", "bench", "e1.1", *load)
        self._target, self._before_s = target, delayed_s(target.pid)
        self._process = target.lab.popen(side, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def result(self) -> dict[str, Any]:
        """What it measured; it saw no error, and no path that went down. `away_s` is for how long others on
        this machine kept it, or the target, from running."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        away_s = delayed_s(self._process.pid) + delayed_s(self._target.pid) - self._before_s
        out, err = self._process.communicate()
        assert self._process.returncode == 0, err.decode()
        assert not re.search(r"lost|slow|down|dead|switch", err.decode()), err.decode()
        (said,) = (json.loads(line) for line in out.decode().splitlines())
        assert said["errors"] == 0
        return {**said, "away_s": away_s}


def most(said: dict[str, Any], limit: float) -> float:
    """That a run may get, which has the burst once, and counts what was outstanding at its end. A second run
    finds the burst saved up again."""
    return limit * (1 + SHARE) + said["iodepth"] / RUNTIME_S + limit * BURST_S / RUNTIME_S


def assert_near(said: dict[str, Any], limit: float, most_of: float | None = None) -> None:
    """Within the share of its limit, in the time in which it could use it; more it never gets."""
    if said["requests_per_s"] > most(said, most_of or limit):
        pytest.fail(f"more than {most_of or limit} a second: {said}")
    assert said["requests_per_s"] >= limit * (1 - SHARE) * (1 - said["away_s"] / RUNTIME_S), said


@pytest.mark.parametrize(
    ("limit", "per_s", "words"),
    [
        (("--limit-iops", "100"), 100, ()),
        (("--limit-iops", "1000"), 1000, ()),
        (("--limit-client-iops", "500"), 500, ("--rw", "randrw", "--overwrite")),
        (("--limit-bandwidth", "8M"), 1024, ("--bs", "8k")),
        (("--limit-client-bandwidth", "4M", "--limit-burst", "0"), 512, ("--bs", "8k", "--iodepth", "4")),
        (("--limit-iops", "20"), 20, ("--iodepth", "4")),
    ],
)
def test_a_client_gets_what_the_limit_lets_pass(
    limit: tuple[str, ...], per_s: int, words: tuple[str, ...], lab: Lab, tmp_path: Path
) -> None:
    store = image(tmp_path / "disk", SECTORS)
    with AoeTarget(lab, tmp_path, f"{store}=1.1", "--max-frame-age", f"{PATIENCE_S}", *limit) as target:
        at_best(lambda: assert_near(Bench(target, "client", *words).result(), per_s))
        assert counted(target)["expired"] == 0


@pytest.mark.parametrize("limit", [("--limit-client-iops", "300"), ("--limit-iops", "600")])
def test_two_clients_get_the_same(limit: tuple[str, str], tmp_path: Path) -> None:
    """One that began earlier has the limit of both to itself for a moment, and so more in the end."""
    need_namespaces()
    each, whole = 300, 600
    alone = each if "client" in limit[0] else whole
    store = image(tmp_path / "disk", SECTORS)
    with Lab(("target", "client", "other"), mtu=MTU) as lab:
        lab.cable("target", "other")
        with AoeTarget(lab, tmp_path, f"{store}=1.1", "--interface", "v1", *limit) as target:

            def tried() -> None:
                before, since = counted(target)["reads"], time.monotonic()
                running = [Bench(target, side, "--iodepth", "16") for side in ("client", "other")]
                found = [it.result() for it in running]
                reads = counted(target)["reads"] - before
                if reads > whole * (1 + SHARE) * (time.monotonic() - since + BURST_S):
                    pytest.fail(f"more than {whole} a second: {reads}")
                for said in found:
                    assert_near(said, each, alone)

            at_best(tried)


def test_one_that_is_over_its_limit_leaves_another_alone(tmp_path: Path) -> None:
    """What is over a limit is dropped, and neither it nor its copies are in the way."""
    need_namespaces()
    store = image(tmp_path / "disk", SECTORS)
    with Lab(("target", "client", "other"), mtu=MTU) as lab:
        lab.cable("target", "other")
        with AoeTarget(
            lab, tmp_path, f"{store}=1.1", "--interface", "v1", "--limit-client-iops", "100"
        ) as it:

            def tried() -> None:
                greedy = Bench(it, "client", "--iodepth", "256")
                modest = Bench(it, "other", "--iodepth", "1").result()
                greedy.result()
                assert_near(modest, 100)

            at_best(tried)
            assert counted(it)["limited"]
