"""`aoe` as a process, over UDP to a target of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.support.waiting import PATIENCE_S, wait_for


class Reached(Protocol):
    """A target, by where its link is."""

    remote: tuple[str, int]


def over(served: Reached) -> tuple[str, str]:
    """The words that lead to it."""
    host, port = served.remote
    return ("--link", f"udp:127.0.0.1:0,peer={host}:{port},mtu=9000")


def command(*words: str | Path) -> list[str]:
    """How it is started."""
    return [sys.executable, "-m", "aoe.cli.client", *map(str, words)]


PATIENT = (
    f"from aoe import timing; timing.PING_S = timing.CONFIG_TEST_S = {PATIENCE_S}; "
    "from aoe.cli.client import main; raise SystemExit(main())"
)
"""It takes no answer of a busy machine for silence."""


def run(
    served: Reached | None,
    *words: str | Path,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    patient: bool = False,
) -> "subprocess.CompletedProcess[bytes]":
    """What became of it."""
    more = over(served) if served is not None else ()
    line = command(*words, *more)
    if patient:
        line[1:3] = ["-c", PATIENT]
    return subprocess.run(
        line,
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )


def said(served: Reached | None, *words: str | Path, patient: bool = False) -> list[dict[str, Any]]:
    """The JSON objects that it printed; it ended well."""
    done = run(served, *words, "--json", patient=patient)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def surveyed(served: Reached, word: str, count: int = 1) -> list[dict[str, Any]]:
    """What `discover` or `stat` lists once so many answer in the half second that it asks for: a busy machine
    may need more."""

    def listed() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in run(served, word, "--json").stdout.splitlines()]
        return found if len(found) >= count else []

    return wait_for(listed, what=f"{word} lists less than {count}")


def refused(served: Reached | None, *words: str | Path, status: int, stdin: bytes = b"") -> str:
    """The one line that it said instead of doing what was asked."""
    done = run(served, *words, stdin=stdin)
    assert done.returncode == status, done
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aoe: ")
    return line.removeprefix("aoe: ")
