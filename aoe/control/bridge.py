"""Lets a program at the other end of a pipe ask: `ssh host aoe-target control`."""

import os
from collections.abc import Callable

from aoe import limits
from aoe.control.hand import Hand
from aoe.control.messages import (
    DONE,
    REFUSED,
    Answer,
    Failure,
    Lines,
    Request,
    TooLong,
    decode_request,
    encode_answer,
)
from aoe.errors import ControlFailed

Connect = Callable[[], Hand]
Say = Callable[[bytes], None]


def bridge(source: int, say: Say, connect: Connect) -> int:
    """Answer each line that comes from the descriptor `source` until it ends; the exit status. A daemon that
    is not there, or ends, is an answer: the next line is asked of the one that is there by then."""
    lines = Lines(limits.CONTROL_REQUEST_MAX)
    asker = _Asker(connect)
    try:
        return _answer_all(source, say, asker, lines)
    finally:
        asker.close()


def _answer_all(source: int, say: Say, asker: "_Asker", lines: Lines) -> int:
    while data := os.read(source, limits.CONTROL_CHUNK):
        try:
            found = lines.feed(data)
        except TooLong as error:
            say(encode_answer(Answer(None, Failure("message", f"{error}; nothing more is read"))))
            return REFUSED
        for line in found:
            if line.strip():
                say(encode_answer(asker.answer(line)))
    return DONE


class _Asker:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._hand: Hand | None = None

    def close(self) -> None:
        if self._hand is not None:
            self._hand.close()
        self._hand = None

    def answer(self, line: bytes) -> Answer:
        request = decode_request(line)
        return self._ask(request) if isinstance(request, Request) else request

    def _ask(self, request: Request) -> Answer:
        try:
            if self._hand is None or not self._hand.is_open:
                self.close()
                self._hand = self._connect()
            return self._hand.answer(request)
        except ControlFailed as error:
            self.close()
            return Answer(request.id, Failure(error.kind, str(error), error.exit))
