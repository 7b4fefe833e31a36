"""A service that starts again under load, its sockets held by a manager as systemd holds them: clients see a
pause and no error, and nothing that was acknowledged is lost or undone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.net.service import export
from tests.node.manager import Manager
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.waiting import wait_for

SECTORS = 65536
TIMES = int(os.environ.get("AOE_RESTARTS", "3"))


def service(lab: Lab, work: Path, engine: str) -> Manager:
    disk = work / "disk"
    image(disk, SECTORS)
    head = f'[target]\ninterfaces = ["v0"]\nstate-dir = "{work}/state"\nengine = "{engine}"\n'
    (work / "target.toml").write_text(head + export(disk, "1.0"))
    words = ["run", "--config", work / "target.toml", "--socket", work / "control"]
    return Manager(lab.command("target", sys.executable, "-m", "aoe.cli.target", *words), work)


def client(lab: Lab, seconds: float, engine: str) -> subprocess.Popen[str]:
    words = lab.command("client", sys.executable, "-m", "tests.net.restart_client", str(seconds), "1", engine)
    started = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "go\n"
    return started


def said(running: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(running.communicate(timeout=60)[0])
    assert running.returncode == 0
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
def test_clients_see_a_pause_and_nothing_else(
    lab: Lab, tmp_path: Path, engine: str, how: signal.Signals
) -> None:
    with service(lab, tmp_path, engine) as manager:
        manager.start()
        held = manager.names()
        running = client(lab, 2.5 * TIMES, engine)
        for _ in range(TIMES):
            time.sleep(0.7)
            status = manager.kill(how)
            assert status == (0 if how == signal.SIGTERM else -how)
            manager.start()
            wait_for(lambda: manager.names() == held, what="what the first life had is held on")
        found = said(running)
    sockets = 2 if engine == "c" else 1
    assert sorted(it.split("-")[1] for it in held) == ["address", *["link"] * sockets, "store"]
    assert not found["faults"]
    assert found["calls"] > 100 * TIMES
    assert found["pause_s"] < 6
