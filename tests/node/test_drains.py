"""An administrator drains addresses of a node: what hosts are told, who stays, and how long that lasts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.drive import identify
from aoe.errors import ConfigurationError
from aoe.node.drains import DRAINED, OTHERS, Drains
from aoe.target import lasting
from aoe.target.departures import FOREIGN, NO_OTHER, NOT_PROVED
from aoe.wire import ata, stamp
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import Command, format_mac
from aoe.wire.opcodes import IDENTIFY_DEVICE
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import Stamp
from tests.disk.helpers import noise
from tests.node.scene import Scene, export, scene
from tests.serve.initiator import Initiator, decoded

LIFE = "1f2e3d"
FIRST, SECOND = (1, 0), (1, 1)


@asynccontextmanager
async def draining(work: Path, life: str | None = LIFE) -> AsyncIterator[tuple[Scene, Drains]]:
    async with scene(work, export(work, "a"), export(work, "b", 1)) as here:
        yield here, Drains(here.node.target, work / "state", life)


def drains(data: bytes) -> bool:
    vendor = identify.vendor_of(data)
    assert vendor is not None
    return vendor.draining


async def told(host: Initiator, away: int) -> None:
    """As an initiator of ours asks what is served."""
    vendor = identify.vendor_of(await host.identify())
    assert vendor is not None
    body = ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24 | away))
    await host.ask(Command.ATA, stamp.stamped(body, Stamp(7, 0, vendor.instance)), tag=USER_TAG | 1)


def advertised(host: Initiator) -> list[int]:
    """Slots that were told of unasked."""
    heads = [decoded(it) for it in host.frames]
    return [it.slot for it in heads if it.command == Command.CONFIG and it.tag == 0]


def test_it_is_logged_once_however_often_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with draining(tmp_path) as (_, them):
            caplog.set_level("INFO", "aoe.node")
            for keys in ([FIRST], [FIRST], None, None):
                await them.begin(keys, "root")

    asyncio.run(run())
    said = [it.getMessage() for it in caplog.records if "drain by" in it.getMessage()]
    assert said == ["drain by root: e1.0", "drain by root: e1.1"]


def test_hosts_are_told_and_who_asks_for_something_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ADVERTISED_FIRST_S", (3600.0,))  # it says nothing else unasked

    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            host, other = here.host(0), here.host(1)
            await host.write(1, noise(1))
            await other.write(1, noise(2))
            host.frames.clear()
            stay = await them.begin([FIRST])
            assert stay == {"e1.0": {format_mac(host.link.mac): FOREIGN}}
            assert drains(await host.identify())
            assert not drains(await other.identify())
            assert advertised(host) == [0]
            assert await host.read(1) == noise(1), "it is served as before"
            first, second = here.node.status().exports
            assert (first.state, first.reason, first.stays) == ("draining", DRAINED, stay["e1.0"])
            assert (second.state, second.stays) == ("serving", None)
            assert first.served
            await them.end([FIRST])
            assert not drains(await host.identify())
            assert here.states() == {"e1.0": "serving", "e1.1": "serving"}

    asyncio.run(run())


def test_more_clients_than_are_counted_one_by_one_are_not_overlooked(tmp_path: Path) -> None:
    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            for _ in range(limits.CLIENTS_MAX + 1):
                await here.host(0).read(1)
            stay = (await them.begin([FIRST]))["e1.0"]
            assert len(stay) == limits.CLIENTS_MAX + 1
            assert stay["others"] == OTHERS
            await here.host(1).read(1)
            assert "others" not in (await them.begin([SECOND]))["e1.1"]

    asyncio.run(run())


def test_an_initiator_of_ours_stays_until_it_says_that_it_has_left(tmp_path: Path) -> None:
    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            host = here.host(0)
            await told(host, 0)
            await them.begin(None)
            await told(host, 0)
            key = format_mac(host.link.mac)
            assert (await them.begin(None))["e1.0"] == {key: NO_OTHER}
            await told(host, stamp.UNPROVED)
            assert (await them.begin(None))["e1.0"] == {key: NOT_PROVED}
            await told(host, stamp.AWAY)
            assert (await them.begin(None))["e1.0"] == {}
            await told(host, 0)
            assert (await them.begin(None))["e1.0"] == {key: NO_OTHER}, "it came back"

    asyncio.run(run())


def test_it_lasts_for_one_life_of_the_service(tmp_path: Path) -> None:
    async def run(life: str | None, drained: list[str]) -> None:
        async with draining(tmp_path, life) as (here, them):
            target = here.node.target
            assert sorted("e{}.{}".format(*it) for it in target.draining.keys) == drained
            if not drained:
                await them.begin([SECOND])
            assert drains(await here.host(1).identify())

    asyncio.run(run(LIFE, []))
    asyncio.run(run(LIFE, ["e1.1"]))
    asyncio.run(run("another", []))
    asyncio.run(run(None, []))
    asyncio.run(run("another", ["e1.1"]))


def test_what_is_served_anew_at_an_address_that_drains_drains(tmp_path: Path) -> None:
    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            await them.begin([SECOND])
            await here.apply(export(tmp_path, "a"))
            await here.apply(export(tmp_path, "a"), export(tmp_path, "c", 1))
            assert drains(await here.host(1).identify())
            assert await them.end(None) == ["e1.1"]
            assert not drains(await here.host(1).identify())

    asyncio.run(run())


@pytest.mark.parametrize("text", ["", "{", "[]", "7", json.dumps({"life": LIFE, "addresses": ["x"]})])
def test_a_damaged_file_is_said_and_nothing_drains(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            await them.begin([FIRST])
            file = tmp_path / "state" / "drained"
            file.write_text(text)
            again = Drains(here.node.target, file.parent, LIFE)
            assert "cannot be read" in caplog.text
            assert not file.exists()
            assert await again.end(None) == ["e1.0"]

    asyncio.run(run())


def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        async with draining(tmp_path) as (here, them):
            with pytest.raises(ConfigurationError, match=r"^e1\.9 is not served here$"):
                await them.begin([FIRST, (1, 9)])
            with pytest.raises(
                ConfigurationError, match=r"^e1\.1 does not drain; look at aoe-target status$"
            ):
                await them.end([SECOND])
            monkeypatch.setattr(lasting, "put", full)
            with pytest.raises(ConfigurationError, match="a restart would forget what drains"):
                await them.begin([FIRST])
            assert not drains(await here.host(0).identify())

    asyncio.run(run())
