"""The rules of the house: who may import whom, and which rooms stay free of the world."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from csrc import generate, generate_life

AOE = Path(__file__).parent.parent / "aoe"
CSRC = AOE.parent / "csrc"
BOUND = re.compile(r"_?[A-Z][A-Z0-9_]*_(MAX|MIN|NS|MS|US|S|BYTES|CHUNK)")
BOUNDS_HOMES = (AOE / "limits.py", AOE / "timing.py")
GENERATED = [path for path in CSRC.rglob("*.[ch]") if path.read_text().startswith("/* Made of")]
LONG = 450
"""Lines that a file of one noun has at most."""
LONGER = {"target/responder.py", "target/server.py", "node/node.py"}

ROOMS = [
    *(
        "errors",
        "printable",
        "wire",
        "limits",
        "timing",
        "metrics",
        "home",
        "abreast",
        "sandbox",
        "drive",
        "disk",
        "image",
        "link",
        "engine",
        "target",
        "initiator",
        "nbd",
        "pool",
        "config",
        "foreign",
        "node",
        "control",
        "doctor",
        "cloud",
        "cli",
    ),
    "testing",
]
"""A room imports only from itself and from rooms before it."""

WITH_IO = {
    "cloud": "building filesystem library places programs tree workplace",
    "doctor": "bounded for_client for_target host interfaces service state stores",
    "target": "accelerator counting cutting draining engine_cut health lasting marks measure naming notices "
    "address_locks offer paced plain_cut repeated records returned rivals serve server target",
    "initiator": "admin attach blocking carrier clock discover engine_carrier fencing inquiry link_carrier "
    "remote standing survey",
    "sandbox": "child landlock refused user",
    "image": "asking carried checking daemon files graph keeper mounts processes qemu qmp service serving "
    "sound user",
    "pool": "asking directory download figures filling handles lvm lvm_clearing lvm_marking lvm_run "
    "lvm_sharing lvm_volumes lvm_worker marking pool qemu_img unnamed work",
    "node": "alone chores content cut_files desk drains endpoint exposed exposing hands held held_addresses "
    "held_sockets holds life listening lives meant needs node notify opener opener_connection "
    "opener_process opener_service opening pages patient pending placing pools process remembered resumed "
    "rooms sandbox schedules seccomp served_cuts spaces standing state store_life volumes",
    "control": "bridge client connection hand heard kept listening peers place saving server unread verbs "
    "written",
}
"""Modules that may know the world. The others of these rooms are sans-I/O, and so are `wire`, `drive` and
`config`."""
NOT_FRAMES = {AOE / "drive/identify.py", AOE / "disk/syscalls.py"}
"""Whose bytes are the words of IDENTIFY, and what ioctl(2) returns."""
WORLD = {
    "socket",
    "asyncio",
    "os",
    "time",
    "logging",
    "threading",
    "subprocess",
    "secrets",
    "pathlib",
    "uvloop",
}


def imports(source: str) -> Iterator[str]:
    """Modules that a source text names in an import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def wrong_direction(room: str, source: str) -> list[str]:
    """Imports of rooms that come later in the house."""
    later = ROOMS[ROOMS.index(room) + 1 :]
    return [it for it in imports(source) if it.startswith("aoe.") and it.split(".")[1] in later]


def worldly(source: str) -> list[str]:
    """Imports of the world; `random` is allowed for what is handed in, never called by its module."""
    named = [it for it in imports(source) if it.split(".")[0] in WORLD]
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return named + [
        f"random.{call.attr}"
        for call in calls
        if isinstance(call.value, ast.Name) and call.value.id == "random" and call.attr != "Random"
    ]


def of_bytes(source: str) -> Iterator[str]:
    """Names that a source text says are bytes: arguments, variables and fields."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            kinds = set(ast.unparse(node.annotation).split(" | "))
            if kinds & {"bytes", "bytearray", "memoryview"}:
                yield node.arg if isinstance(node, ast.arg) else called(node.target)


def called(node: ast.expr) -> str:
    """What a value is called, wherever it is kept: `raw` for `answer.raw`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def own_numbers(tree: ast.Module) -> set[str]:
    """Names that a module itself gives a number or a slice."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {called(node.targets[0]) for node in assigned if is_bare(node.value, set())}


def is_bare(node: ast.expr | None, own: set[str]) -> bool:
    """Whether a place is made of integers and the module's own names for some; of a slice, one side."""
    match node:
        case ast.Slice(lower, upper, step):
            return any(is_bare(side, own) for side in (lower, upper, step))
        case ast.Call(ast.Name("slice"), sides):
            return any(is_bare(side, own) for side in sides)
        case ast.BinOp(left, _, right):
            return is_bare(left, own) and is_bare(right, own)
        case ast.UnaryOp(_, operand):
            return is_bare(operand, own)
        case ast.Constant(value):
            return type(value) is int
        case ast.Name(name):
            return name in own
    return False


def bare_places(source: str, named: set[str]) -> list[str]:
    """Subscripts of bytes by a number that says nothing of what is there."""
    tree = ast.parse(source)
    own = own_numbers(tree)
    places = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    return [ast.unparse(it) for it in places if called(it.value) in named and is_bare(it.slice, own)]


def sources(part: str) -> list[Path]:
    """The files of a room or a module."""
    path = AOE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def test_every_module_is_in_a_room() -> None:
    tops = {path.relative_to(AOE).parts[0].removesuffix(".py") for path in AOE.rglob("*.py")}
    assert tops - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_from_rooms_above(room: str) -> None:
    for path in sources(room):
        if path.exists():
            assert not wrong_direction(room, path.read_text()), path


def has_io(path: Path) -> bool:
    """Whether a module may know the world."""
    room, name = path.relative_to(AOE).parts[0], path.stem
    return name in WITH_IO.get(room, "").split()


@pytest.mark.parametrize("room", ["wire", "metrics", "drive", "config", "foreign", *WITH_IO])
def test_sans_io_modules_know_nothing_of_the_world(room: str) -> None:
    for path in sources(room):
        assert has_io(path) or not worldly(path.read_text()), path


def test_who_may_know_the_world_does() -> None:
    for room, names in WITH_IO.items():
        for name in names.split():
            assert worldly((AOE / room / f"{name}.py").read_text()), f"{room}/{name} needs no exception"


def test_the_order_of_writes_is_guarded() -> None:
    for name in ("streams", "order", "responder", "address_check", "reception"):
        assert not has_io(AOE / "target" / f"{name}.py")


def test_frames_are_read_in_one_place() -> None:
    texts = {path: path.read_text() for room in ROOMS if room != "wire" for path in sources(room)}
    named = {name for path in AOE.rglob("*.py") for name in of_bytes(path.read_text())}
    assert named >= {"raw", "frame", "body", "data"}
    found = {path: bare_places(text, named) for path, text in texts.items()}
    elsewhere = {str(path): places for path, places in found.items() if places and path not in NOT_FRAMES}
    assert not elsewhere, "read it by a name from aoe/wire"
    assert all(found[path] for path in NOT_FRAMES), "no exception is needed"


def test_the_reader_of_places_finds_what_it_looks_for() -> None:
    named = {"raw", "body"}
    for text in ("raw[27]", "answer.raw[0]", "self.body[:6]", "body[4:]", "raw[1 << 4]", "raw[-1]"):
        assert bare_places(text, named) == [text]
    assert bare_places("_TAG = slice(20, 24)\n_AT = 3\nraw[_TAG]\nraw[_AT + 1]", named)
    for text in ("raw[HEADER:]", "raw[at]", "found[0]", "raw[at : at + 6]", "raw['x']"):
        assert not bare_places(text, named)
    assert {*of_bytes("def f(raw: bytes | None, n: int) -> bytes:\n    body: memoryview")} == named


def test_the_checks_find_what_they_look_for() -> None:
    assert wrong_direction("wire", "from aoe.target.order import OrderQueue\n")
    assert wrong_direction("disk", "from aoe.link import packet\n")
    assert worldly("import time\n")
    assert worldly("import random\nrandom.random()\n")
    assert not worldly("import random\ndef f(rng: random.Random) -> float: return rng.random()\n")


# Two languages, one list


def enumerators(text: str) -> Iterator[str]:
    """Names that a C text gives numbers to in enumerations."""
    for body in re.findall(r"\benum\b[^{};()]*\{([^}]*)\}", text):
        yield from re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", body.strip())


def numbered(text: str) -> set[str]:
    """Names that a C text gives numbers to."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    defines = re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+\(?-?(?:\d|sizeof)", bare, re.MULTILINE)
    return {*defines, *enumerators(bare)}


def test_the_generated_header_is_fresh() -> None:
    assert generate.HEADER.read_text() == generate.header(), "run python -m csrc.generate"
    assert generate_life.HEADER.read_text() == generate_life.header(), "run python -m csrc.generate"
    assert generate_life.SOURCE.read_text() == generate_life.source(), "run python -m csrc.generate"


def test_the_fuzzers_have_other_values_only_of_what_is_there() -> None:
    build = (CSRC / "fuzz" / "build").read_text()
    others = set(re.findall(r"-D([A-Z]\w+)=\d", build))
    assert len(others) >= 3
    assert others <= set(generate.OTHERWISE)


def constants(source: str) -> set[str]:
    """Numbers that a Python module gives names to, without the underscores before them."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            plain = isinstance(node.value, ast.Constant) and isinstance(node.value.value, int | float)
            if plain or isinstance(node.value, ast.BinOp | ast.UnaryOp):
                found.add(node.targets[0].id.lstrip("_"))
    return {name for name in found if name.isupper()}


def bounds(source: str) -> set[str]:
    """Names of a Python module, or of a class in it, that say that they are a bound or a time."""
    named = set()
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names = [it.id for target in targets for it in ast.walk(target) if isinstance(it, ast.Name)]
        named |= {name for name in names if BOUND.fullmatch(name)}
    return named


def test_every_bound_and_every_time_is_at_home() -> None:
    strayed = {}
    for path in AOE.rglob("*.py"):
        if path not in BOUNDS_HOMES and path.parent != AOE / "wire":
            strayed[str(path)] = bounds(path.read_text())
    assert not {path: names for path, names in strayed.items() if names}, "limits.py and timing.py have these"


def test_c_has_no_number_of_its_own_for_what_python_has() -> None:
    ours = {name for path in AOE.rglob("*.py") for name in constants(path.read_text())}
    ours |= set().union(*(numbered(path.read_text()) for path in GENERATED))
    assert len(ours) > 200
    assert generate.HEADER in GENERATED
    files = [path for path in CSRC.rglob("*.[ch]") if path not in GENERATED]
    twice = {str(path): numbered(path.read_text()) & ours - set(generate.OTHERWISE) for path in files}
    hint = "write it in Python, and name it in csrc/generate.py"
    assert not {path: names for path, names in twice.items() if names}, hint


def test_all_that_is_generated_is_used() -> None:
    paths = [*CSRC.rglob("*.[ch]"), *(AOE.parent / "bench").glob("*.c")]
    text = "".join(path.read_text() for path in paths if path != generate.HEADER)
    defined = re.findall(r"#define (\w+) ", generate.HEADER.read_text())
    assert len(defined) > 100
    assert set(defined) <= set(re.findall(r"\w+", text))


def test_the_reader_of_c_finds_what_it_looks_for() -> None:
    text = "#define ONE 1\n# define TWO (2)\n#define NOT(x) 3\nenum { A, B = 5, /* C, */ D };\n"
    text += "enum kind { E = 1 << 2 };"
    assert numbered(text) == {"ONE", "TWO", "A", "B", "D", "E"}
    assert constants("_ONE_MAX = 1 << 2\nTWO = 2.0\nWORD = 'x'\nlower = 3\n") == {"ONE_MAX", "TWO"}
    text = "_A_MAX, B_NS = 1, 2\nclass C:\n    D_S: float = 1.0\nE_MAXIMAL = most_max = 5\n"
    assert bounds(text) == {"_A_MAX", "B_NS", "D_S"}


# An export changes itself

FILLS = {"append", "appendleft", "extend", "add", "update", "admit", "admit_flush", "admit_barrier"}
EMPTIES = {"pop", "popleft", "remove", "discard", "clear", "take", "done"}


def export_fields() -> set[str]:
    """What an export keeps."""
    (export,) = (
        node
        for node in ast.parse((AOE / "target" / "export.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Export"
    )
    stored = [node for node in ast.walk(export) if isinstance(node, ast.Attribute)]
    return {node.attr for node in stored if isinstance(node.ctx, ast.Store) and called(node.value) == "self"}


def is_export(node: ast.expr) -> bool:
    """Whether a value is called an export: `job.export`, `exports[key]`, `one.export`."""
    if isinstance(node, ast.Subscript):
        return is_export(node.value)
    return bool(re.fullmatch(r"_?exports?", called(node)))


def done_to_exports(source: str, fields: set[str]) -> list[str]:
    """Where a source text changes a field of an export itself: sets it, or fills or empties it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        if not isinstance(node.ctx, ast.Load) and is_export(node.value):
            found.append(ast.unparse(node))
        inner = node.value
        is_field = isinstance(inner, ast.Attribute) and inner.attr in fields and is_export(inner.value)
        if is_field and node.attr in FILLS | EMPTIES:
            found.append(ast.unparse(node))
    return found


def test_an_export_is_changed_by_its_own_verbs() -> None:
    fields = export_fields()
    assert {"state", "queue", "waiting", "jobs", "tickets", "drive"} <= fields
    for path in AOE.rglob("*.py"):
        if path != AOE / "target" / "export.py":
            assert not done_to_exports(path.read_text(), fields), path


def test_the_finder_of_changes_finds_what_it_looks_for() -> None:
    fields = {"state", "waiting", "queue"}
    for text in ("export.state = x", "job.export.jobs -= 1", "self.exports[k].state = x", "del export.state"):
        assert done_to_exports(text, fields), text
    for text in ("a, export.state = x", "export.waiting.append(x)", "change.export.queue.admit(x)"):
        assert done_to_exports(text, fields), text
    for text in ("x = export.state", "export.begin(job)", "record.state = x", "export.queue.tickets()"):
        assert not done_to_exports(text, fields), text


# The wire in C

WIRE = CSRC / "shared" / "wire.h"
OTHER_BYTES = {
    "fuzz_parse.c": {"data", "list"},  # its input, and a list of MACs
    "fuzz_loop.c": {"macs", "blank"},  # a list of MACs, and a pipe
    "fencing.c": {"m", "mac"},  # a MAC as text
    "notices.c": {"m"},
    "plugin.c": {"name"},
    "link.c": {"mac"},  # one that is made up
}
"""Bytes of C that are no frames, by file."""


def c_files() -> dict[Path, str]:
    """All of our C but what says where fields are, without comments and strings."""
    paths = [*CSRC.rglob("*.[ch]"), *(AOE.parent / "bench").glob("*.c")]
    texts = {path: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in paths}
    return {path: re.sub(r'"(?:\\.|[^"\\])*"', '""', text) for path, text in texts.items() if path != WIRE}


def c_bytes(text: str) -> Iterator[str]:
    """Names of pointers to bytes and arrays of them."""
    for said in re.findall(r"\buint8_t\b([^;(){}=]*)", text):
        for one in said.split(","):
            found = re.fullmatch(r"\s*(\*?)\s*(?:const\s+)?(\w+)\s*((?:\[[^\]]*\])*)\s*", one)
            if found is None:
                break
            if found[1] or found[3]:
                yield found[2]


def c_numbers(text: str) -> set[str]:
    """Names of numbers."""
    kinds = r"\b(?:u?int(?:8|16|32|64)_t|int|unsigned|size_t)"
    return set(re.findall(rf"{kinds}\s+(\w+)\b(?!\s*[\[(])", text))


def c_bare_places(text: str, named: set[str], numbers: set[str]) -> list[tuple[str, str]]:
    """Where a place in bytes is a bare number: what, and the number. Names of `numbers` may be added to."""
    used = re.sub(r"\buint8_t\b[^;(){}=]*", "", text)
    subscripts = re.findall(rf"\b({'|'.join(named)})\[(\d\w*)\]", used)
    sums = re.findall(rf"\b({'|'.join(named - numbers)}) \+ (\d\w*)", used)
    return subscripts + sums + re.findall(r"[{,](\s*)\[(\d\w*)\] =", used)


def test_c_reads_frames_in_one_place() -> None:
    texts = c_files()
    named = {name for text in texts.values() for name in c_bytes(text)}
    numbers = {name for text in texts.values() for name in c_numbers(text)}
    assert named - numbers >= {"raw", "reply", "request", "f"}
    assert "head" in named
    for path, text in texts.items():
        allowed = OTHER_BYTES.get(path.name, set())
        found = [(what, at) for what, at in c_bare_places(text, named, numbers) if what not in allowed]
        assert not found, f"{path}: read it by a name from csrc/shared/wire.h"


def test_the_reader_of_places_in_c_finds_what_it_looks_for() -> None:
    named = {"raw", "head"}
    for text in (
        "x = raw[27];",
        "s->head[0x1B] |= 1;",
        "f(raw + 6, 6);",
        "{.head = {[3] = 1}}",
        "raw[14] & 8",
    ):
        assert c_bare_places(text, named, {"at"})
    for text in (
        "raw[at]",
        "uint8_t raw[60], head[6];",
        "found[3]",
        "raw + AOE_HEADER",
        "at + 1",
        "raw[at + 1]",
    ):
        assert not c_bare_places(text, named, {"at"})
    assert [*c_bytes("f(const uint8_t *raw, int n) { uint8_t a, own[6], *to; }")] == ["raw", "own", "to"]
    assert c_numbers("uint32_t at = 0; for (int i;) size_t f(x);") == {"at", "i"}


# Words


def names(source: str) -> set[str]:
    """What a Python text calls things; strings and comments are left out."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_a_conflict_of_addresses_is_no_claim() -> None:
    """One noun, one meaning: what a request of the initiator holds is another thing."""
    for path in [*sources("target"), *sources("limits"), *sources("timing"), *sources("cli")]:
        assert not {name for name in names(path.read_text()) if "claim" in name.lower()}, path


def test_the_reader_of_names_finds_what_it_looks_for() -> None:
    assert names("a = b.claim  # d\n'e'\n") == {"a", "b", "claim"}


PEOPLE = re.compile(r"\b(who|somebody|nobody|whoever|anybody|everybody)\b", re.IGNORECASE)


@pytest.mark.parametrize("room", ["aoe", "csrc", "man", "bench", "tools", "README.md", "CONTRIBUTING.md"])
def test_a_host_a_server_or_a_thread_is_called_so(room: str) -> None:
    """Machines are no people: a sentence names what does something."""
    top = AOE.parent / room
    for path in [top] if top.is_file() else sorted(it for it in top.rglob("*") if it.is_file()):
        if path.suffix in (".py", ".c", ".h", ".md", "") and "__pycache__" not in path.parts:
            found = PEOPLE.findall(path.read_text(errors="replace"))
            assert not found, path


def test_what_argparse_returns_stays_in_the_parsers() -> None:
    """Functions take what the words mean, with types."""
    users = [path.name for path in sources("cli") if "Namespace" in path.read_text()]
    assert users == []


def changes_of_directory(source: str) -> list[str]:
    """Calls that leave a process in another directory; pytest's own, `monkeypatch.chdir`, go back."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [ast.unparse(it) for it in calls if called(it) in ("chdir", "fchdir")]
    return [it for it in names if it != "monkeypatch.chdir"]


def test_no_test_leaves_its_worker_in_another_directory() -> None:
    found = {path: changes_of_directory(path.read_text()) for path in Path(__file__).parent.rglob("*.py")}
    assert not {path: calls for path, calls in found.items() if calls}


def test_the_finder_of_directories_finds_what_it_looks_for() -> None:
    source = "os.chdir(a)\nchdir(b)\nmonkeypatch.chdir(c)\ncontextlib.chdir(d)\nos.fchdir(3)\n"
    assert changes_of_directory(source) == ["os.chdir", "chdir", "contextlib.chdir", "os.fchdir"]


UNNAMED = {"aoe/cli", "csrc/initiator", "csrc/fuzz"}
"""Rooms whose modules are told of together: by the commands, by those of Python, by what they are for."""


def unlisted(room: Path, listed: str) -> set[str]:
    """Modules of a room that its line in the list leaves out; `of_*` stands for all of that kind."""
    said = set(re.findall(r"\w+\*?", listed))
    there = {it.stem for it in room.iterdir() if it.suffix in (".py", ".c", ".h")} - {"__init__"}
    return {it for it in there - said if not (it.startswith("of_") and "of_*" in said)}


def test_the_list_of_rooms_names_what_is_in_them() -> None:
    """In CONTRIBUTING.md, "The house": a new module gets its word there."""
    top = AOE.parent
    lines = [it.partition("/ ") for it in (top / "CONTRIBUTING.md").read_text().splitlines()]
    listed = {room: text for room, slash, text in lines if slash}
    rooms = [it for tree in (AOE, CSRC) for it in tree.iterdir() if [*it.glob("*.[pch]*")] and it.is_dir()]
    assert len(rooms) > 15
    missing = {str(it.relative_to(top)): it for it in rooms if str(it.relative_to(top)) not in UNNAMED}
    found = {name: unlisted(room, listed.get(name, "")) for name, room in missing.items()}
    assert not {name: left for name, left in found.items() if left}
    assert unlisted(AOE / "nbd", "nbdkit reports") == {"status"}


def test_a_file_is_not_long() -> None:
    """Those that are have their reasons in CONTRIBUTING.md."""
    longer = {str(path.relative_to(AOE)) for path in AOE.rglob("*.py") if path.read_text().count("\n") > LONG}
    assert longer <= LONGER
