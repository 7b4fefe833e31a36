"""Commands of lvm, one at a time: in a known environment, bounded in time, with what they say in one line."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from aoe import limits, timing
from aoe.errors import ConfigurationError, PoolError
from aoe.printable import plain

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
    "LC_ALL": "C",
    "LVM_SUPPRESS_FD_WARNINGS": "1",
}
_PACKAGES = {"dmsetup": "dmsetup", "thin_ls": "thin-provisioning-tools"}
"""Of programs that are no commands of lvm."""
_UDEV = Path("/run/udev/control")
_WITHOUT_UDEV = (
    "activation { udev_sync=0 udev_rules=0 } "
    'devices { external_device_info_source="none" obtain_device_list_from_udev=0 }'
)
_ASIDE = ("WARNING:", "Rounding up size", "Cannot process volume group")
"""How lines begin that give no reason."""


class Run(Protocol):
    """What runs a command."""

    def __call__(self, words: Sequence[str], stdin: int | None = None) -> str:
        """What it prints. PoolError, ConfigurationError."""


def run(words: Sequence[str], stdin: int | None = None) -> str:
    """A command of lvm, or another program of `_PACKAGES`. What `stdin` is it keeps open: the lock of a pool,
    which a command has that outlives its caller.

    It is told to end after `POOL_COMMAND_S`, but never killed: a device that it has suspended would hang for
    ever. Nor do signals from the terminal reach it.
    """
    name, *rest = words
    command = [name, *rest] if name in _PACKAGES else ["lvm", name, *_config(), *rest]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        package = _PACKAGES.get(name, "lvm2")
        raise ConfigurationError(f"{command[0]} is missing: apt-get install {package}") from error
    out, err = _ended(child, name)
    if child.returncode:
        raise PoolError(f"{name}: {in_a_line(err) or f'it ended with {child.returncode}'}")
    return out


def _config() -> list[str]:
    return [] if _UDEV.exists() else ["--config", _WITHOUT_UDEV]


def _ended(child: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    """What it said. It has its time also where this process is told to end meanwhile."""
    try:
        return child.communicate(timeout=timing.POOL_COMMAND_S)
    except subprocess.TimeoutExpired as error:
        child.terminate()
        _wait(child)
        state = f"; process {child.pid} does not end" * (child.returncode is None)
        raise PoolError(f"{name} took more than {timing.POOL_COMMAND_S:.0f} s{state}") from error
    except BaseException:
        _wait(child)
        raise


def _wait(child: "subprocess.Popen[str]") -> None:
    with suppress(subprocess.TimeoutExpired):
        child.communicate(timeout=timing.POOL_COMMAND_END_S)


def in_a_line(text: str) -> str:
    """What a command complains of."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(_ASIDE)] or lines
    return plain("; ".join(dict.fromkeys(reasons)))[: limits.POOL_MESSAGE_MAX]
