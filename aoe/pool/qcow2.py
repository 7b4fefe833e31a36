"""Images in qcow2, made and resized by qemu-img: it is given a descriptor, and opens no other image."""

import json
import os
import subprocess

from aoe.errors import ConfigurationError, PoolError
from aoe.pool.volume import Image

_PATH = "/usr/local/bin:/usr/bin:/bin"


def create(fd: int, image: Image, base: Image | None = None) -> None:
    """Make an empty image of an open file, or one that is the differences to another. The name of that is
    relative, and both are in one directory. PoolError, ConfigurationError."""
    over = ["-u", "-b", base.file, "-F", base.format] if base else []  # -u: the base is not even opened
    _run(fd, "create", "-q", "-f", "qcow2", *over, _name(fd), str(image.size))


def resize(fd: int, image: Image, *, shrink: bool) -> None:
    """Let its disk have another size, while this process has the locks of QEMU's that are on it. Its base is
    not opened. PoolError, ConfigurationError."""
    file = {"driver": "file", "filename": _name(fd), "locking": "off"}
    opened = json.dumps({"driver": "qcow2", "backing": None, "file": file})
    _run(fd, "resize", "-q", *["--shrink"] * shrink, f"json:{opened}", str(image.size))


def _name(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _run(fd: int, *words: str) -> None:
    try:
        done = subprocess.run(
            ["qemu-img", *words],
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
            env={"PATH": os.environ.get("PATH", _PATH), "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            "qemu-img is missing, which makes qcow2: apt-get install qemu-utils, or say --format raw"
        ) from error
    if done.returncode:
        said = done.stderr.strip().replace("\n", "; ") or f"it ended with {done.returncode}"
        raise PoolError(f"qemu-img {words[0]}: {said}")
