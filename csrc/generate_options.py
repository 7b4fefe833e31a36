"""Writes nbd/options.h: the words of the NBD plugin, as aoe/initiator/options.py has them. A test compares.

Run from the top of the repository: python -m csrc.generate
"""

import json
import textwrap
from pathlib import Path

from aoe import limits
from aoe.initiator.options import OPTIONS, Choice, CommandWords, Flag, Option, Seconds
from aoe.nbd import DEFAULTS

HEADER = Path(__file__).parent / "nbd" / "options.h"
HEAD = """\
/* Made of aoe/initiator/options.py by `python -m csrc.generate`: change that. */
#ifndef AOE_OPTIONS_H
#define AOE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
"""
KINDS = """\
enum option_kind { OPTION_SECONDS, OPTION_SECONDS_OR_NONE, OPTION_FLAG, OPTION_CHOICE, OPTION_COMMAND };

struct option {
    const char *key;
    enum option_kind kind;
    size_t at;                /* where its value is in `struct options` */
    const char *const *words; /* what a choice may be, and NULL */
};
"""


def header() -> str:
    """The whole file."""
    return "\n".join(
        [HEAD, _bounds(), *_choices(), _struct(), KINDS, _table(), _default(), _help(), "#endif\n"]
    )


def _bounds() -> str:
    seconds, words = limits.SECONDS_MAX, limits.FENCE_WORDS_MAX
    return f"#define OPTION_SECONDS_MAX {seconds:.0e}\nenum {{ FENCE_MAX = {words} }};\n"


def _choices() -> list[str]:
    return [
        f"enum {{ {', '.join(_choice(it, word) for word in it.kind.words)} }};\n"
        f"static const char *const {it.word}_words[] = {{{_quoted(it.kind.words)}, NULL}};\n"
        for it in OPTIONS
        if isinstance(it.kind, Choice)
    ]


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(map(json.dumps, words))


def _choice(option: Option, word: str) -> str:
    return f"{option.word}_{word}".upper()


def _struct() -> str:
    fields = "\n".join(f"    {_field(option)}" for option in OPTIONS)
    return f"struct options {{\n{fields}\n}};\n"


def _field(option: Option) -> str:
    match option.kind:
        case Seconds(none=none):
            return f"int64_t {_name(option)};" + (" /* negative: none */" if none else "")
        case CommandWords():
            return f"char *{_name(option)}[FENCE_MAX + 1]; /* and NULL */"
    return f"uint32_t {_name(option)};"


def _name(option: Option) -> str:
    return f"{option.word}_ns" if isinstance(option.kind, Seconds) else option.word


def _table() -> str:
    rows = "\n".join(f"    {_row(option)}" for option in OPTIONS)
    return f"static const struct option option_table[] = {{\n{rows}\n}};\n"


def _row(option: Option) -> str:
    words = f"{option.word}_words" if isinstance(option.kind, Choice) else "NULL"
    return f'{{"{option.word}", {_kind(option)}, offsetof(struct options, {_name(option)}), {words}}},'


def _kind(option: Option) -> str:
    match option.kind:
        case Seconds(none=none):
            return "OPTION_SECONDS_OR_NONE" if none else "OPTION_SECONDS"
        case Flag():
            return "OPTION_FLAG"
        case Choice():
            return "OPTION_CHOICE"
    return "OPTION_COMMAND"


def _default() -> str:
    values = ", ".join(filter(None, map(_default_of, OPTIONS)))
    return f"#define OPTIONS_DEFAULT {{{values}}}\n"


def _default_of(option: Option) -> str:
    value = getattr(DEFAULTS, option.name)
    match option.kind:
        case Seconds():
            return f".{_name(option)} = {-1 if value is None else int(value * 1e9)}"
        case Choice():
            return f".{_name(option)} = {_choice(option, value)}"
        case Flag():
            return f".{_name(option)} = {int(value)}"
    return ""


def _help() -> str:
    lines = "".join(f' \\\n    "{_said(option)}\\n"' for option in OPTIONS)
    return f"#define OPTIONS_HELP{lines}\n"


def metavar(option: Option) -> str:
    """What its value is called."""
    return {
        "OPTION_SECONDS": "SECONDS",
        "OPTION_SECONDS_OR_NONE": "SECONDS|none",
        "OPTION_FLAG": "true",
        "OPTION_CHOICE": "|".join(getattr(option.kind, "words", ())),
        "OPTION_COMMAND": "COMMAND",
    }[_kind(option)]


def _said(option: Option) -> str:
    first, *more = textwrap.wrap(option.meaning(), 60)
    return ("\\n" + " " * 22).join([f"{option.word}={metavar(option)} ".ljust(22) + first, *more])
