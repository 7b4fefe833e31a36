"""What an opener does with the pools of root's file, for the process that asks it: long things on threads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aoe import timing
from aoe.errors import ConfigurationError
from aoe.node.opener_messages import Given, Misunderstood, strings
from aoe.node.opening import InProcess
from aoe.node.permits import Permits
from aoe.node.rooms import rooms
from aoe.node.scheduled import Facts, wishes_of
from aoe.pool.asked import Wish, request_of
from aoe.pool.requests import Cut
from aoe.pool.volume import FOR_CLONE, is_cause

Verb = Callable[[dict[str, Any], Sequence[int]], Given]
Hear = Callable[[int], tuple[str, Wish]]
"""Which verb of which pool a person asks for at the other end of a descriptor. Refused where that may not be;
ConfigurationError, OSError where nothing was read there."""


class Refused(ConfigurationError):
    """What a person asked for, and may not."""


def no_person(_: int) -> tuple[str, Wish]:
    """There is no control socket."""
    raise ConfigurationError("this opener hears no person")


class PoolDesk:
    """`look` has the pools be those that the file names now. Nothing is changed there that `hear` has not
    heard a person ask for, or root's schedules do: the process that asks this desk is not to be believed."""

    def __init__(self, stores: InProcess, look: Callable[[], None], permits: Permits, hear: Hear) -> None:
        self._stores = stores
        self._look = look
        self._permits = permits
        self._hears = hear

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """By their names."""
        return {
            "hear": self._hear,
            "volume": self._volume,
            "cut": self._cut,
            "cut_file": lambda said, _: Given({}, (self._stores.cuts.file(_number(said)),)),
            "cut_end": self._end_cut,
            "rooms": self._rooms,
            "dues": self._dues,
            "merges": self._merges,
            "volumes": self._volumes,
            "chore": self._chore,
        }

    def _hear(self, _: dict[str, Any], descriptors: Sequence[int]) -> Given:
        """What a person asks for may be done. What was read and is refused is no error: it is gone."""
        if len(descriptors) != 1:
            raise Misunderstood("a person has one connection")
        try:
            self._permits.asked(*self._hears(descriptors[0]))
        except Refused as error:
            return Given({"refusal": str(error)})
        return Given({"refusal": ""})

    def _volume(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """Begin with a verb, or its plan."""
        pool, asked, only_plan = said.get("pool"), said.get("request"), said.get("plan")
        if not isinstance(pool, str) or not isinstance(asked, dict) or not isinstance(only_plan, bool):
            raise Misunderstood("it takes a pool, a request, and whether that is only planned")
        self._look()
        request = request_of(asked)
        if not only_plan:
            self._permits.check(pool, request)
        number = self._stores.chores.begin(pool, request, only_plan=only_plan)
        return self._begun(number)

    def _cut(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """Begin to make a file for a snapshot."""
        pool, asked, cause = said.get("pool"), said.get("request"), said.get("cause")
        request = request_of(asked) if isinstance(asked, dict) else None
        if not (isinstance(pool, str) and isinstance(request, Cut) and _is_cause(cause)):
            raise Misunderstood("it takes a pool, a snapshot, and why that is cut")
        self._permits.check(pool, replace(request, cause=str(cause)))
        self._look()
        cuts, name, why = self._stores.cuts, pool, str(cause)
        number = self._stores.chores.start(lambda: cuts.begin(name, request, why), pool)
        return self._begun(number)

    def _end_cut(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """Begin to make it known, or to remove it."""
        cuts, number, whole = self._stores.cuts, _number(said), said.get("whole") is True
        chore = self._stores.chores.start(lambda: cuts.end(number, whole=whole))
        return self._begun(chore)

    def _rooms(self, _: dict[str, Any], __: Sequence[int]) -> Given:
        """Begin to look how full the pools are."""
        self._look()
        pools = self._stores.pools
        number = self._stores.chores.start(lambda: {"pools": list(rooms(pools))})
        return self._begun(number)

    def _merges(self, _: dict[str, Any], __: Sequence[int]) -> Given:
        """Begin to merge what is to be."""
        stores = self._stores
        number = stores.chores.start(lambda: {"merges": stores.merges()})
        return self._begun(number)

    def _dues(self, _: dict[str, Any], __: Sequence[int]) -> Given:
        """Begin to look what the schedules have to do."""
        self._look()
        return self._begun(self._stores.chores.start(lambda: {"dues": self._due()}))

    def _due(self) -> list[Facts]:
        found = self._stores.dues()
        self._permits.due((str(it["pool"]), wish) for it in found for wish in wishes_of(it))
        return found

    def _volumes(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """Begin to list some of those of a pool."""
        pool, after = strings(said, "which")
        self._look()
        chores = self._stores.chores
        return self._begun(chores.start(lambda: chores.listed(pool, after), pool))

    def _begun(self, number: int) -> Given:
        """What came of one that takes next to no time."""
        return self._looked(number, timing.OPENER_CHORE_S)

    def _chore(self, said: dict[str, Any], _: Sequence[int]) -> Given:
        """What came of one; none while it is under way. Others may ask meanwhile, so nothing waits."""
        return self._looked(_number(said), 0)

    def _looked(self, number: int, patience_s: float) -> Given:
        return Given({"number": number, "done": self._stores.chores.look(number, patience_s)})


def _number(said: dict[str, Any]) -> int:
    number = said.get("number")
    if not isinstance(number, int):
        raise Misunderstood("chores and snapshots have numbers")
    return number


def _is_cause(said: object) -> bool:
    return said == FOR_CLONE or (isinstance(said, str) and is_cause(said))
