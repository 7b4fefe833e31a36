"""The event loop of a command, and what it leaves behind."""

import asyncio
import signal

import pytest

from aoe.cli import loop

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


async def listening(fails: bool) -> None:
    for number in HEARD:
        asyncio.get_running_loop().add_signal_handler(number, print)
    if fails:
        raise InterruptedError


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
@pytest.mark.parametrize("kind", [loop._new_loop, asyncio.new_event_loop], ids=["ours", "asyncio"])
def test_signals_do_afterwards_what_they_did_before(
    kind: object, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGTERM that a closed loop hears ends nothing, neither here nor in a child."""
    monkeypatch.setattr(loop, "_new_loop", kind)
    before = [signal.getsignal(number) for number in HEARD]
    try:
        loop.run(listening(fails))
    except InterruptedError:
        assert fails
    assert [signal.getsignal(number) for number in HEARD] == before
