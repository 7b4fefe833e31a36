"""The manual pages are those of this code, and well-formed."""

import re
import subprocess
from pathlib import Path

import pytest

from aoe.cli import cloud_parser, parser, target_parser
from aoe.config.keys import TABLES
from aoe.drive.command import Kind
from aoe.initiator.options import OPTIONS
from aoe.metrics.table import COUNTERS, LINK, ROWS, TARGET
from aoe.node.status import ClientStatus, EngineStatus, ExportStatus, InterfaceStatus, Status
from aoe.wire.frame import Fault
from man import generate
from tests.support.tools import need

ROOT = Path(__file__).parent.parent
each_page = pytest.mark.parametrize("name", generate.PAGES)


def rendered(name: str) -> str:
    """A page as a reader sees it, without bold and underline."""
    need("groff")
    command = ["groff", "-man", "-ww", "-Tutf8", "-rLL=200n", generate.HERE / name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout).replace("\N{HYPHEN}", "-")


@each_page
def test_a_page_is_fresh(name: str) -> None:
    assert generate.page(name) == (generate.HERE / name).read_text(), "run python -m man.generate"


@each_page
def test_a_page_is_well_formed(name: str) -> None:
    assert rendered(name).startswith(name.partition(".")[0].upper())
    need("mandoc")
    command = ["mandoc", "-Tlint", "-W", "style", generate.HERE / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@each_page
def test_no_mark_of_the_prose_is_left(name: str) -> None:
    example = generate.EXAMPLE.read_text().splitlines()
    text = "\n".join(line for line in rendered(name).splitlines() if line.strip() not in example)
    assert "`" not in text
    assert not re.search(r"\{\w+[} ]|^\s*#", text, re.MULTILINE)
    assert "\\" not in text


@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("aoe.1", parser.parser()),
        ("aoe-cloud.1", cloud_parser.parser()),
        ("aoe-target.8", target_parser.parser()),
    ],
)
def test_every_command_and_option_is_told_of(name: str, top: target_parser.argparse.ArgumentParser) -> None:
    text = rendered(name)
    for word, command in generate.commands(top).items():
        assert f"{top.prog} {word}" in text
        for action in command._actions:
            for flag in action.option_strings:
                assert re.search(rf"^\s+(-\w, |--[\w-]+, )?{flag}\b", text, re.MULTILINE), (word, flag)


def test_every_key_of_the_file_is_told_of() -> None:
    text = " ".join(rendered("aoe-target.toml.5").split())
    for keys in TABLES.values():
        for key in keys.values():
            words = re.escape(key.kind.words[1:])
            assert re.search(rf" {key.name} \S{words}\. [A-Z]", text), key.name


def _of_door() -> set[str]:
    """The long options of the supervisor."""
    words = re.findall(r'\{"([a-z-]+)", \w+_argument', (ROOT / "csrc/door/options.c").read_text())
    return {f"--{word}" for word in words}


def test_every_option_of_the_supervisor_is_told_of() -> None:
    text, usage = rendered("aoe-door.8"), (ROOT / "csrc/door/options.c").read_text()
    told = set(re.findall(r"^\s+-\w, (--[a-z-]+)", text, re.MULTILINE))
    assert told == _of_door()
    assert not [flag for flag in told if flag not in usage]


def test_every_word_of_the_plugin_is_told_of() -> None:
    text = rendered("aoe-door.8")
    for word in ("address", "interface", "link", *(it.word for it in OPTIONS)):
        assert re.search(rf"^\s+{word}=", text, re.MULTILINE), word


def test_every_option_that_the_prose_names_exists() -> None:
    known = {"--target-is-zero", "--threads", *_of_door()}
    for top in (parser.parser(), cloud_parser.parser(), target_parser.parser()):
        for command in generate.commands(top).values():
            known |= {flag for action in command._actions for flag in action.option_strings}
    for name in generate.PAGES:
        prose = (generate.HERE / f"{name}.md").read_text()
        assert set(re.findall(r"--[a-z][a-z-]+", prose)) <= known, name


# The converter


@pytest.mark.parametrize(
    ("prose", "roff"),
    [
        ("# aoe 1 2026-11-28", ['.TH AOE 1 2026-11-28 aoe-target "aoe-target"']),
        ("## A B", [".SH A B"]),
        ("### `a-b`", [".SS \\fBa\\-b\\fR"]),
        ("of `a` and\n*B*", [".PP", "of \\fBa\\fR and \\fIB\\fR"]),
        (".not a request", [".PP", "\\&.not a request"]),
        ("it's a \\ b", [".PP", "it\\(aqs a \\e b"]),
        ("`-x` *N*\n: does it\nwell", [".TP", "\\fB\\-x\\fR \\fIN\\fR", "does it well"]),
        ("- an item", [".IP \\(bu 2", "an item"]),
        ("    a -b\n    .c", [".PP", ".RS 4", ".nf", "a \\-b", "\\&.c", ".fi", ".RE"]),
    ],
)
def test_prose_becomes_roff(prose: str, roff: list[str]) -> None:
    assert list(generate._block(prose)) == roff


def test_a_part_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        list(generate._block("{nothing}"))


# Counters


def counted(*rooms: str) -> set[str]:
    """What a target counts, by the words in its source."""
    sources = [path for room in rooms for path in (ROOT / "aoe" / room).glob("*.py")]
    named = "\n".join(path.read_text() for path in sources if path.name not in ("faulty.py", "memory.py"))
    either = re.findall(r'_count\("([a-z_]+)" if .* else "([a-z_]+)",', named)
    found = re.findall(r'(?:counters\[|_drop\(|_count\(|: )"([a-z_]+)"[\]),}]', named)
    return {*found, *sum(either, ())}


def counted_in_c() -> set[str]:
    """What the threads of the engine count for the target."""
    sources = "".join(path.read_text() for path in (ROOT / "csrc" / "target").glob("*.c"))
    names = {row.name for row in TARGET if row.at >= 0}
    return {name for name in names if re.search(rf"\b(AOE_)?{name.upper()}\b", sources)}


def test_every_counter_is_explained_and_every_explained_counter_exists() -> None:
    assert set(COUNTERS) == {*counted("target"), *counted_in_c(), *Kind, *Fault}
    assert {row.name for row in LINK} == counted("link")


def test_an_explanation_is_a_sentence() -> None:
    for row in ROWS:
        assert re.fullmatch(r"[A-Z1].*\.", row.help), row.name


def test_every_key_of_the_status_is_told_of() -> None:
    prose = (generate.HERE / "aoe-target.8.md").read_text()
    told = set(re.findall(r"`(\w+)`", prose[prose.index("With `--json` `status`") :]))
    values = (Status, ExportStatus, ClientStatus, InterfaceStatus, EngineStatus)
    assert {name for value in values for name in value._fields} <= told
