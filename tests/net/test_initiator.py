"""Our initiator against real servers over Ethernet: ours on either engine, and vblade."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.net import exercise
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, Target, Vblade, image
from tests.support.tools import need, need_engine, need_namespaces

SECTORS = 8192
CLIENTS = {"python": "client in python", "c": "client in c"}
"""The initiator's engines, and how tests with them are called."""


def exercised(lab: Lab, client: str, operations: int = 200) -> dict[str, Any]:
    """What the exercise said, with the client's engine: it compares what it reads itself."""
    command = (exercise.__file__, "e1.1", "v0", str(operations), client)
    done = lab.run("client", sys.executable, *command, timeout=60)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["size"] == SECTORS * 512
    return said


@contextmanager
def served(kind: str, mtu: int, directory: Path) -> Iterator[tuple[Lab, Target]]:
    need_namespaces()
    path = image(directory / "disk", SECTORS)
    with Lab(mtu=mtu) as lab:
        if kind == "vblade":
            need("vblade")
            target: Target = Vblade(lab, path)
        else:
            target = AoeTarget(lab, directory, f"{path}=1.1")
        with target:
            yield lab, target


@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_any_bytes_over_ethernet(mtu: int, client: str, engine: str, tmp_path: Path) -> None:
    need_engine()
    with served("ours", mtu, tmp_path) as (lab, target):
        exercised(lab, client)
        assert target.alive
        said = target.counters()
        assert ("engine_writes=0" not in said and "engine_writes=" in said) is (engine == "c"), said


@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
@pytest.mark.parametrize("kind", ["vblade"])
def test_vblade_serves_us_too(kind: str, client: str, mtu: int, tmp_path: Path) -> None:
    """It answers with short frames, version 0 advertisements and a FLUSH of its own kind."""
    need_engine()
    with served(kind, mtu, tmp_path) as (lab, _):
        exercised(lab, client)
