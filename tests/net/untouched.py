"""A service that is given what is wrong, while a client uses one of its disks: whether that is touched."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.image import write_image
from tests.net.service import Service, export
from tests.support.labs.load import AGE_S
from tests.support.labs.network import Lab
from tests.support.labs.peers import image

MTU = 9000
SECTORS = 4096
LOAD_S = 60.0
"""For how long at most a client is given processor time to do anything."""


class Site(NamedTuple):
    """A service that serves e1.1, which is under load, and e1.2."""

    lab: Lab
    work: Path
    load: Path
    service: Service
    text: str
    """Of its file."""

    @property
    def file(self) -> Path:
        return self.service.file

    def status(self) -> dict[str, Any]:
        return self.service.ask("status")

    def restore(self) -> None:
        """The file is as it was."""
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        else:
            self.file.unlink(missing_ok=True)
        self.file.write_text(self.text)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Inside, whatever happens: no request is left without an answer, and no change was made."""
        before = self.status()
        with self.load_of_one():
            yield
        after = self.status()
        assert after["number"] == before["number"]
        assert [(it["address"], it["state"]) for it in after["exports"]] == [
            (it["address"], it["state"]) for it in before["exports"]
        ]
        assert self.service.alive

    @contextmanager
    def load_of_one(self) -> Iterator[None]:
        """Inside, e1.1 is asked all the time, and no request is left without an answer."""
        asked = ("--rw", "randrw", "--sectors", "8", "--depth", "4", "--range", str(SECTORS))
        words = (*asked, "--seconds", "0.5", "--rate", "500", "--rest", "--patience", str(AGE_S))
        stop, results = threading.Event(), list[dict[str, int]]()

        def run() -> None:
            until = time.monotonic() + LOAD_S
            while not stop.is_set() or (not any(it["done"] for it in results) and time.monotonic() < until):
                done = self.lab.run("client", self.load, "v0", "1", "1", *words, timeout=60)
                results.append(json.loads(done.stdout))

        loading = threading.Thread(target=run)
        loading.start()
        try:
            yield
        finally:
            stop.set()
            loading.join()
        assert any(found["done"] for found in results)
        for found in results:
            assert (found["lost"], found["late"], found["errors"], found["bad"]) == (0, 0, 0, 0)


@contextmanager
def serving(work: Path, load: Path) -> Iterator[Site]:
    """It serves until the end of the block."""
    exports = [export(write_image(work / "one", SECTORS), "1.1"), export(image(work / "two"), "1.2")]
    with Lab(mtu=MTU) as lab, Service(lab, work, exports, max_frame_age=AGE_S) as service:
        yield Site(lab, work, load, service, service.file.read_text())
        service.stop()
        assert service.status == 0, service.errors
