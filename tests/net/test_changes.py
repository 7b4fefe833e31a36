"""Disks come, change and go under full load: nobody else notices."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.image import write_image
from tests.net import changing_target
from tests.support.labs.load import AGE_S, SECTORS, loaded
from tests.support.labs.network import Lab

MTU = 9000
DONE_MIN = 100
AGES_S = {"randread": 0.5, "randrw": AGE_S}
"""Of frames at most. After the short one an address is used for another disk."""
CHANGES = int(os.environ.get("AOE_CHANGES", "100"))


def changing(
    lab: Lab, engine: str, work: Path, age_s: float
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A target that changes once it is told so, and serves e1.1 all the while."""
    scratch = work / "scratch"
    scratch.mkdir()
    image = write_image(work / "image", SECTORS)
    return told(
        lab, work, Path(changing_target.__file__), engine, image, scratch, str(CHANGES), "1", str(age_s)
    )


@contextmanager
def told(lab: Lab, work: Path, program: Path, *words: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program beside the target's cable that said that it is ready, and ends well when it is told so."""
    with (work / "errors").open("w") as errors:
        process = lab.popen(
            "target",
            sys.executable,
            program,
            *words,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert line(process) == b"ready\n", (work / "errors").read_text()
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (work / "errors").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("rw", ["randread", "randrw"])
def test_no_frame_of_another_disk_is_lost_or_wrong(
    rw: str, engine: str, load: Path, lab: Lab, tmp_path: Path
) -> None:
    """Two engine threads: disks of one come and go beside those of the other."""
    results: list[dict[str, Any]] = []
    stop = threading.Event()
    with changing(lab, engine, tmp_path, AGES_S[rw]) as process:
        asking = threading.Thread(target=lambda: results.extend(loaded(lab, load, rw, stop)))
        asking.start()
        try:
            process.send_signal(signal.SIGUSR1)
            said = json.loads(line(process) or b"{}")
        finally:
            stop.set()
            asking.join()
        assert sum(said[verb] for verb in ("add", "change", "remove")) == CHANGES, said
        assert min(said[verb] for verb in ("add", "change", "remove")) > CHANGES // 10
        assert not said["counters"].get("ring_full")
    assert sum(found["done"] for found in results) > DONE_MIN
    for found in results:
        assert (found["lost"], found["late"], found["errors"], found["bad"]) == (0, 0, 0, 0)
