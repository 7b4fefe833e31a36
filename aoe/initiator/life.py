"""A path's life is a table: what may happen to a path in each of its states, and what follows.

A path is CHECKING from when a server tells of itself until IDENTIFY says what it serves. A path that leads to
the disk is USABLE. A path to another server is COMPARED first, as `aoe.initiator.proof` says. A path that is
lost for a while is DOWN, a path that leads to another disk is REFUSED. A refused path whose samples differed
is RETRIED: its samples are read again, and it stays refused until they are equal. Users see four states: to
them COMPARED is checking, and RETRIED is refused.

What happens to a path is found out elsewhere, and only noted there. `Session` takes one note after the other:
it looks up the row, changes the state, and does what the row says, in that order. What follows from that for
this path or for others is noted behind. So nothing happens in the middle of something else.

- Whatever the state: a path whose port goes down is DOWN, and so is a path whose server fails IDENTIFY, or
  shows something that does not fit just now. A path whose server shows another disk is REFUSED. All of them
  are looked at again after some time.
- Only a USABLE path is given operations, and the owner is USABLE. GIVE_UP comes with every loss: nothing is
  vouched for, the path is not the owner any more, and what is under way there waits for another path. TURN
  comes last: what waits goes to the owner, or, without one, all paths that may be asked are looked at.
- A path that is COMPARED because another one became the owner keeps what is under way there: it ends as it
  would have.
- How large frames may be is learned anew on a path that comes from elsewhere, as it may lead over other
  switches; not on a path whose samples are equal, as it was learned before they were read.
- A server that tells of itself may have started again: then a REFUSED path is asked without delay, and so is
  a USABLE one, since a server that has started again does not heed the changes that were sent to it before.
  A path that is DOWN is asked whatever its server says.

A pair without a row cannot happen, whatever a server sends. csrc/initiator/life.c is made of the table.
"""

import enum
from typing import NamedTuple


class State(enum.IntEnum):
    """Of a path. Users see the first four."""

    CHECKING = 0
    USABLE = 1
    DOWN = 2
    REFUSED = 3
    COMPARED = 4
    RETRIED = 5

    @property
    def shown(self) -> "State":
        """What users see of it."""
        return _SHOWN.get(self, self)


_SHOWN = {State.COMPARED: State.CHECKING, State.RETRIED: State.REFUSED}


class Happens(enum.IntEnum):
    """What happens to a path."""

    UNPLUGGED = 0
    """Its port is down."""
    SILENT = 1
    """Its server owes an answer for too long."""
    SLOW = 2
    """It answers queries, but neither reads nor writes."""
    UNFIT = 3
    """IDENTIFY fails, or shows what does not fit just now."""
    ANOTHER = 4
    """IDENTIFY shows another disk, or one that cannot be used beside others."""
    CONDEMNED = 5
    """The proof has shown that it is another disk."""
    UNSEEN = 6
    """IDENTIFY fits, but writes of ours were not seen there."""
    DIFFERENT = 7
    """IDENTIFY fits, but its samples were different."""
    UNSURE = 8
    """IDENTIFY fits; its samples are to be compared."""
    FIT = 9
    """IDENTIFY fits, and its server is known."""
    EQUAL = 10
    """Its samples are equal to the owner's."""
    DOUBTED = 11
    """There is a new owner, with which its samples were not compared."""
    TELLS = 12
    """Its server tells of itself unasked."""
    ANSWERS = 13
    """Its server answers a query."""
    REPLACED = 14
    """The owner has started again, and gives way to a proved server."""
    CHOSEN = 15
    """It is the owner from now on."""


class Do(enum.IntEnum):
    """What a row does."""

    GIVE_UP = 1
    """The path carries nothing any more; what it had under way waits for another one."""
    TURN = 2
    """What waits goes to the owner; without one all paths are looked at."""
    VOUCH = 3
    """Until something happens its server is what it was."""
    LOOK = 4
    """IDENTIFY."""
    RESIZE = 5
    """Learn anew how large frames may be."""
    MEASURE = 6
    """Go on learning that."""
    USE = 7
    """It takes over where there is no owner; what waits is sent."""
    OWN = 8
    """It is the owner."""
    AGAIN_SOON = 9
    AGAIN_SLOW = 10
    AGAIN_REFUSED = 11
    AGAIN_CONDEMNED = 12
    """When it is looked at again: RECHECK_NS, SLOW_NS, CONDEMNED_NS; one that is refused not so soon while
    another one is the owner, QUERY_IDLE_NS."""


class Row(NamedTuple):
    """In some states, what happens leads to another one (None: it does not) and does this."""

    states: tuple[State, ...]
    happens: Happens
    to: State | None
    do: tuple[Do, ...] = ()


_CHECKING, _USABLE, _DOWN, _REFUSED, _COMPARED, _RETRIED = State
_ALL = tuple(State)
_EMPTY = (_CHECKING, _DOWN, _REFUSED, _RETRIED)
"""Nothing of an operation is under way there."""
_LOST = (Do.GIVE_UP, Do.TURN)

ROWS = (
    Row(_ALL, Happens.UNPLUGGED, _DOWN, _LOST),
    Row((_USABLE,), Happens.SILENT, _DOWN, _LOST),
    Row((_CHECKING, _COMPARED, _RETRIED), Happens.SILENT, _DOWN, (Do.AGAIN_SOON, *_LOST)),
    Row((_USABLE,), Happens.SLOW, _DOWN, (Do.AGAIN_SLOW, *_LOST)),
    Row(_ALL, Happens.UNFIT, _DOWN, (Do.AGAIN_SOON, *_LOST)),
    Row(_ALL, Happens.ANOTHER, _REFUSED, (Do.AGAIN_REFUSED, *_LOST)),
    Row(_ALL, Happens.CONDEMNED, _REFUSED, (Do.AGAIN_CONDEMNED, *_LOST)),
    Row((_USABLE, _COMPARED), Happens.UNSEEN, _REFUSED, (Do.AGAIN_CONDEMNED, *_LOST)),
    Row(_EMPTY, Happens.UNSEEN, _REFUSED, (Do.AGAIN_CONDEMNED, Do.VOUCH, Do.RESIZE, Do.MEASURE)),
    Row((_USABLE, _COMPARED), Happens.DIFFERENT, _RETRIED, (Do.AGAIN_CONDEMNED, *_LOST)),
    Row(_EMPTY, Happens.DIFFERENT, _RETRIED, (Do.AGAIN_CONDEMNED, Do.VOUCH, Do.RESIZE, Do.MEASURE)),
    Row((*_EMPTY, _COMPARED), Happens.UNSURE, _COMPARED, (Do.VOUCH, Do.RESIZE, Do.MEASURE)),
    Row((_USABLE,), Happens.UNSURE, _COMPARED, (Do.VOUCH, Do.MEASURE)),
    Row((*_EMPTY, _COMPARED), Happens.FIT, _USABLE, (Do.VOUCH, Do.RESIZE, Do.MEASURE, Do.USE)),
    Row((_USABLE,), Happens.FIT, _USABLE, (Do.VOUCH, Do.MEASURE, Do.USE)),
    Row((_COMPARED, _RETRIED), Happens.EQUAL, _USABLE, (Do.USE,)),
    Row((_USABLE,), Happens.DOUBTED, _COMPARED),
    Row((*_EMPTY, _COMPARED), Happens.DOUBTED, None),
    Row((_REFUSED, _RETRIED), Happens.TELLS, _CHECKING, (Do.LOOK,)),
    Row((_DOWN,), Happens.TELLS, None, (Do.LOOK,)),
    Row((_USABLE,), Happens.TELLS, None, (Do.LOOK,)),
    Row((_CHECKING, _COMPARED), Happens.TELLS, None),
    Row((_DOWN,), Happens.ANSWERS, None, (Do.LOOK,)),
    Row((_CHECKING, _COMPARED, _USABLE, _REFUSED, _RETRIED), Happens.ANSWERS, None),
    Row((_USABLE,), Happens.REPLACED, _CHECKING, _LOST),
    Row((_USABLE, _COMPARED), Happens.CHOSEN, _USABLE, (Do.OWN,)),
)
TABLE = {(state, row.happens): row for row in ROWS for state in row.states}
assert len(TABLE) == sum(len(row.states) for row in ROWS), "a pair has one row"
