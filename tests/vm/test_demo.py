"""What the README has for a machine without a disk, as `tools/demo diskless` types it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkers.readme import commands
from tests.support.labs.guests.machine import add_tap, host, needs_qemu
from tests.support.tools import need, need_namespaces
from tests.vm.built_image import built_image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
DEMO_S = 1200
"""Nothing hangs so long: it takes one or two minutes."""
WRITTEN = "the machine has run for "


def test_a_machine_without_a_disk(tmp_path: Path) -> None:
    """It goes on when either of its servers is killed, and nothing is left of it all."""
    needs_qemu()
    need_namespaces()
    need("setpriv", "unshare")
    with host() as lab:
        add_tap(lab, "tap0", 1500)  # or it is skipped
    build, *typed = commands("A machine without a disk")
    said = _demo(built_image().base, tmp_path)
    shown = [line.partition(" #")[0].strip() for line in said.splitlines()]
    for line in typed:
        assert any(it.endswith(f"# {line}") for it in shown), (line, said)
    before, *killed = said.split(" dies (kill -9):\n")
    assert len(killed) == 2
    assert all(WRITTEN in it for it in (before, *killed))
    assert said.splitlines()[-1].startswith("demo passed")
    assert build.startswith("aoe-cloud image build debian12 --output")  # which made another one
    assert list(tmp_path.iterdir()) == []


def _demo(image: Path, scratch: Path) -> str:
    """What it says, on the image; it ends well."""
    inside = '. tools/common.sh; isolated tools/demo two_primaries "$1"'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", inside, "demo", image],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    with process:
        try:
            said, _ = process.communicate(timeout=DEMO_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, said
    return said
