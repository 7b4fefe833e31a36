"""Changes beside the file that the configured group made: the daemon keeps them among its state."""

from pathlib import Path

from aoe import limits
from aoe.config import changes
from aoe.config.changes import Change
from aoe.errors import ConfigurationError
from aoe.target import lasting

_NAME = "changes.toml"


class Kept:
    """In a directory of this daemon alone. Over a restart, a crash and a boot it stays."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _NAME

    def read(self) -> tuple[Change, ...]:
        """All of them. ConfigurationError for what cannot be read, or is damaged."""
        try:
            return changes.load(lasting.read(self._file, limits.CHANGES_BYTES_MAX), str(self._file))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigurationError(f"{self._file}: {error.strerror}; make it readable") from error
        except ValueError as error:
            raise changes.damaged(str(self._file), str(error)) from error

    def write(self, now: tuple[Change, ...]) -> None:
        """Replace it; with none it goes. Blocks. ConfigurationError where that cannot be kept."""
        try:
            if now:
                lasting.put(self._file, changes.dump(now))
            else:
                lasting.remove(self._file)
        except OSError as error:
            raise ConfigurationError(
                f"{self._file}: {error.strerror}; what is changed could not be kept, so nothing is"
            ) from error
