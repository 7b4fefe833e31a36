"""A benchmark that `timeout` ends leaves nothing of its labs."""

import signal
import subprocess
import sys
from pathlib import Path

ENGINES = ("c",)
"""It is about neither."""
NAMESPACES = Path("/run/netns")
PROGRAM = """
from bench.ending import undo_at_sigterm
from tests.support.labs.network import Lab
undo_at_sigterm()
with Lab() as lab:
    print(lab.namespace("client"), flush=True)
    input()
"""


def test_it_takes_its_network_namespaces_along() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        namespace = process.stdout.readline().strip()
        assert (NAMESPACES / namespace).exists()
        for _ in range(2):  # as `timeout` does
            process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert not (NAMESPACES / namespace).exists()
