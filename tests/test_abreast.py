"""What is done for many: several at a time, in order, and nothing goes on after an error."""

import asyncio
from contextlib import aclosing

import pytest

from aoe.abreast import abreast


class Work:
    """Counts how much of it is under way; one number fails."""

    def __init__(self, bad: int = -1) -> None:
        self.under_way = self.most = self.done = 0
        self._bad = bad

    async def do(self, number: int) -> int:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001 * (10 - number % 10))
            if number == self._bad:
                raise ValueError(number)
        finally:
            self.under_way -= 1
        self.done += 1
        return number * number


@pytest.mark.parametrize(("count", "most", "at_once"), [(0, 3, 0), (2, 3, 2), (30, 3, 3), (30, 100, 30)])
def test_results_come_in_order_and_only_so_many_are_under_way(count: int, most: int, at_once: int) -> None:
    async def run() -> None:
        work = Work()
        assert [it async for it in abreast(work.do, range(count), most)] == [it * it for it in range(count)]
        assert work.most == at_once

    asyncio.run(run())


def test_an_error_ends_all_of_it() -> None:
    async def run() -> None:
        work = Work(bad=4)
        found = []
        with pytest.raises(ValueError, match="4"):
            async for it in abreast(work.do, range(100), 2):
                found.append(it)
        assert found == [0, 1, 4, 9]
        await asyncio.sleep(0.05)
        assert (work.under_way, work.done < 10) == (0, True)

    asyncio.run(run())


def test_who_stops_taking_results_stops_the_work() -> None:
    async def run() -> None:
        work = Work()
        async with aclosing(abreast(work.do, range(100), 2)) as results:
            assert await anext(results) == 0
        await asyncio.sleep(0.05)
        assert (work.under_way, work.done < 10) == (0, True)

    asyncio.run(run())
