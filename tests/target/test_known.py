"""The index of records finds whatever a look at every record would have found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from aoe.disk.base import StoreName
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError
from aoe.target import keys
from aoe.target.keys import Sight, StoreKey
from aoe.target.known import Index
from aoe.target.state import AoeState

THINGS = {"/a": 1, "/b": 2, "/link": 1, "/c": 3}
"""What is there: the others lead nowhere."""
NAMES = [*THINGS, "/gone", "/lost", ""]
SHOWN = ["", "QM00001", "WD-WCAV12345678"]


@dataclass
class Record:
    serial: str
    version: int
    key: StoreKey
    state: AoeState = field(default_factory=AoeState)


def look(known: str, path: str) -> Sight:
    was = THINGS.get(known)
    return Sight.GONE if was is None else Sight.SAME if was == THINGS.get(path) else Sight.OTHER


stores = st.one_of(
    st.just(StoreName()),
    st.builds(StoreName, st.sampled_from([StoreKind.DEVICE, StoreKind.FILE]), st.sampled_from(["x", "y"])),
)
store_keys = st.builds(
    StoreKey,
    st.sampled_from(NAMES),
    st.sampled_from(["", "@8+8"]),
    stores,
    st.sampled_from(NAMES),
    st.sampled_from(SHOWN),
)
states = st.sampled_from([AoeState(), AoeState(mask=(bytes(6),))])
old_serials = [it for text in SHOWN if (it := StoreKey(shown=text).old_serial)]
records = st.lists(
    st.builds(
        Record, st.sampled_from(["S1", "S2", "S3", *old_serials]), st.sampled_from([1, 2]), store_keys, states
    ),
    max_size=6,
    unique_by=lambda record: record.serial,
)


def chosen(key: StoreKey, them: Sequence[Record]) -> object:
    try:
        return keys.choose(key, them, look)
    except ConfigurationError as error:
        return str(error)


@given(records, store_keys, st.integers(0, 6))
def test_it_finds_what_a_look_at_all_would(them: list[Record], key: StoreKey, first: int) -> None:
    index = Index(them[:first], THINGS.get)
    index.of(key)
    for record in them[first:]:
        index.add(record)
    found = index.of(key)
    assert [it for it in them if it in found] == found, "in their order"
    assert chosen(key, found) == chosen(key, them)
    assert keys.left_aside(key, "S1", found, look) == keys.left_aside(key, "S1", them, look)
