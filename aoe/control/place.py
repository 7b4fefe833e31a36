"""Where the socket of a daemon is, and what else belongs to its place."""

import os
from pathlib import Path
from urllib.parse import quote

from aoe.errors import ConfigurationError
from aoe.limits import SOCKET_PATH_MAX
from aoe.target.records import default_directory

SOCKET = "control"
ROOTS = Path("/run/aoe-target")
CHANGES = Path("/run/aoe-target-changes")
"""Of root's."""


def daemons() -> Path:
    """Where a daemon of this user listens: in $RUNTIME_DIRECTORY, as systemd gives it; else root in
    /run/aoe-target, and an ordinary user in $XDG_RUNTIME_DIR/aoe-target, or beside its state.
    ConfigurationError for a user without a home."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    if given:
        return Path(given.split(":", maxsplit=1)[0]) / SOCKET
    if os.geteuid() == 0:
        return ROOTS / SOCKET
    users = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(users) / "aoe-target" if users else default_directory()) / SOCKET


def askers() -> Path:
    """Where a command asks: this user's own daemon if there is one, else root's."""
    own = daemons()
    return own if own.exists() else ROOTS / SOCKET


def changes_of(owner: int, path: Path) -> Path:
    """Where the changes beside the file of the daemon at `path` are written down. Root's are in a directory
    of root's, since the daemon's user can replace what is in the daemon's own; they are gone at boot."""
    if owner:
        return path.with_name(path.name + ".changes.toml")
    real = Path(os.path.realpath(path.parent)) / path.name
    name = "changes" if real == ROOTS / SOCKET else quote(str(real), safe="")
    return CHANGES / f"{name}.toml"


def make(directory: Path) -> None:
    """Make it for every user to enter, whatever the umask is; one that is there stays as it is. OSError."""
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        return
    directory.chmod(0o755)


def check(path: Path) -> None:
    """ConfigurationError for a name that no socket can have."""
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise ConfigurationError(
            f"{str(path)!r} is longer than {SOCKET_PATH_MAX} bytes; name a shorter --socket"
        )
