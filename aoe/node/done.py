"""What became of a change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

from aoe.config.values import Config
from aoe.node.steps import Note, Plan

REFUSED = 2

Wanting = Callable[[Config], AbstractAsyncContextManager[Config]]
"""What is wanted, made of what is wanted now once no other change is under way, and while it is gone to."""


@asynccontextmanager
async def settled(config: Config) -> AsyncIterator[Config]:
    """What is wanted, whatever becomes of it."""
    yield config


class _Refused(Exception):
    def __init__(self, done: "Done") -> None:
        super().__init__("nothing was changed")
        self.done = done


class Done(NamedTuple):
    """What became of a change: its plan, what failed of that, and the number that it has."""

    plan: Plan
    failed: tuple[Note, ...]
    number: int
    only_planned: bool = False

    @classmethod
    async def of(
        cls, wanted: AbstractAsyncContextManager[Config], go: "Callable[[Config], Awaitable[Done]]"
    ) -> "Done":
        """Go to what is wanted while that is so, which is left by an exception where it was refused."""
        try:
            async with wanted as config:
                done = await go(config)
                if done.exit == REFUSED:
                    raise _Refused(done)
                return done
        except _Refused as refused:
            return refused.done

    @property
    def exit(self) -> int:
        """0: it is as wanted, 1: partly, or something waits, 2: refused, and nothing was changed."""
        return self.plan.exit or int(bool(self.failed))

    @property
    def sentences(self) -> list[str]:
        """In words, a line each."""
        said = [*self.plan.sentences, *(f"failed: {it.sentence}" for it in self.failed)]
        return said or ["nothing to do"]

    def about(self, address: str) -> "Done":
        """What of that is about one export."""

        def mine(notes: tuple[Note, ...]) -> tuple[Note, ...]:
            return tuple(it for it in notes if it.address == address)

        it = self.plan
        plan = it._replace(kept=mine(it.kept), waits=mine(it.waits), notes=mine(it.notes))
        return self._replace(plan=plan, failed=mine(self.failed))

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        failed = [it.facts() for it in self.failed]
        return {**self.plan.facts(), "failed": failed, "number": self.number, "exit": self.exit}
