"""The configuration file that a command is to read."""

from pathlib import Path

from aoe.config.read import read
from aoe.config.values import Config
from aoe.errors import ConfigurationError
from aoe.node.content import content
from aoe.printable import plain


def load(file: Path) -> Config:
    """What a file says; ConfigErrors where it is wrong, ConfigurationError where it cannot be read."""
    try:
        return read(content(file), str(file))
    except OSError as error:
        message = f"{plain(str(file))}: {error.strerror}; name a configuration file that this user may read"
        raise ConfigurationError(message) from error
