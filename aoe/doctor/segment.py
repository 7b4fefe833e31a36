"""Asks over interfaces which disks answer, and how large frames may be between: as `aoe stat` does."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from aoe.doctor.of_segment import Answer
from aoe.errors import ConfigurationError
from aoe.initiator.survey import Surveyed, survey
from aoe.link.base import Link
from aoe.link.packet import PacketLink


class Heard(NamedTuple):
    """What answered; and by interface why it could not be asked, and how many frames fit into a buffer."""

    answers: list[Answer]
    problems: dict[str, str]
    fits: dict[str, int]


async def listen(names: Sequence[str], others: Sequence[Link] = ()) -> Heard:
    """Over interfaces by name, and over other links, which are closed, too."""
    problems: dict[str, str] = {}
    with ExitStack() as opened:
        links = list(others)
        for link in others:
            opened.callback(link.close)
        for name in names:
            try:
                links.append(link := PacketLink(name))
            except ConfigurationError as error:
                problems[name] = str(error)
            else:
                opened.callback(link.close)
        fits = {it.name: it.frames_that_fit for it in links if isinstance(it, PacketLink)}
        answers = [_answer(it) async for it in survey(links)] if links else []
    return Heard(answers, problems, fits)


def _answer(found: Surveyed) -> Answer:
    problem = str(found.problem or "")
    return Answer(found.address, found.serial, tuple(found.paths), problem, found.is_one_server, found.drives)
