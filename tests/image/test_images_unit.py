"""What has images served as a service itself: started by its socket, for each opener anew."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.image.asking import Asked, Unknown, token_of
from tests.image.daemons import daemon_of
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S, wait_for

STARTED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "aoe.cli.target", "images"])
"""


@contextmanager
def manager(at: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Starts one for each that connects."""
    started: list[subprocess.Popen[bytes]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(at))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    words = [sys.executable, "-c", STARTED, str(connection.fileno())]
                    one = subprocess.Popen(words, pass_fds=[connection.fileno()])
                started.append(one)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield started
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    for it in started:
        it.wait(PATIENCE_S)


def test_it_serves_until_nothing_asks_it(tmp_path: Path) -> None:
    need_images()
    path = tmp_path / "d.qcow2"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    asked = Asked(None, tmp_path / "socket")
    with pytest.raises(ConfigurationError, match=r"systemctl start aoe-target-images\.socket"):
        asked.open(path, Opening(format="qcow2"))
    with manager(tmp_path / "socket") as started:
        opened = asked.open(path, Opening(format="qcow2"))
        assert (opened.store.size, opened.remote, opened.trims) == (1 << 20, True, True)
        os.pwrite(opened.store.fd, b"data", 0)
        os.close(opened.store.fd)
        asked.release(token_of(opened.image))
        wait_for(lambda: not daemon_of(path))
        again = asked.open(path, Opening(format="qcow2"))
        assert os.pread(again.store.fd, 4, 0) == b"data"
        (only,) = wait_for(lambda: started)  # the connection has no other end any more than its own
        only.kill()
        only.wait()
        wait_for(lambda: not daemon_of(path))
        with pytest.raises(ConfigurationError, match="has ended"):
            asked.again(again.image)
        with pytest.raises(Unknown):
            asked.again(again.image)
        os.close(asked.open(path, Opening(format="qcow2")).store.fd)
        asked.close()
    assert len(started) == 2
    wait_for(lambda: not daemon_of(path))
