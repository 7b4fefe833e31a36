"""Groups of users, by name."""

import grp

from aoe.errors import ConfigurationError


def number_of(name: str) -> int:
    """Of a group that the configuration file names. ConfigurationError where there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"there is no group {name}; make it, or name another one in the file"
        ) from error
