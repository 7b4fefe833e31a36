"""The rules of the house for C."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

import aoe
from aoe import limits, timing
from aoe.timing import USUAL
from tests.support.tools import need_engine, unavailable

CSRC = Path(__file__).parent.parent / "csrc"
ASSERTS_MIN = 60
LONG = 450
"""Lines that a file of one noun has at most."""


def sources() -> list[Path]:
    """What is built into the engine and the plugin."""
    return [path for path in sorted(CSRC.rglob("*.[ch]")) if "fuzz" not in path.relative_to(CSRC).parts]


def asserts(source: str) -> list[str]:
    """The invariants that a source text states, without those of the compiler."""
    return re.findall(r"(?<![_\w])assert\(.+", source)


def test_c_states_its_invariants() -> None:
    assert sum(len(asserts(path.read_text())) for path in sources()) >= ASSERTS_MIN


def test_what_counts_as_an_assert() -> None:
    source = 'assert(x);\n_Static_assert(1, "");\n#include <assert.h>\n    assert(y && z); /* so */\n'
    assert asserts(source) == ["assert(x);", "assert(y && z); /* so */"]


@pytest.mark.parametrize(("room", "name"), [("engine", "_engine*.so"), ("nbd", "aoe_nbd_plugin.so")])
def test_what_is_built_asserts(room: str, name: str) -> None:
    """Python's own flags would switch it off."""
    need_engine()
    assert aoe.__file__ is not None
    built = list((Path(aoe.__file__).parent / room).glob(name))
    if not built:
        unavailable(f"{name} is not built")
    assert all(b"__assert_fail" in path.read_bytes() for path in built)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEND_BACKLOG_NS", timing.NETWORK_LIFETIME_NS),
        ("COPIES_MAX", 14),
        ("gap_ns", USUAL.dead_ns),
        ("stream_again_ns", timing.NETWORK_LIFETIME_NS),
    ],
)
def test_bounds_that_do_not_fit_each_other_are_refused(
    name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(timing.__file__).read_text()
    exec(compile(source, "timing", "exec"), {})
    if hasattr(limits, name):
        monkeypatch.setattr(limits, name, value)
    changed = re.sub(rf"^( *{name}(: int)?) = .*$", rf"\1 = {value}", source, flags=re.MULTILINE)
    with pytest.raises(AssertionError):
        exec(compile(changed, "timing", "exec"), {})


# Rooms and circles

ROOMS = {
    "": {"shared"},
    "shared": set(),
    "target": {"", "shared"},
    "initiator": {"", "shared"},
    "nbd": {"", "shared", "door"},
    "door": {"", "shared"},
    "fuzz": {"", "shared", "target", "initiator"},
}
"""Which rooms a room may use, besides its own. The first is the border, engine.h."""
OTHERS = "nbd/vanished.c"
"""What it defines is called instead of what the C library has of that name."""


def bare(source: str) -> str:
    """A source text without comments and strings."""
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', "", source, flags=re.DOTALL)


def room_of(name: str) -> str:
    """The room of a file, which is named from csrc on."""
    return name.rpartition("/")[0]


def included(name: str, source: str) -> list[str]:
    """What of ours a file includes, named from csrc on."""
    found = re.findall(r'^#include "([\w/.]+)"', source, re.MULTILINE)
    beside = [str(Path(room_of(name)) / one) for one in found]
    return [near if (CSRC / near).exists() else one for near, one in zip(beside, found, strict=True)]


def defined(source: str) -> set[str]:
    """Functions that other files may call."""
    head = r"^(?=\w)(?!static\b|typedef\b|_Static_assert\b)[\w *]*?\b(\w+)\([^;{}]*\)\s*\{"
    return set(re.findall(head, bare(source), re.MULTILINE))


def owners(sources: Mapping[str, str]) -> dict[str, str]:
    """Functions, and in which file each is."""
    return {function: name for name, source in sources.items() for function in defined(source)}


def named(source: str) -> set[str]:
    """All words of a source text."""
    return set(re.findall(r"\w+", bare(source)))


def called(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """For each file, those whose functions it names."""
    where = owners(sources)
    used = {name: {where[word] for word in named(source) & where.keys()} for name, source in sources.items()}
    return {name: found - {name} for name, found in used.items()}


def circle(below: Mapping[str, Iterable[str]]) -> list[str]:
    """Files that come back to where they began; none, if there is no circle."""
    way: list[str] = []
    done = set[str]()

    def look(name: str) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        way.append(name)
        found = next(filter(None, map(look, below.get(name, ()))), [])
        way.pop()
        done.add(name)
        return found

    return next(filter(None, map(look, below)), [])


def everything(pattern: str = "*.[ch]") -> dict[str, str]:
    return {str(path.relative_to(CSRC)): path.read_text() for path in sorted(CSRC.rglob(pattern))}


def functions() -> dict[str, str]:
    """The files that have some, but for the fuzzers', which stand in for others."""
    return {name: source for name, source in everything("*.c").items() if room_of(name) != "fuzz"} | {
        OTHERS: ""
    }


def test_every_file_is_in_a_room() -> None:
    files = everything()
    assert {room_of(name) for name in files} == set(ROOMS)
    assert {name for name in files if not room_of(name)} == {"abi.h", "engine.h"}


@pytest.mark.parametrize("room", ["shared", "target", "nbd", "door"])
def test_a_file_is_not_long(room: str) -> None:
    lengths = {name: source.count("\n") for name, source in everything().items() if room_of(name) == room}
    assert lengths
    assert not {name for name, length in lengths.items() if length > LONG}


def test_the_plugin_knows_the_engine_by_its_border_alone() -> None:
    for name, source in everything().items():
        if room_of(name) == "nbd":
            others = {other for other in included(name, source) if room_of(other) != "nbd"}
            assert others <= {"abi.h", "door/estate.h", "shared/list.h", "shared/wire.h"}, name


def test_a_room_includes_only_rooms_above() -> None:
    for name, source in everything().items():
        for other in included(name, source):
            assert (CSRC / other).exists(), f"{name} includes {other}"
            assert room_of(other) in ROOMS[room_of(name)] | {room_of(name)}, f"{name} includes {other}"


def test_a_room_calls_only_rooms_above_and_the_border() -> None:
    files = functions()
    where = owners(files)
    for name, source in files.items():
        for word in named(source) & where.keys():
            allowed = room_of(where[word]) in ROOMS[room_of(name)] | {room_of(name)} or word.startswith(
                "aoe_"
            )
            assert allowed, f"{name} calls {word}"


def test_headers_include_each_other_in_no_circle() -> None:
    assert not circle({name: included(name, source) for name, source in everything().items()})


def test_files_call_each_other_in_no_circle() -> None:
    below = called(functions())
    assert "target/serve.c" in below["target/thread.c"]
    assert not circle(below)


def test_the_finder_of_circles_finds_what_it_looks_for() -> None:
    one = "int a(void)\n{\n    return b();\n}\n"
    two = "/* a */\nstatic int a2(void) { return 0; }\nint b(int x,\n      int y) { return c(); }\n"
    three = 'struct piece *c(void)\n{\n    a(); /* "\n*/\n}\nint not_here(void);\n'
    assert [defined(text) for text in (one, two, three)] == [{"a"}, {"b"}, {"c"}]
    below = called({"1.c": one, "2.c": two, "3.c": three})
    assert below == {"1.c": {"2.c"}, "2.c": {"3.c"}, "3.c": {"1.c"}}
    assert circle(below) == ["1.c", "2.c", "3.c", "1.c"]
    assert not circle({"1.c": {"2.c", "3.c"}, "2.c": {"3.c"}, "3.c": set()})
