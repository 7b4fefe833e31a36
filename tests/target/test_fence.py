"""Order rule T5 by a model: a reply to RESERVE is a drain fence; and the model finds what breaks it."""

import pytest

from aoe.target.effects import Effect
from aoe.target.export import Arrival, Change, Export
from aoe.target.responder import Responder
from aoe.target.state import AoeState
from tests.target.driver import CLIENT, RIVAL, make_driver, parse, reserve, write
from tests.target.fence_model import FenceBroken, play

SEEDS = range(200)


def test_model() -> None:
    play(Responder, SEEDS)


def test_a_reservation_that_could_not_be_stored_let_nobody_in() -> None:
    """The holder was never told that he lost it, and so nobody else may have written."""
    driver = make_driver()
    driver.export.restore(AoeState(reserve=(RIVAL,)))
    driver.held = True
    driver.send(reserve(2, CLIENT, tag=1))
    driver.send(write(0, b"x" * 512, tag=2))
    assert parse(driver.persist(ok=False)[0]).error == 3
    while driver.jobs:
        driver.finish()
    assert driver.disk[:512] == bytes(512)


class AnswersBeforeItDrained(Responder):
    def _settle(self, change: Change, now_ns: int) -> list[Effect]:
        change.drained = True
        return super()._settle(change, now_ns) if change.export.changing is change else []


class AnswersBeforeItStored(Responder):
    def _settle(self, change: Change, now_ns: int) -> list[Effect]:
        change.persisted = True
        return super()._settle(change, now_ns) if change.export.changing is change else []


class ShowsWhatIsNotStored(Responder):
    def _admin(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        asks = arrival.header.command == 1 and arrival.frame[29] == 0
        return (self._decide if asks else super()._admin)(export, arrival, now_ns)


class KeepsWhatWasNotStored(Responder):
    def persisted(self, change: Change, ok: bool, now_ns: int) -> list[Effect]:
        return super().persisted(change, True, now_ns)


class LetsTheOldHolderIn(Responder):
    def _ata(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        state = export.state
        export.restore(state._replace(reserve=()))
        effects = super()._ata(export, arrival, now_ns)
        export.restore(state)
        return effects


class ForgetsWhoWaits(Responder):
    def persisted(self, change: Change, ok: bool, now_ns: int) -> list[Effect]:
        change.export.waiting.clear()
        return super().persisted(change, ok, now_ns)


BROKEN = [
    AnswersBeforeItDrained,
    AnswersBeforeItStored,
    ShowsWhatIsNotStored,
    KeepsWhatWasNotStored,
    LetsTheOldHolderIn,
    ForgetsWhoWaits,
]


@pytest.mark.parametrize("responder_class", BROKEN)
def test_model_finds(responder_class: type[Responder]) -> None:
    with pytest.raises(FenceBroken):
        play(responder_class, SEEDS)
