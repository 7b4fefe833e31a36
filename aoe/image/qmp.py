"""What is said to a QEMU process, and what it answers (QMP): JSON on a stream socket, a line each."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aoe import limits, timing
from aoe.errors import ConfigurationError


class Gone(ConfigurationError):
    """The process has ended, or does not answer."""


class Qmp:
    """One at a time. ConfigurationError with the process's own words for what it refuses, Gone."""

    def __init__(self, connected: socket.socket, is_at_work: Callable[[], bool] = lambda: False) -> None:
        """`is_at_work` tells whether the process does something, or is kept by a disk."""
        self._socket = connected
        self._is_at_work = is_at_work
        self.idle_s = timing.IMAGE_ANSWER_S
        """How long it may do nothing before it answers, seconds."""
        self._rest = b""
        self._asked = 0
        self.answers = True
        """Whether it did in time the last time."""

    def begin(self) -> None:
        """When this returns, it has done all that it was started with."""
        self._begin_to_wait(timing.IMAGE_ANSWER_S)
        if "QMP" not in self._line():
            raise Gone("it does not greet")
        self.do("qmp_capabilities")

    def do(self, verb: str, within_s: float = timing.IMAGE_ANSWER_S, **arguments: Any) -> Any:
        """What it returns, `within_s` seconds at most; or it is Gone. What it says later is passed over."""
        self._begin_to_wait(within_s)
        self._asked += 1
        words = {"execute": verb, "arguments": arguments, "id": self._asked}
        asked = json.dumps(words).encode() + b"\n"
        try:
            self._socket.sendall(asked)
        except OSError as error:
            raise Gone(f"it cannot be asked ({error.strerror})") from error
        while True:
            answer = self._line()
            if answer.get("id") != self._asked:
                continue  # an event, or the answer to what was given up
            self.answers = True
            if "error" in answer:
                raise ConfigurationError(str(answer["error"].get("desc", "refused")).replace("\n", "; "))
            return answer.get("return")

    def _begin_to_wait(self, within_s: float) -> None:
        self._within_s, self._until_s = within_s, time.monotonic() + within_s
        self._look_s = self._until_s - within_s + min(within_s, self.idle_s)

    def carried(self) -> dict[str, Any]:
        """What the next program of this process goes on with (`go_on_with`)."""
        rest = self._rest.decode("latin-1")
        return {"fd": self._socket.fileno(), "asked": self._asked, "rest": rest, "idle_s": self.idle_s}

    def go_on_with(self, facts: dict[str, Any]) -> None:
        """What the last one had."""
        self._asked, self.idle_s = facts["asked"], facts["idle_s"]
        self._rest = facts["rest"].encode("latin-1")

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            self._rest += self._more()
        line, _, self._rest = self._rest.partition(b"\n")
        with suppress(ValueError, RecursionError):
            said = json.loads(line)
            if isinstance(said, dict):
                return said
        raise Gone("it is not understood")

    def _more(self) -> bytes:
        if len(self._rest) > limits.IMAGE_LINE_BYTES_MAX:
            raise Gone("it says too much")
        now_s = time.monotonic()
        if now_s >= self._look_s:
            if now_s >= self._until_s or not self._is_at_work():
                self.answers = False
                raise Gone(f"it has not answered for {min(self._within_s, self.idle_s):g} s")
            self._look_s = min(now_s + timing.IMAGE_LOOK_S, self._until_s)
        self._socket.settimeout(max(self._look_s - now_s, 1e-3))
        try:
            more = self._socket.recv(limits.IMAGE_LINE_BYTES_MAX)
        except TimeoutError:
            return b""
        except OSError as error:
            raise Gone(f"it has ended ({error.strerror})") from error
        if not more:
            raise Gone("it has ended")
        return more
