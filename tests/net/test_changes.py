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
from tests.support.labs.network import Lab

MTU = 9000
SECTORS = 16384
DEPTH = 16
"""Requests outstanding: fewer than fill a receive buffer."""
CHANGES = int(os.environ.get("AOE_CHANGES", "100"))


def changing(lab: Lab, engine: str, work: Path) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A target that changes once it is told so, and serves e1.1 all the while."""
    scratch = work / "scratch"
    scratch.mkdir()
    image = write_image(work / "image", SECTORS)
    return told(lab, work, Path(changing_target.__file__), engine, image, scratch, str(CHANGES), "1")


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


def loaded(lab: Lab, load: Path, rw: str, stop: threading.Event) -> list[dict[str, Any]]:
    """The generator, in runs of a second, until told to stop."""
    results = []
    options = ("--rw", rw, "--sectors", "8", "--depth", str(DEPTH), "--seconds", "1", "--range", str(SECTORS))
    while not stop.is_set():
        done = lab.run("client", load, "v0", "1", "1", *options, timeout=30)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    return results


@pytest.mark.parametrize("rw", ["randread", "randrw"])
def test_no_frame_of_another_disk_is_lost_or_wrong(
    rw: str, engine: str, load: Path, lab: Lab, tmp_path: Path
) -> None:
    """Two engine threads: disks of one come and go beside those of the other."""
    results: list[dict[str, Any]] = []
    stop = threading.Event()
    with changing(lab, engine, tmp_path) as process:
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
    assert results
    for found in results:
        assert found["done"] > 100
        assert (found["lost"], found["late"], found["errors"], found["bad"]) == (0, 0, 0, 0)
