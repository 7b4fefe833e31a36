"""Interfaces come and go under load: whoever asks by another one does not notice."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.image import write_image
from tests.net import changing_links
from tests.net.test_changes import line, told
from tests.support.labs.load import AGE_S, PIECE, SECTORS, loaded, repeated
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import NoAnswer
from tests.support.tools import need_namespaces

MTU = 9000
CHANGES = int(os.environ.get("AOE_CHANGES", "100"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=MTU, cables=5) as made:
        yield made


def changing(lab: Lab, engine: str, work: Path) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A target whose interfaces change once it is told so."""
    image = write_image(work / "image", SECTORS)
    return told(lab, work, Path(changing_links.__file__), engine, image, str(CHANGES), "1", str(AGE_S))


def test_no_frame_of_another_interface_is_lost(engine: str, load: Path, lab: Lab, tmp_path: Path) -> None:
    """Two engine threads. By one that comes and goes a client asks all the while, too."""
    results: list[dict[str, Any]] = []
    stop = threading.Event()
    visitor = lab.client(interface="v1")

    def ask() -> None:
        with suppress(NoAnswer):  # it is away
            visitor.read(0, PIECE)

    with changing(lab, engine, tmp_path) as process:
        asking = threading.Thread(target=lambda: results.extend(loaded(lab, load, "randrw", stop)))
        asking.start()
        try:
            with repeated(ask):
                process.send_signal(signal.SIGUSR1)
                said = json.loads(line(process) or b"{}")
        finally:
            stop.set()
            asking.join()
        assert said["add"] + said["remove"] == CHANGES, (tmp_path / "errors").read_text()
        assert min(said["add"], said["remove"]) > CHANGES // 4
        assert not said["counters"].get("ring_full")
        assert sum(it["lost"] + it["errors"] + it["bad"] for it in results) == 0
        for number in range(5):
            assert lab.client(interface=f"v{number}").read(8, PIECE), "it is served on all of them now"
    assert results
