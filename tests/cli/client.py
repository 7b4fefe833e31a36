"""`aoe` as a process, over UDP to a target of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol


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


def run(
    served: Reached | None, *words: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """What became of it."""
    more = over(served) if served is not None else ()
    return subprocess.run(
        command(*words, *more),
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )


def said(served: Reached | None, *words: str | Path) -> list[dict[str, Any]]:
    """The JSON objects that it printed; it ended well."""
    done = run(served, *words, "--json")
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(served: Reached | None, *words: str | Path, status: int, stdin: bytes = b"") -> str:
    """The one line that it said instead of doing what was asked."""
    done = run(served, *words, stdin=stdin)
    assert done.returncode == status, done
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aoe: ")
    return line.removeprefix("aoe: ")
