"""What the unit of the service makes of our exit statuses."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "debian" / "aoe-target.service"


def reload_command() -> list[str]:
    """As systemd runs it."""
    (line,) = re.findall(r"^ExecReload=\+(.*)$", UNIT.read_text(), re.MULTILINE)
    return [word.replace("$$", "$") for word in shlex.split(line)]


@pytest.mark.parametrize(("status", "works"), [(0, True), (1, True), (2, False), (3, False), (127, False)])
def test_a_reload_fails_where_the_file_is_not_in_force(tmp_path: Path, status: int, works: bool) -> None:
    command = tmp_path / "aoe-target"
    command.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
    command.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(reload_command(), env=path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode == 0) == ("apply\n", works)
