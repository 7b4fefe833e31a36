"""What the plugin says of its paths, and what is made of it."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from aoe.initiator.standing import PathStatus
from aoe.nbd.reports import Reports

USABLE, DOWN, CHECKING = 1, 2, 0
SILENT = 2


def line(number: int = 1, state: int = USABLE, reason: int = 0, unsettled: int = 0, draining: int = 0) -> str:
    return f"{number} 0 020000000001 1 0 {state} {reason} 1 120000 16 16 0 {unsettled} 1 0 {draining} 0\n"


class Plugin:
    """The other end, and what was told of it."""

    def __init__(self) -> None:
        ours, self.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.told: list[tuple[str, str, bool]] = []
        self.reports = Reports(ours, ["eth0"], hold=False, on_change=self._changed)

    def _changed(self, path: PathStatus, lost_s: float | None) -> None:
        self.told.append((path.state, path.reason, lost_s is not None))

    async def say(self, *messages: str) -> None:
        for message in messages:
            self.end.send(message.encode())
            await asyncio.sleep(0.01)


def run(scenario: Callable[[Plugin], Coroutine[Any, Any, None]]) -> Plugin:
    async def inside() -> Plugin:
        plugin = Plugin()
        try:
            await scenario(plugin)
        finally:
            plugin.reports.close()
            plugin.end.close()
        return plugin

    return asyncio.run(inside())


def test_the_size_and_the_end() -> None:
    async def scenario(plugin: Plugin) -> None:
        await plugin.say("size 4096\n")
        assert await plugin.reports.size() == 4096
        plugin.end.close()
        await plugin.reports.hung_up()

    run(scenario)


def test_an_end_before_there_is_a_size() -> None:
    async def scenario(plugin: Plugin) -> None:
        plugin.end.close()
        assert await plugin.reports.size() is None

    run(scenario)


def test_a_path_is_told_of_when_it_is_lost_and_when_it_is_back() -> None:
    async def scenario(plugin: Plugin) -> None:
        await plugin.say("paths\n" + line(state=CHECKING), "paths\n" + line(), "paths\n" + line())
        assert not plugin.told
        await plugin.say("paths\n" + line(state=DOWN, reason=SILENT), "paths\n" + line(state=CHECKING))
        await plugin.say("paths\n" + line(), "paths\n" + line())

    assert run(scenario).told == [("down", "silent", False), ("usable", "", True)]


def test_one_that_was_never_usable_and_one_that_joins_later() -> None:
    async def scenario(plugin: Plugin) -> None:
        await plugin.say("paths\n" + line() + line(2, DOWN, SILENT))
        await plugin.say("paths\n" + line() + line(2) + line(3))

    assert run(scenario).told == [("down", "silent", False), ("usable", "", True)]


def test_paths_are_asked_for() -> None:
    async def scenario(plugin: Plugin) -> None:
        await plugin.say("paths\n" + line(state=DOWN, reason=SILENT, unsettled=3))
        await asyncio.sleep(0.2)
        asking = asyncio.ensure_future(plugin.reports.paths())
        await asyncio.sleep(0.01)
        assert plugin.end.recv(16) == b"?"
        await plugin.say("paths\n" + line(state=DOWN, reason=SILENT, unsettled=2))
        (path,) = await asking
        assert (path.address, path.interface, path.mac) == ("e1.0", "eth0", "02:00:00:00:00:01")
        assert (path.unsettled, path.fate, path.rtt_us) == (2, "quiesce", 120.0)
        assert 0.2 <= path.state_s < 5

    run(scenario)


def test_a_path_is_called_after_what_its_interface_is_called_now() -> None:
    async def scenario(plugin: Plugin) -> None:
        asking = asyncio.ensure_future(plugin.reports.paths())
        await plugin.say("paths\n" + line().rstrip() + " lan0\n")
        (path,) = await asking
        assert (path.interface, path.name.split()[0]) == ("lan0", "lan0")

    run(scenario)


def test_a_server_with_a_copy_of_its_own() -> None:
    async def scenario(plugin: Plugin) -> None:
        asking = asyncio.ensure_future(plugin.reports.paths())
        await plugin.say("paths\n" + line().removesuffix("0\n") + "1\n" + line(2))
        assert [path.remarks for path in await asking] == ["copy", ""]

    run(scenario)


def test_a_server_that_drains_is_seen_and_loses_no_path() -> None:
    async def scenario(plugin: Plugin) -> None:
        await plugin.say("paths\n" + line() + line(2))
        for draining in (1, 0):
            asking = asyncio.ensure_future(plugin.reports.paths())
            await plugin.say("paths\n" + line(draining=draining) + line(2))
            assert [path.draining for path in await asking] == [bool(draining), False]

    assert not run(scenario).told
