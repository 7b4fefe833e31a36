"""`qemu-img`, asked about one file: by a descriptor, as the user of images, and it opens no other file."""

import json
import os
import resource
import subprocess
from collections.abc import Sequence

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.image.layers import Layer, parse
from aoe.image.nodes import Part, alone, name_of
from aoe.image.user import User, becoming

MISSING = "{} is missing, which images need: apt-get install qemu-system-common qemu-utils fuse3"
PROGRAM = "qemu-storage-daemon"
_PATH = "/usr/local/bin:/usr/bin:/bin"
NO_USER = "the user that reads images cannot be become here; start the target as root, or as an ordinary user"
_NO_CHECK = 63
_LEAKS = 3
"""What `qemu-img check` ends with for a format that cannot be checked, and where only room is lost."""


def environment() -> dict[str, str]:
    """What programs of QEMU's are started with."""
    return {"PATH": os.environ.get("PATH", _PATH), "LC_ALL": "C"}


def info(fd: int, place: str, user: User) -> Layer:
    """What a file is, by what stands in it. ConfigurationError."""
    done = _run(place, user, fd, ("info", "-U", "--output=json", name_of(fd)), timing.IMAGE_INFO_S)
    if done.returncode:
        raise ConfigurationError(f"{place}: {_said(done, fd, place)}")
    return parse(done.stdout)


def check(part: Part, place: str, user: User) -> None:
    """ConfigurationError for a layer that is damaged, or not whole. What it lies over is not looked at."""
    words = ("check", "-U", "-q", f"json:{json.dumps(alone(part))}")
    done = _run(place, user, part.fd, words, timing.IMAGE_CHECK_S, *_data(part))
    if done.returncode not in (0, _LEAKS, _NO_CHECK):
        said = _said(done, part.fd, place)
        raise ConfigurationError(f"{place} is damaged; look at it: qemu-img check ({said})")


def _data(part: Part) -> list[int]:
    return [part.data] if part.data >= 0 else []


def _run(
    place: str, user: User, fd: int, words: Sequence[str], patience_s: float, *others: int
) -> "subprocess.CompletedProcess[bytes]":
    become = becoming(user)

    def begin() -> None:
        become()
        resource.setrlimit(resource.RLIMIT_AS, (limits.IMAGE_MEMORY_BYTES_MAX,) * 2)

    try:
        return subprocess.run(
            ["qemu-img", *words],
            pass_fds=(fd, *others),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=patience_s,
            env=environment(),
            preexec_fn=begin,
        )
    except FileNotFoundError as error:
        raise ConfigurationError(MISSING.format("qemu-img")) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"{place}: qemu-img {words[0]} took over {patience_s:g} s") from error
    except subprocess.SubprocessError as error:
        raise ConfigurationError(NO_USER) from error


def _said(done: "subprocess.CompletedProcess[bytes]", fd: int, place: str) -> str:
    """In one line, with the name that the file has for people."""
    text = (done.stderr or done.stdout)[: limits.IMAGE_SAID_BYTES].decode(errors="backslashreplace")
    lines = [it for it in text.replace(name_of(fd), place).splitlines() if it.strip()]
    return lines[0].removeprefix("qemu-img: ") if lines else f"it ended with {done.returncode}"
