"""Which addresses an administrator drains, kept for one life of the service, which goes on over restarts and
crashes and ends when the service is stopped (`aoe.node.store_life`)."""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.limits import RECORD_BYTES_MAX
from aoe.target import lasting
from aoe.target.draining import Key
from aoe.target.target import Target
from aoe.wire.address import parse_address
from aoe.wire.frame import format_mac

log = logging.getLogger("aoe.node")

DRAINED = "clients are to use another server; aoe-target resume ends it"
OTHERS = "are more clients than are known one by one"

_NAME = "drained"
_VERSION = 1


class Drains:
    """Of a target that serves nothing yet: what is in `directory` of this `life` drains from its start on.
    Without a life (no service manager) a drain ends with the process."""

    def __init__(self, target: Target, directory: Path, life: str | None) -> None:
        self._target = target
        self._file = directory / _NAME
        self._life = life
        if life is not None:
            target.draining.begin(_read(self._file, life))

    async def begin(self, keys: Iterable[Key] | None, by: str = "") -> Mapping[str, Mapping[str, str]]:
        """Have clients leave these addresses (None: all that are served), and wait for nothing: by address,
        which hosts stay and why. ConfigurationError for one that is not served, or cannot be kept."""
        served = {export.key: export for export in self._target.exports}
        wanted = frozenset(served if keys is None else keys)
        for key in sorted(wanted):
            if key not in served:
                raise ConfigurationError("e{}.{} is not served here".format(*key))
        drained = self._target.draining.keys
        await self._keep(drained | wanted)
        if wanted - drained:  # else it is asked again how that has become
            log.info("drain by %s: %s", by, " ".join(served[key].address for key in sorted(wanted - drained)))
        self._target.draining.begin(wanted)
        return {served[key].address: stays(self._target, key) for key in sorted(wanted)}

    async def end(self, keys: Iterable[Key] | None) -> list[str]:
        """Clients may come back to these addresses (None: all): those that drained. ConfigurationError for
        one that does not drain, or where that cannot be kept."""
        drained = self._target.draining.keys
        wanted = drained if keys is None else frozenset(keys)
        for key in sorted(wanted - drained):
            raise ConfigurationError("e{}.{} does not drain; look at aoe-target status".format(*key))
        await self._keep(drained - wanted)
        self._target.draining.end(wanted)
        return ["e{}.{}".format(*key) for key in sorted(wanted)]

    async def _keep(self, keys: frozenset[Key]) -> None:
        if self._life is None or keys == self._target.draining.keys:
            return
        addresses = ["e{}.{}".format(*key) for key in sorted(keys)]
        text = json.dumps({"version": _VERSION, "life": self._life, "addresses": addresses})
        try:
            await aside(lambda: lasting.put(self._file, text))
        except OSError as error:
            raise ConfigurationError(
                f"{self._file} cannot be written ({error.strerror}), and a restart would forget what drains"
            ) from error


def stays(target: Target, key: Key) -> Mapping[str, str]:
    """Which hosts have not left an address that drains, and why."""
    export = target.server.exports.get(key)
    if export is None:
        return {}
    found = {format_mac(mac): why for mac, why in target.draining.staying(export).items()}
    return found | ({"others": OTHERS} if target.draining.others_stay(export) else {})


def _read(file: Path, life: str) -> frozenset[Key]:
    """None where it is of another life, or cannot be understood."""
    try:
        said = json.loads(lasting.read(file, RECORD_BYTES_MAX).decode())
        if said["life"] == life:
            return frozenset(parse_address(it) for it in said["addresses"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigurationError) as error:
        log.warning("%s cannot be read: %s; drain again what is to drain", file, error)
    with suppress(OSError):
        file.unlink()
    return frozenset()
