"""Limits as clients meet them: what `aoe bench` gets, and what others get meanwhile."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs.engine_target import counted
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_namespaces

MTU = 9000
SECTORS = 65536
SHARE = 0.10
"""How far from its limit a rate may be."""
RUNTIME_S = 3.0
BURST_S = 0.1
ATTEMPTS = 4


def bench(lab: Lab, side: str, *words: str) -> "subprocess.Popen[bytes]":
    load = ("--rw", "randread", "--runtime", f"{RUNTIME_S:g}", "--interface", "v0", "--json", *words)
    command = (sys.executable, "-m", "aoe.cli.client", "bench", "e1.1", *load)
    return lab.popen(side, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def result(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """What it measured; it saw no error, and no path that went down."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert not re.search(r"lost|slow|down|dead|switch", err.decode()), err.decode()
    (said,) = (json.loads(line) for line in out.decode().splitlines())
    assert said["errors"] == 0
    found: dict[str, Any] = said
    return found


def most(said: dict[str, Any], limit: float) -> float:
    """That a run may get, which has the burst once, and counts what was outstanding at its end. A second run
    finds the burst saved up again."""
    return limit * (1 + SHARE) + said["iodepth"] / RUNTIME_S + limit * BURST_S / RUNTIME_S


def is_near(said: dict[str, Any], limit: float) -> bool:
    """Within the share."""
    return limit * (1 - SHARE) <= said["requests_per_s"] <= most(said, limit)


def at_best(tried: Callable[[], bool]) -> bool:
    """Others use this machine too, and may keep a client from using up what it is given, once and again."""
    return any(tried() for _ in range(ATTEMPTS))


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
    with AoeTarget(lab, tmp_path, f"{store}=1.1", *limit) as target:

        def tried() -> bool:
            said = result(bench(lab, "client", *words))
            assert said["requests_per_s"] <= most(said, per_s)
            return is_near(said, per_s)

        assert at_best(tried)
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

            def tried() -> bool:
                before, since = counted(target)["reads"], time.monotonic()
                running = [bench(lab, side, "--iodepth", "16") for side in ("client", "other")]
                found = [result(it) for it in running]
                reads = counted(target)["reads"] - before
                assert reads <= whole * (1 + SHARE) * (time.monotonic() - since + BURST_S)
                assert all(said["requests_per_s"] <= most(said, alone) for said in found)
                return all(said["requests_per_s"] >= each * (1 - SHARE) for said in found)

            assert at_best(tried)


def test_one_that_is_over_its_limit_leaves_another_alone(tmp_path: Path) -> None:
    """What is over a limit is dropped, and neither it nor its copies are in the way."""
    need_namespaces()
    store = image(tmp_path / "disk", SECTORS)
    with Lab(("target", "client", "other"), mtu=MTU) as lab:
        lab.cable("target", "other")
        with AoeTarget(
            lab, tmp_path, f"{store}=1.1", "--interface", "v1", "--limit-client-iops", "100"
        ) as it:

            def tried() -> bool:
                greedy = bench(lab, "client", "--iodepth", "256")
                modest = result(bench(lab, "other", "--iodepth", "1"))
                result(greedy)
                assert modest["requests_per_s"] <= most(modest, 100)
                return is_near(modest, 100)

            assert at_best(tried)
            assert counted(it)["limited"]
