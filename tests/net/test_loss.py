"""The lab's own loss of frames: it loses what it says, at the one end that it is told."""

from collections.abc import Iterator

import pytest

from tests.support.labs.loss import need_loss
from tests.support.labs.network import Lab
from tests.support.labs.ports import PacketPort

ENGINES = ("python",)
ETHERNET_II = bytes.fromhex("88a2")
FRAMES = 4000
BATCH = 100
# 5 % of FRAMES, give or take five standard deviations.
LEAST, MOST = 130, 270


@pytest.fixture
def jumbo() -> Iterator[Lab]:
    need_loss()
    with Lab(mtu=9000) as made:
        yield made


def frame_from(sender: PacketPort, receiver: PacketPort) -> bytes:
    return (receiver.mac + sender.mac + ETHERNET_II).ljust(9014, b"\x5a")


def lost(sender: PacketPort, receiver: PacketPort) -> int:
    """How many of FRAMES do not arrive; every one that does is as it was sent."""
    frame, arrived = frame_from(sender, receiver), 0
    for first in range(0, FRAMES, BATCH):
        for _ in range(BATCH):
            sender.send(frame)
        patience = 0.3 if first + BATCH >= FRAMES else 0.005
        while (got := receiver.receive(patience)) is not None:
            assert got == frame
            arrived += 1
    return FRAMES - arrived


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.05, LEAST, MOST), (1, FRAMES, FRAMES)])
def test_a_share_of_jumbo_frames_is_lost(share: float, least: int, most: int, jumbo: Lab) -> None:
    target, client = jumbo.port("target"), jumbo.port("client")
    jumbo.lose(jumbo.cables[0].b, share)
    assert least <= lost(target, client) <= most
    assert lost(client, target) == 0


def test_the_share_can_be_changed_and_taken_away(jumbo: Lab) -> None:
    target, client, end = jumbo.port("target"), jumbo.port("client"), jumbo.cables[0].b
    found = []
    for share in (1, 0, 1, None):
        jumbo.lose(end, share)
        found.append(lost(target, client))
    assert found == [FRAMES, 0, FRAMES, 0]
