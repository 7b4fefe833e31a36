"""The socket on which metrics are asked for, where no service manager has opened it."""

import socket

from aoe.config.kinds import host_and_port
from aoe.errors import ConfigurationError
from aoe.limits import METRICS_BACKLOG


def listening(address: str) -> socket.socket:
    """At `HOST:PORT`. ConfigurationError where that cannot be."""
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"metrics: no socket can be opened here ({error.strerror}); as a service of systemd, say "
            f"ListenStream={address} in aoe-target-metrics.socket instead"
        ) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(METRICS_BACKLOG)
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"metrics: {address} cannot be listened at: {error.strerror}; name another address"
        ) from error
    return made
