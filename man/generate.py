"""Writes each manual page of the prose in the file of its name with .md behind. A test compares.

Run from the top of the repository: python -m man.generate

The prose is a small part of Markdown: `#` the title (name, section, date), `##` and `###` headings,
paragraphs, `-` items, indented examples, terms (a line that is followed by `: text`), `literal` and
*argument*. A line {like this} is what a parser or a table in aoe/ says; `PARTS` has what there is.
"""

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from aoe.cli import cloud_parser, parser, target_parser
from aoe.config.keys import DEFAULTS, TABLES
from aoe.doctor.checks import CHECKS
from aoe.initiator.options import OPTIONS
from aoe.metrics.about import ABOUT
from aoe.metrics.table import LINK, TARGET
from aoe.metrics.text import OF_CLIENT, OF_EXPORT, OF_LINK, OF_TARGET, OF_THREAD, Told
from csrc.generate_options import metavar

HERE = Path(__file__).parent
PAGES = ("aoe.1", "aoe-cloud.1", "aoe-door.8", "aoe-root.7", "aoe-target.8", "aoe-target.toml.5")
EXAMPLE = HERE.parent / "examples" / "aoe-target.toml"
COMMON = ("-h", "--interface", "--link", "--json")
"""Options of every command of `aoe`, which are explained once; and so are its addresses."""
ASKING = ("--socket",)
POOLS = ("--config", "--plan")
"""The same for the commands that ask a daemon, and for those that work on a pool, besides some of those."""


def page(name: str) -> str:
    """The whole page, in roff's man macros."""
    lines = [f'.\\" Made of {name}.md by `python -m man.generate`: change that.', *_lines(name), ""]
    first = [line for before, line in zip(["", *lines], lines, strict=False) if not _needless(before, line)]
    return "\n".join(first)


def _needless(before: str, line: str) -> bool:
    """A paragraph begins behind a heading anyway."""
    return line == ".PP" and before.startswith((".SH", ".SS"))


def _lines(name: str) -> Iterator[str]:
    text = (HERE / f"{name}.md").read_text()
    for block in re.split(r"\n{2,}", text.strip()):
        yield from _block(block)


def _block(block: str) -> Iterator[str]:
    part = re.fullmatch(r"\{(\w+)(?: ([\w-]+))?(?: ([\w-]+))?\}", block)
    if part:
        yield from PARTS[part[1]](*filter(None, [part[2], part[3]]))
    elif block.startswith("# "):
        name, section, date = block[2:].split()
        yield f'.TH {name.upper()} {section} {date} aoe-target "aoe-target"'
    elif block.startswith("## "):
        yield f".SH {block[3:]}"
    elif block.startswith("### "):
        yield f".SS {inline(block[4:])}"
    elif block.startswith("    "):
        yield from _example([line[4:] for line in block.splitlines()])
    elif block.startswith("- "):
        yield from (".IP \\(bu 2", *_guarded(inline(block[2:])))
    elif "\n: " in block:
        term, text = block.split("\n: ", 1)
        yield from tagged(inline(term), inline(text))
    else:
        yield from (".PP", *_guarded(inline(block)))


def inline(text: str) -> str:
    """With `literal` in bold and *argument* in italics."""
    pieces = re.split(r"(`[^`]+`|\*[^*\s][^*]*\*)", text)
    return "".join(map(_piece, pieces))


def _piece(piece: str) -> str:
    if piece[:1] == "`":
        return bold(piece[1:-1])
    if piece[:1] == "*" and piece[-1:] == "*" and len(piece) > 2:
        return italic(piece[1:-1])
    return escape(piece)


def escape(text: str) -> str:
    """Text as roff prints it. Of hyphens, only those of options and names are ones that may be copied."""
    return text.replace("\\", "\\e").replace("'", "\\(aq").replace(" - ", " \\- ")


def _literal(text: str) -> str:
    shown = escape(text).replace("-", "\\-")
    return f"\\&{shown}" if shown[:1] == "." else shown


def bold(text: str) -> str:
    """What is typed as it stands."""
    return f"\\fB{escape(text)}\\fR".replace("-", "\\-")


def italic(text: str) -> str:
    """What stands for something else."""
    return f"\\fI{escape(text)}\\fR".replace("-", "\\-")


def _example(lines: Iterable[str]) -> Iterator[str]:
    yield from (".PP", ".RS 4", ".nf", *map(_literal, lines), ".fi", ".RE")


def _guarded(text: str) -> list[str]:
    """Lines of running text: none is taken for a request."""
    lines = textwrap.wrap(text, 79, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{line}" if line[:1] in (".", "'") else line for line in lines]


def tagged(term: str, text: str) -> list[str]:
    """A term, and what it means."""
    return [".TP", *_guarded(term), *_guarded(text)]


# What the parsers say


def commands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands, also those of subcommands: `volume create`."""
    found: dict[str, argparse.ArgumentParser] = {}
    for below in (it for it in top._actions if isinstance(it, argparse._SubParsersAction)):
        for name, command in below.choices.items():
            inner = commands(command)
            found |= {f"{name} {word}": it for word, it in inner.items()} or {name: command}
    return found


def _of_target(name: str) -> argparse.ArgumentParser:
    return commands(target_parser.parser())[name]


def _of_client(name: str) -> argparse.ArgumentParser:
    return commands(parser.parser())[name]


def synopsis(name: str) -> list[str]:
    """How a command is typed."""
    command = _of_target(name)
    words = [bold(command.prog)]
    words += [_bracketed(it) for it in command._actions if it.option_strings and it.dest != "help"]
    words += [_operand(it) for it in command._actions if not it.option_strings]
    return [".HP", *_guarded(" ".join(words))]


def _bracketed(action: argparse.Action) -> str:
    return f"[{bold(action.option_strings[0])}{_value(action)}]"


def _operand(action: argparse.Action) -> str:
    shown = italic(str(action.metavar))
    return {"+": f"{shown} ...", "*": f"[{shown} ...]", "?": f"[{shown}]"}.get(str(action.nargs), shown)


def _value(action: argparse.Action) -> str:
    if action.choices:
        return " " + "|".join(map(bold, action.choices))
    return f" {italic(action.metavar)}" if isinstance(action.metavar, str) else ""


def options(name: str) -> Iterator[str]:
    """What each operand and option of a command is."""
    yield from _told(_of_target(name)._actions)


def _told(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        yield from (
            _option(action) if action.option_strings else tagged(_operand(action), _sentence(action.help))
        )


def common() -> Iterator[str]:
    """The options that each command of `aoe` has."""
    yield from _told(it for it in _of_client("discover")._actions if it.option_strings)


def _option(action: argparse.Action) -> list[str]:
    names = ", ".join(map(bold, action.option_strings))
    return tagged(names + _value(action), _sentence(action.help))


def _sentence(text: str | None) -> str:
    assert text, "each option is told of"
    first, *rest = text.split(" ", 1)
    return inline(" ".join([first[0].upper() + first[1:] if first.islower() else first, *rest]) + ".")


def command(name: str) -> Iterator[str]:
    """A command of `aoe`: how it is typed, what it does, its options."""
    own = [it for it in _of_client(name)._actions if not _is_common(it)]
    words = [bold(f"aoe {name}"), *(_bracketed(it) for it in own if it.option_strings)]
    words += [_operand(it) for it in _of_client(name)._actions if not it.option_strings]
    yield from (".HP", *_guarded(" ".join(words)), ".RS")
    yield from (".PP", *_guarded(_sentence(_of_client(name).description)))
    yield from (*_told(own), ".RE")


def verb(name: str, word: str = "") -> Iterator[str]:
    """The same for a command of `aoe-target` that asks a daemon, or works on a pool (`volume create`); what
    all of those have is told once."""
    name = f"{name} {word}".rstrip()
    told = {*COMMON, *ASKING, *(POOLS if word else ())}
    yield from _typed(commands(target_parser.parser())[name], told)


def cloud(name: str, word: str) -> Iterator[str]:
    """The same for a command of `aoe-cloud`."""
    yield from _typed(commands(cloud_parser.parser())[f"{name} {word}"], {"-h"})


def _typed(asking: argparse.ArgumentParser, told: set[str]) -> Iterator[str]:
    own = [it for it in asking._actions if not {*it.option_strings} & told]
    words = [bold(asking.prog), *(_bracketed(it) for it in own if it.option_strings)]
    words += [_operand(it) for it in own if not it.option_strings]
    yield from (".HP", *_guarded(" ".join(words)), ".RS")
    yield from (".PP", *_guarded(_sentence(asking.description)), *_told(own), ".RE")


def asking() -> Iterator[str]:
    """The options that each of those has."""
    known = commands(target_parser.parser())["set"]._actions
    yield from _told(it for it in known if {*it.option_strings} & {*COMMON, *ASKING})


def pools() -> Iterator[str]:
    """The options that commands have that work on a pool."""
    known = commands(target_parser.parser())["volume create"]._actions
    yield from _told(it for it in known if {*it.option_strings} & {*COMMON, *ASKING, *POOLS})


def _is_common(action: argparse.Action) -> bool:
    return action.dest == "addresses" or bool({*action.option_strings} & {*COMMON})


def plugin() -> Iterator[str]:
    """The options that nbdkit's plugin has, besides what leads to the disk."""
    for option in OPTIONS:
        yield from tagged(bold(f"{option.word}=") + italic(metavar(option)), _sentence(option.meaning()))


def counters() -> Iterator[str]:
    """What each counter of a target means."""
    for row in TARGET:
        yield from tagged(bold(row.name), inline(row.help))
    for row in LINK:
        yield from tagged(f"{italic('IF')}.{bold(row.name)}", inline(row.help))


def checks() -> Iterator[str]:
    """What each kind of finding of a doctor means."""
    for id, check in CHECKS.items():
        yield from tagged(f"{bold(id)} ({check.severity})", _sentence(check.why))


def metrics() -> Iterator[str]:
    """What Prometheus is told, besides the counters that are explained already."""
    for family in ABOUT:
        yield from tagged(bold(family.name), inline(family.help))
    for told in (*OF_TARGET, *OF_LINK):
        names = ", ".join(bold(row.name) for row in told.rows)
        yield from tagged(_by_label(told), f"Of the counters above: {names}.")
    for told in (*OF_EXPORT, *OF_CLIENT, *OF_THREAD):
        yield from tagged(_by_label(told), inline(told.family.help))


def _by_label(told: Told) -> str:
    label = told.rows[0].label
    return bold(told.family.name) + (f" by {bold(label)}" if label else "")


def keys(table: str) -> Iterator[str]:
    """What each key of a table of the configuration file takes and means."""
    for key in TABLES[table].values():
        yield from tagged(bold(key.name), f"{_sentence(key.kind.words)} {_sentence(key.help)}")


def defaults() -> list[str]:
    """The keys that [defaults] may have."""
    return [".PP", *_guarded(", ".join(bold(key.name) for key in DEFAULTS) + ".")]


def example() -> Iterator[str]:
    """A whole configuration file."""
    return _example(EXAMPLE.read_text().splitlines())


PARTS: dict[str, Callable[..., Iterator[str] | list[str]]] = {
    "synopsis": synopsis,
    "options": options,
    "common": common,
    "command": command,
    "verb": verb,
    "cloud": cloud,
    "asking": asking,
    "pools": pools,
    "plugin": plugin,
    "counters": counters,
    "checks": checks,
    "metrics": metrics,
    "keys": keys,
    "defaults": defaults,
    "example": example,
}


if __name__ == "__main__":
    for made in PAGES:
        (HERE / made).write_text(page(made))
