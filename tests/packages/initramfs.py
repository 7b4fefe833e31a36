"""The functions of the initramfs, in both shells that it may have."""

import subprocess

import pytest

from tests.support.labs.building import ROOT
from tests.support.tools import need

FUNCTIONS = ROOT / "debian" / "root" / "scripts" / "aoe-root"
_SHELLS = {"dash": ["dash"], "ash": ["busybox", "ash"]}

each_shell = pytest.mark.parametrize("shell", _SHELLS)


def command(shell: str, code: str, *words: str) -> list[str]:
    """With the functions loaded."""
    program = _SHELLS[shell]
    need(program[0])
    return [*program, "-uc", f". {FUNCTIONS}\n{code}", shell, *words]


def run(shell: str, code: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """To its end."""
    return subprocess.run(
        command(shell, code, *words),
        env=surroundings(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def surroundings(**more: str) -> dict[str, str]:
    """The environment of the functions."""
    return {"PATH": "/usr/bin:/bin", "panic": "", **more}
