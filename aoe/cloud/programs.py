"""Programs that make an image. None outlives this process, nor do its mounts."""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from aoe import limits
from aoe.errors import AoeError, ConfigurationError
from aoe.printable import one_line

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "dpkg": "dpkg",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
"""What is needed, and the package of Debian that has it."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IDLE = ("I: ", "W: ", "E: mmdebstrap failed")
_REPEATED = ("E: setup failed", "E: apt-get ")
"""How mmdebstrap says that what it ran has failed, which has said why."""
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""What it mounts is seen by nothing else, and what it starts ends with it."""


def check() -> None:
    """ConfigurationError where one is missing."""
    missing = [name for name in PACKAGES if shutil.which(name, path=_path()) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[it] for it in missing}))
        raise ConfigurationError(f"{', '.join(missing)} missing: apt-get install {packages}")


def run(
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    apart: bool = False,
    told: Callable[[str], object] = lambda _: None,
) -> None:
    """To its end; `told` gets each line that it prints. AoeError with its errors, or its last lines, where it
    fails; any exception, such as KeyboardInterrupt, ends it."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *(_APART if apart else ()), *words],
        env={**os.environ, "LC_ALL": "C", "PATH": _path(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
        umask=0o022,
    )
    kept: deque[str] = deque(maxlen=limits.CLOUD_SAID_LINES_MAX)
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.append(line)
                told(line.rstrip("\n"))
            status = process.wait()
        finally:
            process.kill()
            process.stdout.read()  # its end is that of all that was started
    if status:
        raise AoeError(f"{words[0]} failed: {problem(kept) or f'it ended with {status}'}")


def problem(lines: Iterable[str]) -> str:
    """The errors of apt among them, or else the last ones."""
    printed = [it.strip() for it in lines if it.strip() and not it.startswith(_IDLE)]
    errors = [it for it in printed if it.startswith("E: ") and not it.startswith(_REPEATED)]
    return one_line("; ".join(it.removeprefix("E: ") for it in errors or printed[-3:]))


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_PATH}"
