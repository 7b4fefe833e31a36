"""What is carried over where the process that has images served goes on as a program of another release: it
executes that, and keeps its children, what they serve, and its descriptors.

Every release reads which children there are, and what is listened at: so the children can be ended where the
rest is not understood.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from aoe import timing
from aoe.image.files import Chain
from aoe.image.layers import Layer
from aoe.image.nodes import Part
from aoe.image.processes import Forked

WORD = "AOE_IMAGES_CARRIED"
"""Where the environment says which descriptor it is read from."""
_FORM = 1

Facts = dict[str, Any]


class Found(NamedTuple):
    """What was carried over. No `facts`: they are not understood, and the children were ended."""

    listener: int
    facts: Facts | None


def execute(listener: int, children: Iterable[int], facts: Facts) -> NoReturn:
    """This command once more, as it is installed now, with all descriptors. OSError."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    fd = os.memfd_create("carried", 0)
    said = {"form": _FORM, "listener": listener, "children": list(children), "facts": facts}
    with os.fdopen(os.dup(fd), "w") as carrying:
        json.dump(said, carrying)
    _let_pass(0)
    os.environ[WORD] = str(fd)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def found() -> Found | None:
    """What this process was executed with; None where it was not."""
    word = os.environ.pop(WORD, "")
    if not word:
        return None
    _let_pass(fcntl.FD_CLOEXEC)
    os.lseek(int(word), 0, os.SEEK_SET)
    with os.fdopen(int(word)) as carried:
        said = json.load(carried)
    if said["form"] == _FORM:
        return Found(said["listener"], said["facts"])
    _end(said["children"])
    return Found(said["listener"], None)


def _let_pass(flag: int) -> None:
    """To another program, or not, all descriptors but the standard ones."""
    for each in [int(it.name) for it in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):  # what read the list
            fcntl.fcntl(each, fcntl.F_SETFD, flag if each > 2 else 0)


def _end(children: Iterable[int]) -> None:
    """What they have written is in their files then."""
    them = [Forked(it) for it in children]
    for each in them:
        os.kill(each.pid, signal.SIGTERM)
    for each in them:
        with suppress(subprocess.TimeoutExpired):
            each.wait(timing.IMAGE_END_S)


def chain_facts(chain: Chain) -> Facts:
    """Of the files of an image."""
    parts = [{"fd": it.fd, "data": it.data, "layer": asdict(it.layer)} for it in chain.parts]
    return {"parts": parts, "places": chain.places, "directory": chain.directory}


def chain_of(facts: Facts) -> Chain:
    """The same."""
    parts = (Part(fd=it["fd"], data=it["data"], layer=Layer(**it["layer"])) for it in facts["parts"])
    return Chain(tuple(parts), tuple(facts["places"]), facts["directory"])
