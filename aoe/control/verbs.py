"""What a node does for those that ask: the interface, and the way there from a request."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from aoe.config.changes import Change
from aoe.control.asked import change_of, names_of
from aoe.control.messages import DONE, PARTLY, Answer, Failure, Request
from aoe.control.rights import VOLUME, Peer, Rights
from aoe.control.unread import Unread
from aoe.errors import AoeError, ConfigurationError, DiskHangs
from aoe.pool.asked import Wish, request_of
from aoe.printable import one_line
from aoe.wire.address import parse_address
from aoe.wire.frame import format_mac, is_group, parse_mac
from aoe.wire.protocol import MACS_MAX

log = logging.getLogger("aoe.control")

LOG_LEVELS = ("debug", "info", "warning", "error")
OPEN = "any"
"""What is written for a mask list that admits every host."""


class Outcome(NamedTuple):
    """What became of a verb: lines for a person, and as facts what else JSON has. `exit` is `PARTLY` where
    something waits or was not possible."""

    said: tuple[str, ...] = ()
    exit: int = DONE
    facts: Mapping[str, Any] = {}

    @property
    def as_facts(self) -> dict[str, Any]:
        """As an object."""
        return {**self.facts, "said": list(self.said), "exit": self.exit}


class Apply(NamedTuple):
    """Go to what the file says, or with `plan` only tell the steps. With `text` it is not the daemon's own
    file that is compared, which needs `plan`. `remove` is meant for exports in use, too; `expect` is the
    number of the last change, where another one is a refusal. `there` is what tells the stores apart that
    paths of the text lead to, which the daemon may not look for itself."""

    plan: bool = False
    remove: bool = False
    expect: int | None = None
    text: str | None = None
    there: Mapping[str, tuple[object, ...]] = {}


class OfVolume(NamedTuple):
    """A verb of a pool, or with `plan` what it would do; with `force` it is no matter that clients use it. It
    is `unread` by what does it, and so hears itself which person asks."""

    pool: str
    request: Wish
    plan: bool = False
    force: bool = False
    unread: Unread | None = None


def changes_a_volume(request: Request) -> bool:
    """Whether it is a verb of a pool that changes something."""
    return request.verb == VOLUME and request.arguments.get("plan") is not True


class Verbs(Protocol):
    """A node. Any method may raise an AoeError: then nothing was changed. It is told which process asks;
    whether that may was looked at before. Several may run at a time: the node puts changes in a row."""

    async def status(self) -> Mapping[str, Any]:
        """How everything is: `number` (of the last change), `log_level`, `exports`, `interfaces` (name and
        up), `counters`, `patches` (`Change.facts()` of what the file has not). Of an export: address,
        path, state (serving, waiting, kept, failed, draining), reason, mask, reserve, and the numbers
        of `ExportStatus`."""

    async def apply(self, how: Apply, peer: Peer) -> Outcome:
        """Compare the file with what runs and do the difference."""

    async def take_up(self, change: Change, peer: Peer) -> Outcome:
        """Root's changes beside the file (`aoe.config.changes`, written before this at `place.changes_of`)
        have this new one: carry out what file and changes say about its address now, and nothing else of
        them. ConfigurationError if `add` is for an address that is wanted already, or the others for one
        that is not."""

    async def lend(self, change: Change, peer: Peer) -> Outcome:
        """The configured group sets keys that it may: carry that out, and keep it until root changes them,
        or applies the file. ConfigurationError for an address that is not wanted."""

    async def release(self, address: str, peer: Peer) -> Outcome:
        """Break the reservation of an export (order rule T5)."""

    async def reopen(self, address: str, peer: Peer) -> Outcome:
        """End the failed state of one disk (order rule T6)."""

    async def drain(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Have clients use another server for these addresses (none: all that are served), which goes on
        until `resume`. It waits for nothing: `PARTLY` while clients stay, which are named; asked again, it
        says how that has become."""

    async def resume(self, addresses: tuple[str, ...], peer: Peer) -> Outcome:
        """Let clients use these addresses again (none: all that drain)."""

    async def volumes(self, pool: str, after: str) -> Mapping[str, Any]:
        """Those of a pool behind one in the order of their names, as `aoe.pool.facts.listed` has them; asked
        again with its `last` while there are `more`. ConfigurationError."""

    async def volume(self, how: OfVolume, peer: Peer) -> Outcome:
        """Make, change or delete a volume of a pool of the file. ConfigurationError where clients use what
        would change under them."""

    async def log_level(self, level: str, peer: Peer) -> Outcome:
        """Log what is at least so grave, until the next `apply` or the end."""


# The arguments of a request


class _Arguments:
    """ConfigurationError for one that is missing, or of another kind. Those that are not asked for are
    ignored: they are of a newer command."""

    def __init__(self, request: Request, unread: Unread | None) -> None:
        self._request = request
        self._unread = unread
        self._verb = request.verb
        self._given = request.arguments

    def _wrong(self, name: str, kind: str) -> ConfigurationError:
        return ConfigurationError(f'{self._verb} needs "{name}", {kind}')

    def text(self, name: str, kind: str = "a text") -> str:
        value = self._given.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, kind)
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self._given.get(name) is None else self.text(name)

    def stores(self, name: str) -> dict[str, tuple[object, ...]]:
        value = self._given.get(name, {})
        if not isinstance(value, dict) or not all(map(_is_token, value.values())):
            raise self._wrong(name, "numbers of stores by their paths")
        return {place: tuple(token) for place, token in value.items()}

    def flag(self, name: str) -> bool:
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def number_or_none(self, name: str) -> int | None:
        value = self._given.get(name)
        if value is not None and type(value) is not int:
            raise self._wrong(name, "a whole number")
        return value

    def address(self) -> str:
        return "e{}.{}".format(*parse_address(self.text("address", "as e0.0")))

    def addresses(self) -> tuple[str, ...]:
        """None for "all"."""
        if self.flag("all"):
            return ()
        value = self._given.get("addresses")
        if not isinstance(value, list) or not value:
            raise self._wrong("addresses", 'a list such as ["e0.0"], or "all"')
        return tuple("e{}.{}".format(*parse_address(it)) for it in value)

    def check_changes(self, rights: Rights) -> None:
        """Where the command wrote the change down is where the node looks for it."""
        written = self._given.get("changes")
        if written is None:
            raise ConfigurationError(
                f"{self._verb} needs a change that is written down first; ask through aoe-target control"
            )
        if written != rights.changes:
            raise ConfigurationError(f"this daemon is uid {rights.owner}'s; ask as that user")

    def change(self, peer: Peer) -> Change:
        self.address()
        return change_of(self._request, f"uid {peer.uid}", time.time())

    def check_macs(self) -> None:
        value = self._given.get("mask")
        if value == OPEN:
            return
        if not isinstance(value, list) or not value or not all(isinstance(it, str) for it in value):
            raise self._wrong("mask", f'a list of MACs, or "{OPEN}"')
        _check_hosts(value)

    def of_volume(self) -> OfVolume:
        asked = self._given.get("request")
        if not isinstance(asked, dict):
            raise self._wrong("request", 'a verb with its words, as {"verb": "create", "volume": ...}')
        pool, plan, force = self.text("pool"), self.flag("plan"), self.flag("force")
        return OfVolume(pool, request_of(asked), plan, force, self._unread)

    def level(self) -> str:
        level = self.text("level", "one of " + ", ".join(LOG_LEVELS))
        if level not in LOG_LEVELS:
            raise self._wrong("level", "one of " + ", ".join(LOG_LEVELS))
        return level


def _is_token(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(it, int | str) for it in value)


def _check_hosts(texts: list[str]) -> None:
    """ConfigurationError for what is no MAC of a single host, and for too many."""
    try:
        macs = tuple(dict.fromkeys(map(parse_mac, texts)))
    except ValueError as error:
        raise ConfigurationError(f"{error}; write it as 02:00:00:00:00:01") from error
    if len(macs) > MACS_MAX:
        raise ConfigurationError(f"{len(macs)} hosts; a list holds up to {MACS_MAX}")
    for mac in macs:
        if is_group(mac):
            raise ConfigurationError(f"{format_mac(mac)} is a group address; name single hosts")


# From a request to the node


async def _status(node: Verbs, _: _Arguments, __: Peer, ___: Rights) -> dict[str, Any]:
    return {**await node.status()}


async def _apply(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    how = Apply(
        said.flag("plan"),
        said.flag("remove"),
        said.number_or_none("expect"),
        said.text_or_none("text"),
        said.stores("there"),
    )
    if how.text is not None and not how.plan:
        raise ConfigurationError('apply takes a "text" only with "plan"; put the file in its place first')
    return (await node.apply(how, peer)).as_facts


async def _change(node: Verbs, said: _Arguments, peer: Peer, rights: Rights) -> dict[str, Any]:
    change = said.change(peer)
    if rights.rules(peer):
        said.check_changes(rights)
        return (await node.take_up(change, peer)).as_facts
    return (await node.lend(change, peer)).as_facts


async def _mask(node: Verbs, said: _Arguments, peer: Peer, rights: Rights) -> dict[str, Any]:
    said.check_macs()
    return await _change(node, said, peer, rights)


async def _release(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.release(said.address(), peer)).as_facts


async def _reopen(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.reopen(said.address(), peer)).as_facts


async def _drain(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.drain(said.addresses(), peer)).as_facts


async def _resume(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.resume(said.addresses(), peer)).as_facts


async def _volumes(node: Verbs, said: _Arguments, __: Peer, ___: Rights) -> dict[str, Any]:
    return {**await node.volumes(said.text("pool"), said.text_or_none("after") or "")}


async def _volume(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.volume(said.of_volume(), peer)).as_facts


async def _log_level(node: Verbs, said: _Arguments, peer: Peer, _: Rights) -> dict[str, Any]:
    return (await node.log_level(said.level(), peer)).as_facts


_Step = Callable[[Verbs, _Arguments, Peer, Rights], Awaitable[dict[str, Any]]]
STEPS: dict[str, _Step] = {
    "status": _status,
    "apply": _apply,
    "add": _change,
    "remove": _change,
    "set": _change,
    "mask": _mask,
    "release": _release,
    "reopen": _reopen,
    "drain": _drain,
    "resume": _resume,
    "volume": _volume,
    "volumes": _volumes,
    "log-level": _log_level,
}
"""Every verb."""


async def answer(
    node: Verbs, request: Request, peer: Peer, rights: Rights, unread: Unread | None = None
) -> Answer:
    """Do what is asked for, if the process may; whatever happens there is an answer."""
    step = STEPS.get(request.verb)
    if step is None:
        return Answer(request.id, _unknown(request.verb))
    reason = rights.refusal(request.verb, peer, names_of(request), str(request.arguments.get("pool", "")))
    if reason:
        return Answer(request.id, Failure("rights", reason))
    try:
        return Answer(request.id, await step(node, _Arguments(request, unread), peer, rights))
    except DiskHangs as error:
        return Answer(request.id, Failure("failed", one_line(str(error)), PARTLY))
    except AoeError as error:
        kind = "usage" if isinstance(error, ConfigurationError) else "failed"
        return Answer(request.id, Failure(kind, one_line(str(error))))
    except Exception as error:
        log.critical("defect: %s was not carried out: %r", request.verb, error, exc_info=error)
        return Answer(request.id, Failure("defect", f"defect in the daemon: {error!r}; see its log", PARTLY))


def _unknown(verb: str) -> Failure:
    known = ", ".join(STEPS)
    shown = verb if len(verb) < 40 and verb.isprintable() else f"{verb[:40]!r}"
    return Failure(
        "verb",
        f"the daemon does not know the verb {shown} and is older than a command that does; it has {known}",
    )
