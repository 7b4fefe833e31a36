"""Where the exports of a file are served."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from aoe import timing
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.memory import Network
from aoe.link.naming import Known
from aoe.node import links as rooms
from aoe.node.links import Links, Names
from aoe.node.links import opened as to_open
from aoe.node.opener_connection import OpenerLost
from aoe.node.placing import Watch
from aoe.node.steps import ALL, Note
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from tests.node.scene import FRAME_AGE_S, MemoryOpener, Scene, export
from tests.serve.initiator import Initiator, NoAnswer, mac
from tests.support.waiting import PATIENCE_S

UDP = "udp:127.0.0.1:7000"
KNOWN = [
    Known("eth0", ("enp1s0",), mac(7), mac(7)),
    Known("eth1", ("storage",), mac(8), mac(8)),
    Known("lo", is_ethernet=False),
]


def config(
    *own: tuple[str, ...] | None, interfaces: tuple[str, ...] = (), links: tuple[str, ...] = ()
) -> Config:
    exports = tuple(
        ExportConfig(path=f"/{slot}", shelf=1, slot=slot, interfaces=words) for slot, words in enumerate(own)
    )
    return Config(TargetConfig(interfaces=interfaces, links=links), exports)


def names(config: Config) -> Names:
    return Names(config, lambda: KNOWN)


def opened(config: Config) -> tuple[Links, dict[str, Link]]:
    found: dict[str, Link] = {}

    def open_link(name: str) -> Link:
        assert name not in found, "each is opened once"
        found[name] = Network().attach(mac(1))
        return found[name]

    made = Links(open_link)
    made.open(names(config))
    return made, found


def test_each_interface_is_opened_once_whatever_it_is_called() -> None:
    wanted = config(("storage",), ("eth1",), interfaces=("eth*", mac(7).hex(":"), "enp1s0"), links=(UDP,))
    assert names(wanted).all == ["eth0", "eth1", UDP]


def test_a_name_that_is_not_there_yet_is_kept() -> None:
    assert names(config(interfaces=("eth7",))).all == ["eth7"]


@pytest.mark.parametrize("word", ["wlan*", "02:00:00:00:00:77"])
def test_what_fits_nothing_is_waited_for(word: str) -> None:
    wanted = config(interfaces=("eth0", word))
    assert names(wanted).all == ["eth0"]
    made, _ = opened(wanted)
    said = f"all: no interface is called {word} yet; it is served when it comes"
    assert [it.sentence for it in made.waits(names(wanted))] == [said]
    assert names(config(interfaces=(word,))).all == []


def test_where_none_is_named_it_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "only_interface", lambda: "eth1")
    assert names(config()).all == names(config(None)).all == ["eth1"]
    assert names(config(None, ("eth0",))).all == ["eth1", "eth0"]
    assert names(config(("eth0",))).all == ["eth0"]


def test_exports_are_where_they_say() -> None:
    wanted = config(None, ("eth1",), ("storage", UDP), ("eth*",), interfaces=("eth0",), links=(UDP,))
    made, found = opened(wanted)
    of = [made.of(export) for export in wanted.exports]
    assert of[0] == (found["eth0"], found[UDP])
    assert of[1] == (found["eth1"],)
    assert of[2] == (found["eth1"], found[UDP])
    assert of[3] == (found["eth0"], found["eth1"])


def test_all_of_them_is_no_restriction() -> None:
    wanted = config(None, ("enp1s0",), interfaces=("eth0",))
    made, _ = opened(wanted)
    assert [made.of(export) for export in wanted.exports] == [None, None]


def turned(made: Links, wanted: Config, known: list[Known]) -> list[Link]:
    """Those of no use any more."""
    seen = Names(wanted, lambda: known)
    new, failed = to_open(made, made.look(seen), lambda _: None)
    assert not failed
    return made.turn(seen, new)


def test_a_glob_that_begins_to_match() -> None:
    wanted = config(None, interfaces=("eth0", "wlan*"))
    made, found = opened(wanted)
    assert not turned(made, wanted, [*KNOWN, Known("wlan0"), Known("wlan1")])
    assert list(found) == ["eth0", "wlan0", "wlan1"]
    assert made.of(wanted.exports[0]) is None
    assert not turned(made, wanted, KNOWN), "what fitted once is kept, as it may come back"
    assert len(found) == len(made.all) == 3


def test_two_words_for_one_that_comes() -> None:
    wanted = config(None, ("wlan*",), (mac(5).hex(":"),), interfaces=("eth0",))
    made, found = opened(wanted)
    assert not turned(made, wanted, [*KNOWN, Known("wlan0", (), mac(5), mac(5))])
    assert list(found) == ["eth0", "wlan0"]
    assert [made.of(it) for it in wanted.exports[1:]] == [(found["wlan0"],), (found["wlan0"],)]


def test_another_interface_takes_a_name() -> None:
    wanted = config(None, interfaces=(mac(7).hex(":"),))
    made, found = opened(wanted)
    (gone,) = turned(made, wanted, [Known("eth0", (), mac(9), mac(9)), Known("eth5", (), mac(7), mac(7))])
    assert (gone, list(found)) == (found["eth0"], ["eth0", "eth5"])
    assert made.of(wanted.exports[0]) == (found["eth5"],)


def test_words_that_the_file_has_no_more_are_left() -> None:
    made, found = opened(config(None, interfaces=("eth0", "eth1"), links=(UDP,)))
    gone = turned(made, config(None, interfaces=("enp1s0",)), KNOWN)
    assert gone == [found["eth1"], found[UDP]]


def test_what_cannot_be_opened_is_said() -> None:
    made, _ = opened(config(None, interfaces=("eth0",)))

    def refused(_: str) -> Link:
        raise ConfigurationError("wlan0: a port of br0")

    made._open_link = refused
    seen = Names(config(None, interfaces=("eth0", "wlan0")), lambda: KNOWN)
    new, failed = to_open(made, made.look(seen), lambda _: None)
    assert (new, [it.sentence for it in failed]) == ({}, ["all: wlan0: a port of br0"])
    assert not made.turn(seen, new)


# A node


class TwoNetworks(Scene):
    """m0 and m1 are networks of their own."""

    def __init__(self, work: Path, first: Config) -> None:
        super().__init__(work, first)
        self.networks = self.opener.networks = {"m0": self.network, "m1": Network()}

    async def seen(self, slot: int) -> list[str]:
        """On which networks an export answers."""
        return [name for name, network in self.networks.items() if await _answers(network, slot)]


async def _answers(network: Network, slot: int) -> bool:
    host = Initiator(network.attach(mac(90)), 1, slot, retransmit_s=0.05, patience_s=0.1)
    try:
        await host.config()
    except NoAnswer:
        return False
    return True


def test_an_export_moves_while_it_serves(tmp_path: Path) -> None:
    asyncio.run(moved(tmp_path))


async def moved(tmp_path: Path) -> None:
    target = TargetConfig(interfaces=("m0", "m1"), max_frame_age=FRAME_AGE_S)
    both, first = export(tmp_path, "a"), export(tmp_path, "b", 1, interfaces=("m0",))
    scene = TwoNetworks(tmp_path, Config(target, (both, first)))
    scene.node.prepare(scene.first)
    opened = scene.node.open_links(Names(scene.first, list))
    await scene.node.start(Target.open(opened, TargetOptions(frame_age_s=FRAME_AGE_S)))
    try:
        assert [await scene.seen(slot) for slot in (0, 1)] == [["m0", "m1"], ["m0"]]
        second = export(tmp_path, "b", 1, interfaces=("m1",))
        done = await scene.node.apply(Config(target, (both, second)), "a test")
        assert (done.exit, await scene.seen(1)) == (0, ["m1"])
        new = export(tmp_path, "b", 1, interfaces=("m1", "m9*"))
        done = await scene.node.apply(Config(target, (both, new)), "a test")
        assert (done.exit, await scene.seen(1)) == (1, ["m1"])
        assert "waits: all: no interface is called m9* yet; it is served when it comes" in done.sentences
        done = await scene.node.apply(Config(target, (both, export(tmp_path, "b", 1))), "a test")
        assert (done.exit, await scene.seen(1)) == (0, ["m0", "m1"])
    finally:
        await scene.node.stop()


def test_links_of_the_file_come_and_go(tmp_path: Path) -> None:
    asyncio.run(came_and_went(tmp_path))


async def came_and_went(tmp_path: Path) -> None:
    """Also one that is on all, one that names its own, and a glob that begins to match while nothing is
    applied."""
    first = TargetConfig(interfaces=("m0",), max_frame_age=FRAME_AGE_S)
    exports = (export(tmp_path, "a"), export(tmp_path, "b", 1, interfaces=("m0",)))
    scene = TwoNetworks(tmp_path, Config(first, exports))
    scene.node.prepare(scene.first)
    opened = scene.node.open_links(Names(scene.first, scene.opener.look))
    await scene.node.start(Target.open(opened, TargetOptions(frame_age_s=FRAME_AGE_S)))
    try:
        assert [await scene.seen(slot) for slot in (0, 1)] == [["m0"], ["m0"]]
        both = replace(first, interfaces=("m0", "m[1-3]"))
        planned = await scene.node.plan(Config(both, exports))
        assert planned.sentences == ["all: change interfaces to m0, m[1-3]"]
        done = await scene.node.apply(Config(both, exports), "a test")
        assert (done.exit, done.sentences) == (0, planned.sentences)
        assert [await scene.seen(slot) for slot in (0, 1)] == [["m0", "m1"], ["m0"]]
        scene.networks["m2"] = Network()
        scene.opener.changed()
        async with asyncio.timeout(30):
            while await scene.seen(0) != ["m0", "m1", "m2"]:
                await asyncio.sleep(0.05)
        assert await scene.seen(1) == ["m0"]
        done = await scene.node.apply(Config(replace(first, interfaces=("m2",)), exports), "a test")
        assert (done.exit, [await scene.seen(slot) for slot in (0, 1)]) == (0, [["m2"], ["m0"]])
        assert len(scene.node.status().interfaces) == len(scene.node.target.links) == 2
    finally:
        await scene.node.stop()


def test_what_is_wrong_whenever_interfaces_change_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a host with containers they change all the time. That the opener has ended is said by itself."""
    monkeypatch.setattr(timing, "INTERFACES_SETTLE_S", 0)
    why, other, lost = ConfigurationError("why"), ConfigurationError("other"), OpenerLost("it has ended")
    outcomes = [lost, why, why, OSError("other"), other, None, other, lost, lost]
    expected = ["why", "other", "other"]

    async def scenario() -> None:
        left, over = [*outcomes], asyncio.Event()
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)

        async def turn() -> list[Note]:
            outcome = left.pop(0)
            kernel.send(b"changed") if left else over.set()
            if outcome is not None:
                raise outcome
            return []

        watch = Watch(ours, turn)
        async with asyncio.timeout(PATIENCE_S):
            await over.wait()
        await watch.close()
        kernel.close()

    asyncio.run(scenario())
    assert caplog.messages == [f"interfaces changed: {it}" for it in expected]


@pytest.mark.parametrize("failure", [ConfigurationError("why"), OSError("why"), None])
def test_what_failed_is_tried_again_though_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception | None
) -> None:
    """Until it has not; it is said once."""
    monkeypatch.setattr(timing, "INTERFACES_SETTLE_S", 0)
    monkeypatch.setattr(timing, "FAILED_AGAIN_S", 0.01)

    async def scenario() -> None:
        left, over = [3], asyncio.Event()
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)

        async def turn() -> list[Note]:
            left[0] -= 1
            if not left[0]:
                over.set()
                return []
            if failure is not None:
                raise failure
            return [Note(ALL, "why")]

        watch = Watch(ours, turn)
        async with asyncio.timeout(PATIENCE_S):
            await over.wait()
        await asyncio.sleep(0.05)
        assert left == [0], "what is as it is to be is left at that"
        await watch.close()
        kernel.close()

    asyncio.run(scenario())
    assert len(caplog.messages) == 1


def test_an_interface_that_cannot_be_opened_at_first_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was renamed between two looks, or for which there was no descriptor."""
    monkeypatch.setattr(timing, "FAILED_AGAIN_S", 0.05)
    settings = TargetConfig(interfaces=("m*",), max_frame_age=FRAME_AGE_S)
    refused: list[str] = []

    def open_link(opener: MemoryOpener, name: str) -> Link:
        if name == "m2" and len(refused) < 2:
            refused.append(name)
            raise ConfigurationError("m2 is away")
        return opener.networks[name].attach(opener.mac)

    monkeypatch.setattr(MemoryOpener, "open_link", open_link)

    async def scenario() -> None:
        scene = TwoNetworks(tmp_path, Config(settings, (export(tmp_path, "a"),)))
        scene.node.prepare(scene.first)
        opened = scene.node.open_links(Names(scene.first, scene.opener.look))
        await scene.node.start(Target.open(opened, TargetOptions(frame_age_s=FRAME_AGE_S)))
        scene.networks["m2"] = Network()
        scene.opener.changed()
        async with asyncio.timeout(PATIENCE_S):
            while await scene.seen(0) != ["m0", "m1", "m2"]:
                await asyncio.sleep(0.05)
        await scene.node.stop()

    asyncio.run(scenario())
    assert refused == ["m2"] * 2
