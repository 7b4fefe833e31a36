"""Puts changes that stand beside the configuration file into it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from aoe.config import changes, edit
from aoe.config.changes import Change, as_text, patched
from aoe.config.document import decoded, document
from aoe.config.read import read
from aoe.control.written import Written
from aoe.disk import whole
from aoe.errors import ConfigurationError
from aoe.node.content import content
from aoe.wire.address import parse_address


def save(written: Written, address: str, file: Path) -> None:
    """The changes of one export are in the file from now on, with its comments, owner and mode.
    ConfigurationError where that cannot be: then the file is as it was."""
    with written.held():
        listed = written.read()
        text = edited(_read(file), str(file), [it for it in listed if it.address == address and not it.saved])
        replace_file(file, text)
        written.write(changes.saved(listed, address))


def edited(text: bytes, name: str, them: list[Change]) -> str:
    """The text of a file of that name with these changes. ConfigurationError for one that has no place."""
    found = decoded(text, name)
    for change in them:
        found = _edited(found, name, change)
    return found


def _edited(text: str, name: str, change: Change) -> str:
    key = parse_address(change.address)
    if change.verb == "remove":
        return edit.remove(text, name, key)
    if change.verb == "set":
        return edit.change(text, name, key, {**change.keys, **dict.fromkeys(change.gone)})
    whole, _ = patched(document(text, name), [change])
    return edit.add(text, name, read(as_text(whole), name).by_key[key])


def replace_file(file: Path, text: str) -> None:
    """Another text under the same name, by rename, with the owner, the mode and the attributes of the one
    before. A link stays one. ConfigurationError where that cannot be."""
    real = Path(os.path.realpath(file))
    fresh = real.with_name(f".{real.name}.{secrets.token_hex(4)}")
    try:
        before = real.stat()
        whole.replace(real, text.encode(), fresh, lambda fd: _like(real, fd, before))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}; it is as it was") from error


def _like(real: Path, fd: int, before: os.stat_result) -> None:
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, before.st_uid, before.st_gid)
    os.fchmod(fd, before.st_mode & 0o7777)
    for name in os.listxattr(real):
        with suppress(OSError):  # some are the kernel's own
            os.setxattr(fd, name, os.getxattr(real, name))


def _read(file: Path) -> bytes:
    try:
        return content(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}; name it with --config") from error
