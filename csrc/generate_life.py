"""Writes life.h and life.c: the table of a path's life, as aoe/initiator/life.py has it. A test compares.

Run from the top of the repository: python -m csrc.generate
"""

import enum
import textwrap
from pathlib import Path

from aoe.initiator.life import ROWS, Do, Happens, Row, State

HEADER = Path(__file__).parent / "initiator" / "life.h"
SOURCE = HEADER.with_suffix(".c")
MADE = "/* Made of aoe/initiator/life.py by `python -m csrc.generate`: change that. */\n"
DEEDS_MAX = max(len(row.do) for row in ROWS)

_HEADER = """\
{made}#ifndef AOE_LIFE_H
#define AOE_LIFE_H

#include <stdint.h>

#include "shared/generated.h"

enum {{
{happens}
}};
enum {{
{do}
}};

/* What follows when something happens to a path. There is no row for what cannot happen. */
struct life_row {{
    uint8_t is_there, stays, to;
    uint8_t deeds[{deeds}]; /* the first DO_NOTHING ends them */
}};

extern const struct life_row life_table[PATH_STATES][HAPPENINGS];

/* What users see of a state. */
static inline int life_shown(int state)
{{
    static const uint8_t shown[PATH_STATES] = {{
{shown}
    }};
    return shown[state];
}}

#endif
"""

_SOURCE = """\
{made}#include "life.h"

const struct life_row life_table[PATH_STATES][HAPPENINGS] = {{
{rows}
}};
"""


def header() -> str:
    """The whole of life.h."""
    return _HEADER.format(
        made=MADE,
        happens=_wrapped([*_names(Happens, "HAPPENS"), "HAPPENINGS"]),
        do=_wrapped(["DO_NOTHING", *_names(Do, "DO")]),
        deeds=DEEDS_MAX + 1,
        shown="\n".join(f"        [PATH_{state.name}] = PATH_{state.shown.name}," for state in State),
    )


def source() -> str:
    """The whole of life.c."""
    rows = "\n".join(f"    {_row(state, row)}" for row in ROWS for state in row.states)
    return _SOURCE.format(made=MADE, rows=rows)


def _names(kind: type[enum.IntEnum], prefix: str) -> list[str]:
    """In the order of their numbers, which follow each other."""
    return [f"{prefix}_{one.name}" for one in sorted(kind)]


def _wrapped(values: list[str]) -> str:
    return textwrap.fill(", ".join(values), 110, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _row(state: State, row: Row) -> str:
    to = state if row.to is None else row.to
    deeds = ", ".join(f"DO_{do.name}" for do in row.do) or "DO_NOTHING"
    values = f"{{1, {int(row.to is None)}, PATH_{to.name}, {{{deeds}}}}}"
    return f"[PATH_{state.name}][HAPPENS_{row.happens.name}] = {values},"
