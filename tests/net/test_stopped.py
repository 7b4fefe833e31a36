"""A client that is stopped (Ctrl-Z) for longer than its requests may take goes on when it is continued. What
its server answered at last was lost, as it is where nobody takes it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net import stopped_client
from tests.support.labs.loss import need_loss
from tests.support.labs.nbd_client import READ, WRITE, NbdClient
from tests.support.labs.nbdkit import nbd_door, socket_path
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.waiting import at_best

ENGINES = ("c",)
TIMEOUT_S, STOP_S, GO_ON_S = 1.5, 4.0, 1.0
RAN_MAX_S = 0.9
"""How long they may run unanswered, and nothing is said of the server."""
BLOCK = 4096


@contextmanager
def stopped(lab: Lab, *pids: int) -> Iterator[None]:
    """What is asked for inside is not answered, and then they do not run for a while. AssertionError where
    they ran for longer than is judged here, as this process had no processor."""
    need_loss()
    (cable,) = lab.cables
    began_s = time.monotonic()
    lab.lose(cable.b, 1)
    yield
    time.sleep(0.2)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    ran_s = time.monotonic() - began_s
    time.sleep(STOP_S)
    began_s = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    lab.lose(cable.b, None)
    assert ran_s + time.monotonic() - began_s < RAN_MAX_S


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_program_goes_on(language: str, lab: Lab, tmp_path: Path) -> None:
    store = image(tmp_path / "disk", 2048)
    command = (sys.executable, stopped_client.__file__, language, str(TIMEOUT_S))

    def tried() -> tuple[int, str, str]:
        client = lab.popen("client", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "go\n"
            with stopped(lab, client.pid):
                pass
            time.sleep(GO_ON_S)
        finally:
            client.send_signal(signal.SIGUSR1)
            out, complaint = client.communicate(timeout=60)
        return client.returncode, out, complaint

    with AoeTarget(lab, tmp_path, f"{store}=1.1"):
        status, out, complaint = at_best(tried)
    assert status == 0, complaint
    said = json.loads(out)
    assert said["errors"] == []
    assert said["done"] > 0
    assert "down" not in said["states"]


def test_what_is_served_over_nbd_goes_on(lab: Lab, tmp_path: Path) -> None:
    store = image(tmp_path / "disk", 2048)
    options = ("--timeout", str(TIMEOUT_S))

    def tried() -> None:
        with (
            socket_path() as socket,
            nbd_door(lab, "client", socket, "e1.1", options=options) as door,
            NbdClient(socket) as client,
        ):
            (nbdkit,) = Path(f"/proc/{door.pid}/task/{door.pid}/children").read_text().split()
            client.ask(WRITE, 0, BLOCK, b"\x11" * BLOCK)
            with stopped(lab, int(nbdkit), door.pid):
                asked = [client.send(READ, 0, BLOCK), client.send(WRITE, BLOCK, BLOCK, b"\x22" * BLOCK)]
            answers = {handle: (error, data) for handle, error, data in (client.answer(), client.answer())}
            if answers != {asked[0]: (0, b"\x11" * BLOCK), asked[1]: (0, b"")}:
                pytest.fail(f"{answers}")
            assert client.ask(READ, BLOCK, BLOCK) == b"\x22" * BLOCK

    with AoeTarget(lab, tmp_path, f"{store}=1.1"):
        at_best(tried)
