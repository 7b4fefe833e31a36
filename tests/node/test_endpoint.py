"""The endpoint of metrics: who asks rightly has the page, whatever other clients do."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from random import Random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aoe import limits, timing
from aoe.cli import loop
from aoe.node.endpoint import Endpoint
from aoe.node.pages import Pages

PAGE = [b"# HELP a A.\n# TYPE a gauge\na 1\n", b"# HELP b B.\n# TYPE b gauge\nb 2\n"]
ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 20.0

Place = tuple[str, int]


@contextlib.asynccontextmanager
async def serving(
    page: Callable[[], Awaitable[Sequence[bytes]]] | None = None,
) -> AsyncIterator[Place]:
    async def usual() -> Sequence[bytes]:
        return PAGE

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    async with asyncio.timeout(60), Endpoint([listener], page or usual):
        yield listener.getsockname()


async def asked(place: Place, request: bytes = ASK, *, end: bool = False) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    reader, writer = await asyncio.open_connection(*place)
    with contextlib.closing(writer):
        writer.write(request)
        if end:
            writer.write_eof()
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


async def is_answered(place: Place) -> None:
    head, body = await asked(place)
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    assert body == b"".join(PAGE)


async def idle(place: Place, count: int) -> list[asyncio.StreamWriter]:
    """Connections that ask for nothing."""
    return [(await asyncio.open_connection(*place))[1] for _ in range(count)]


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """On the loop of a daemon."""
    loop.run(test())


def test_the_page_is_a_text_that_prometheus_reads() -> None:
    async def test() -> None:
        async with serving() as place:
            head, body = await asked(place)
        assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"Connection: close" in head
        assert [it.name for it in text_string_to_metric_families(body.decode())] == ["a", "b"]

    run(test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x00\xff\n" * 10, b"400"),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"b" * limits.METRICS_HEAD_MAX + b"\r\n\r\n", b"431"),
        (b"x" * (limits.METRICS_HEAD_MAX + limits.METRICS_IGNORED_MAX // 2), b"431"),
    ],
)
def test_a_refusal_arrives_whole(request_: bytes, status: bytes) -> None:
    async def test() -> None:
        async with serving() as place:
            head, body = await asked(place, request_)
            assert head.split()[1] == status
            assert body.endswith(b"\n")
            await is_answered(place)

    run(test)


def test_one_that_ends_early_is_no_matter() -> None:
    async def test() -> None:
        async with serving() as place:
            for end in range(0, len(ASK), 5):
                assert await asked(place, ASK[:end], end=True) == (b"", b"")
            await is_answered(place)

    run(test)


def test_silent_clients_keep_no_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "METRICS_TURN_S", 0.05)

    async def test() -> None:
        async with serving() as place:
            silent = await idle(place, limits.METRICS_CONNECTIONS_MAX)
            await asyncio.sleep(0.2)
            for _ in range(5):
                await is_answered(place)
            for it in silent:
                it.close()

    run(test)


def test_too_many_at_once_are_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timing, "METRICS_TURN_S", 1000.0)

    async def test() -> None:
        async with serving() as place:
            silent = await idle(place, limits.METRICS_CONNECTIONS_MAX)
            for _ in range(20):
                head, _ = await asked(place, b"")
                assert head.startswith(b"HTTP/1.1 503 ")
            silent.pop().close()
            async with asyncio.timeout(SOON_S):
                while not (await asked(place))[0].startswith(b"HTTP/1.1 200 "):
                    await asyncio.sleep(0.01)
            for it in silent:
                it.close()

    with caplog.at_level(logging.WARNING):
        run(test)
    assert len(caplog.records) <= 2, "a flood is said once, and summed up"


def test_one_that_asks_slowly_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "METRICS_ASK_S", 0.1)

    async def test() -> None:
        async with serving() as place:
            head, _ = await asked(place, ASK[:-2])
            assert head.startswith(b"HTTP/1.1 408 ")

    run(test)


def test_one_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "METRICS_TAKEN_S", 0.2)

    async def large() -> Sequence[bytes]:
        return [b"x" * (1 << 20)] * 64

    async def test() -> None:
        async with serving(large) as place:
            with socket.create_connection(place) as lazy:
                lazy.sendall(ASK)
                await asyncio.sleep(0.1)
                lazy.setblocking(False)
                taken = 0
                async with asyncio.timeout(SOON_S):
                    with contextlib.suppress(ConnectionResetError):
                        await asyncio.sleep(0.5)  # longer than it has
                        while piece := await asyncio.get_running_loop().sock_recv(lazy, 1 << 20):
                            taken += len(piece)
            assert taken < 64 << 20

    run(test)


def test_the_loop_goes_on_while_garbage_comes() -> None:
    rng = Random(1)

    async def garbage(place: Place, count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OSError):
                await asked(place, rng.randbytes(rng.randrange(1, 9000)) + b"\n", end=rng.random() < 0.5)

    async def test() -> None:
        async with serving() as place:
            floods = [asyncio.ensure_future(garbage(place, 50)) for _ in range(2)]
            answered = 0
            while not all(it.done() for it in floods):
                await is_answered(place)
                answered += 1
            assert answered > 3
            await asyncio.gather(*floods)

    run(test)


def test_a_defect_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> Sequence[bytes]:
        raise ZeroDivisionError

    async def test() -> None:
        async with serving(broken) as place:
            assert (await asked(place))[0].startswith(b"HTTP/1.1 500 ")

    run(test)
    assert "defect" in caplog.text


def test_the_end_ends_everything() -> None:
    async def never() -> Sequence[bytes]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def test() -> None:
        async with serving(never) as place:
            waiting = asyncio.ensure_future(asked(place))
            silent = await idle(place, 1)
            await asyncio.sleep(0.05)
        assert await waiting == (b"", b"")
        silent[0].close()
        with pytest.raises(OSError, match="Connect"):
            await asked(place)

    run(test)


# Pages


class Counting:
    """Slices that say when the page was begun."""

    def __init__(self, slices: int = 3, cost_s: float = 0.0) -> None:
        self.begun = 0
        self._slices = slices
        self._cost_s = cost_s

    async def __call__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        begun = self.begun
        for _ in range(self._slices):
            time.sleep(self._cost_s)
            yield b"%d" % begun


def test_those_that_ask_at_once_share_a_page() -> None:
    async def test() -> None:
        counting = Counting()
        pages = Pages(counting)
        found = await asyncio.gather(*(pages.page() for _ in range(50)))
        assert counting.begun == 1
        assert all(it is found[0] for it in found)

    run(test)


def test_a_page_is_never_older_than_the_question() -> None:
    async def test() -> None:
        counting = Counting()
        pages = Pages(counting)
        first = asyncio.ensure_future(pages.page())
        while not counting.begun:
            await asyncio.sleep(0)
        second = await pages.page()
        assert (second, await first) == ([b"2"] * 3, [b"1"] * 3)
        assert await pages.page() == [b"3"] * 3

    run(test)


def test_between_slices_the_loop_has_its_turn() -> None:
    async def test() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.ensure_future(other())
        await Pages(Counting(slices=20)).page()
        beside.cancel()
        assert turns >= 20

    run(test)


def test_however_often_it_is_asked_most_of_the_time_is_left() -> None:
    async def test() -> None:
        counting = Counting(slices=5, cost_s=0.004)
        pages = Pages(counting)
        began_s = time.monotonic()
        for _ in range(5):
            await pages.page()
        took_s = time.monotonic() - began_s
        assert took_s > 4 * timing.METRICS_REST * 5 * 0.004

    run(test)


def test_one_that_goes_away_takes_the_page_from_nobody() -> None:
    async def test() -> None:
        pages = Pages(Counting())
        first, second = asyncio.ensure_future(pages.page()), asyncio.ensure_future(pages.page())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [b"1"] * 3

    run(test)
