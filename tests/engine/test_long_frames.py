"""Frames that are longer than what the engine has room for, as the MTU was raised after it had begun."""

import select
import socket
from pathlib import Path

import pytest

from aoe.limits import FRAME_ROOM
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_engine, need_namespaces
from tests.support.waiting import PATIENCE_S
from tests.target import driver

MTU = 12000


def answer(raw: socket.socket, request: bytes) -> bytes:
    """The reply to a request, whatever else comes."""
    raw.send(request)
    while select.select([raw], [], [], PATIENCE_S)[0]:
        data, address = raw.recvfrom(65536)
        if address[2] != socket.PACKET_OUTGOING and data[20:24] == request[20:24]:
            return data
    raise AssertionError("no answer")


@pytest.mark.parametrize("engine", ["python", "c"])
def test_a_frame_beyond_the_room_for_it_does_no_harm(engine: str, tmp_path: Path) -> None:
    """Up to 50 bytes more fit a slot of the ring than fit what takes them up to Python."""
    need_namespaces()
    if engine == "c":
        need_engine()
    path = f"{image(tmp_path / 'disk', 64)}=1.1"
    words = (path, "--engine", engine, "--max-frame-age", "20")  # a write is sent once
    with Lab(mtu=9000) as lab, AoeTarget(lab, tmp_path, *words):
        to = {"dst": lab.cables[0].a.mac, "shelf": 1, "slot": 1}
        lab.set_mtu(lab.cables[0], MTU)
        with lab.socket("client", "v0") as raw:
            for number, length in enumerate((*range(FRAME_ROOM - 2, FRAME_ROOM + 80), MTU + 14), 1):
                raw.send(driver.identify(tag=number, **to).ljust(length, b"\0"))
                raw.send(driver.trim((0, 1), tag=1000 + number, **to).ljust(length, b"\0"))
            assert answer(raw, driver.write(0, bytes(512), tag=5000, **to))[27] == 0x40
            assert answer(raw, driver.identify(tag=5001, **to))[27] == 0x40
