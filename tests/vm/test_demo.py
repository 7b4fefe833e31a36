"""What the README has for a machine without a disk, as `tools/demo diskless` types it."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.checkers.readme import commands
from tests.support.labs.guests.machine import add_tap, host, needs_qemu
from tests.support.tools import need, need_namespaces
from tests.vm import demo
from tests.vm.built_image import built_image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
INSIDE = '. tools/common.sh; isolated tools/demo two_primaries "$1"'


def test_a_machine_without_a_disk(tmp_path: Path) -> None:
    """It goes on when either of its servers is killed, and nothing is left of it all. The image is another
    one than the first line makes, which `tools/soak` has typed, too."""
    needs_qemu()
    need_namespaces()
    need("setpriv", "unshare")
    with host() as lab:
        add_tap(lab, "tap0", 1500)  # or it is skipped
    _, *typed = commands(demo.SECTION)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    lines = demo.said(["bash", "-c", INSIDE, "demo", built_image().base], ROOT, tmp_path, PATH=path)
    demo.check(lines, typed)
    assert list(tmp_path.iterdir()) == []
