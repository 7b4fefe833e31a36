"""Frames of a VLAN that is not ours: neither our target nor our initiator takes them for its own.

The tag is IEEE 802.1Q's. The kernel takes the outermost one off before a packet socket sees the frame, so
only what it says beside the bytes tells such a frame from ours; a priority tag (VLAN 0) names no VLAN.
"""

import asyncio
import re
import time
from functools import partial
from pathlib import Path

import pytest

import aoe
from aoe.wire import ata, frame
from tests.net.test_initiator import CLIENTS
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.ports import PacketPort
from tests.support.labs.raw_client import READ_EXT, WRITE_EXT, ata_request

PRIORITY = b"\x81\x00\xe0\x00"
ONE = {
    "a VLAN": b"\x81\x00\x00\x05",
    "a VLAN and a priority": b"\x81\x00\xe0\x05",
    "a service VLAN": b"\x88\xa8\x00\x05",
}
TWO = {
    "a VLAN in a VLAN": b"\x81\x00\x00\x05\x81\x00\x00\x06",
    "a VLAN in a service VLAN": b"\x88\xa8\x00\x05\x81\x00\x00\x06",
    "no VLAN in a VLAN": b"\x81\x00\x00\x05\x81\x00\x00\x00",
    "a VLAN in a priority": PRIORITY + b"\x81\x00\x00\x05",
}
TAGS = ONE | TWO
LBA = 1000
STORED, FORGED = b"s" * 512, b"f" * 512
PATIENCE_S = 60
HELD_S = 0.2


def tagged(data: bytes, tag: bytes) -> bytes:
    return data[:12] + tag + data[12:]


def test_a_request_of_a_vlan_is_not_carried_out(lab: Lab, tmp_path: Path) -> None:
    """Catches a target that looks only at the bytes of a frame: it would write for a host of another VLAN."""
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        client = lab.client()
        write = ata.encode(ata_request(WRITE_EXT, LBA, 1, FORGED))
        for name, tag in TAGS.items():
            for dst in (lab.cables[0].a.mac, frame.BROADCAST):
                for command, body in ((frame.Command.ATA, write), (frame.Command.CONFIG, bytes(8))):
                    request = client.request(command, body, dst=dst)
                    assert client.silence(tagged(request, tag), 0.1), name
            assert client.read(LBA) == bytes(512), name
        client.write(LBA, STORED)
        assert client.read(LBA) == STORED
        (counted,) = re.findall(r"other_host=(\d+)", target.counters())
        assert int(counted) >= 4 * len(ONE)  # a second tag may keep a frame from us altogether


def test_a_request_with_a_priority_is_served(lab: Lab, tmp_path: Path) -> None:
    """Catches a target that drops every tag: VLAN 0 only ranks the traffic of the untagged
    network."""
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1"):
        client = lab.client()
        body = ata.encode(ata_request(WRITE_EXT, LBA, 1, STORED))
        assert not client.silence(tagged(client.request(frame.Command.ATA, body), PRIORITY))
        assert client.read(LBA) == STORED


def forge(port: PacketPort, tag: bytes) -> None:
    """Answer the next read of LBA in the server's place, with other bytes."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and (data := port.receive(5)) is not None:
        header, asked = frame.decode(data), ata.decode_request(data)
        assert isinstance(header, frame.Header)
        if isinstance(asked, ata.AtaRequest) and (asked.command, asked.lba) == (READ_EXT, LBA):
            answer = header._replace(dst=header.src, src=header.dst, flags=frame.FLAG_RESPONSE)
            body = ata.encode(ata.AtaReply(0, 0, 0, 0x40, LBA, FORGED))
            return port.send(tagged(frame.encode(answer, body), tag))
    raise AssertionError("the client did not ask")


async def read(lab: Lab, target: AoeTarget, client: str, tag: bytes) -> bytes:
    """What a client reads whose server is slower than the forged answer."""
    async with aoe.attach("e1.1", interface="v0", engine=client) as disk:
        await disk.write(LBA * 512, STORED)
        assert await disk.read(LBA * 512, 512) == STORED  # it waits for what was sent twice
        port = lab.port("target")
        target.pause()
        try:
            reading = asyncio.ensure_future(disk.read(LBA * 512, 512))
            await asyncio.to_thread(forge, port, tag)
            await asyncio.sleep(HELD_S)
        finally:
            target.resume()  # the client waits for it until then, also where this failed
        return await reading


@pytest.mark.parametrize("client", CLIENTS, ids=CLIENTS.get)
def test_a_reply_of_a_vlan_is_not_believed(client: str, lab: Lab, tmp_path: Path) -> None:
    """Catches an initiator that hands out what another VLAN answered. The same reply without a tag, or with
    a priority only, is believed: so it is the VLAN that makes the difference."""
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:

        def said(tag: bytes) -> bytes:
            done = in_namespace(lab.namespace("client"), partial(asyncio.run, read(lab, target, client, tag)))
            assert isinstance(done, bytes)
            return done

        assert {tag: said(tag) for tag in TAGS.values()} == dict.fromkeys(TAGS.values(), STORED)
        assert (said(b""), said(PRIORITY)) == (FORGED, FORGED)
