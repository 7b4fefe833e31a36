"""Restarts of a service whose opener, and what has images served, are services of their own."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aoe.wire.protocol import SECTOR
from tests.image.daemons import daemon_of
from tests.image.unit import Unit
from tests.net.service import Service, export
from tests.node.manager import Manager
from tests.support.labs.network import Lab
from tests.support.tools import need_images, tool
from tests.support.waiting import PATIENCE_S, wait_for

GIVEN = 'eval "exec 3<&$0-"; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
OPENER = """
import sys
from pathlib import Path
from aoe.cli import opener
from aoe.cli.target import main
opener._IMAGES = Path(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""
OLD, NEW = b"old" * 100, b"new" * 100


@contextmanager
def opener(lab: Lab, at: Path, images: Path, service: Service) -> Iterator[None]:
    """As systemd starts it, for those who connect there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(at))
        listener.listen()
        fd = listener.fileno()
        words = ("opener", "--config", service.file, "--socket", service.socket)
        command = ("bash", "-c", GIVEN, str(fd), sys.executable, "-c", OPENER, images, *words)
        process = subprocess.Popen(lab.command("target", *map(str, command)), pass_fds=[fd])
        try:
            yield
        finally:
            process.kill()
            process.wait()


def test_a_restart_and_a_crash_keep_what_serves_an_image_and_a_stop_ends_it(lab: Lab, tmp_path: Path) -> None:
    """Also what clients wrote and never had flushed."""
    need_images()
    path, at = tmp_path / "d.qcow2", tmp_path / "opener"
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    service = Service(lab, tmp_path, [export(path, "1.1", durability="write-back")])
    command = lab.command("target", *map(str, (*service.argv, "--opener", at)))
    with (
        Unit(tmp_path / "images"),
        opener(lab, at, tmp_path / "images", service),
        Manager(command, tmp_path) as manager,
    ):
        manager.start(ready_s=PATIENCE_S)
        with lab.client(timeout=1, retries=int(PATIENCE_S), dst=lab.cables[0].a.mac) as disk:
            disk.write(0, OLD.ljust(SECTOR, b"."))
            serves = daemon_of(path)
            for number in (signal.SIGTERM, signal.SIGKILL):
                assert manager.process is not None
                manager.process.send_signal(number)
                manager.process.wait(PATIENCE_S)
                manager.start(ready_s=PATIENCE_S)
                assert disk.read(0).startswith(OLD)
                assert daemon_of(path) == serves
            disk.write(0, NEW.ljust(SECTOR, b"."))
        manager.stop()
        wait_for(lambda: not daemon_of(path))
    tool("qemu-img", "check", "-q", path)
    raw = tmp_path / "raw"
    tool("qemu-img", "convert", "-O", "raw", path, raw)
    assert raw.read_bytes().startswith(NEW)
