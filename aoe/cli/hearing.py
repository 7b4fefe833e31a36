"""Which person asks for a verb of a pool, as the process that does it finds out itself."""

from pathlib import Path

from aoe.cli.allowed import Allowed
from aoe.cli.rights import owner_of, rights_of
from aoe.control.heard import heard
from aoe.control.rights import VOLUME
from aoe.errors import ConfigurationError
from aoe.node.pool_desk import Refused
from aoe.pool.asked import Wish, request_of


class Hearing:
    """Of what is asked at the control socket `seat` of a daemon that serves `file`, which `allowed` reads."""

    def __init__(self, allowed: Allowed, file: Path, seat: Path) -> None:
        self._allowed = allowed
        self._file = file
        self._seat = seat

    def __call__(self, shown: int) -> tuple[str, Wish]:
        """Which verb of which pool is asked for on that connection. Refused where the process that asks may
        not, or asks for nothing of the kind; ConfigurationError, OSError where nothing was read."""
        request, peer = heard(shown, self._seat)
        if request is None or request.verb != VOLUME:
            raise Refused("what the command asks for is no verb of a pool")
        pool, asked = request.arguments.get("pool"), request.arguments.get("request")
        if not isinstance(pool, str) or not isinstance(asked, dict):
            raise Refused("a verb of a pool names the pool, and what is asked for")
        try:
            refusal = rights_of(self._allowed(), owner_of(self._file)).refusal(VOLUME, peer, (), pool)
            wish = request_of(asked)
        except ConfigurationError as error:
            raise Refused(str(error)) from error
        if refusal:
            raise Refused(refusal)
        return pool, wish
