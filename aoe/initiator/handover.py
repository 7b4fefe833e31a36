"""A planned change of the owner: away from a server that drains, to one that is proved to have the disk.

- The old server is there and answers, so no time has to pass for what is of unknown fate: all changes that
  are under way end there, and then a FLUSH there vouches for them. Its answer makes the other path the owner.
- Changes and flushes that come meanwhile wait, and go to the new owner: the first of them is sent when all
  earlier ones are on stable storage, and none is ever on its way to both servers.
- Reads do not wait. They go to the old owner until then, as those that overlap a change have to (order rule
  I5); what is under way there ends there.
- A change that was sent twice keeps its range closed until the old server has settled it, as always (I2).
- Where the disk does not end its changes within the patience, they wait no longer: all goes on at the old
  server, and it is tried again later, with more patience. So a slow disk costs a pause as long as it is slow.

It goes only to a server that is proved, also where it has written nothing: if the two are clones or out of
step, what it reads would be another disk's, or an older state of this one, and equal samples do not tell. An
owner that is lost leaves no choice; one that drains does. The old server is told that this is why.

csrc/initiator/handover.c does the same.
"""

from aoe.initiator import exchange as on_channel
from aoe.initiator import looks, traffic, trial
from aoe.initiator.board import Board
from aoe.initiator.exchange import FLUSH, Exchange, Kind
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Path
from aoe.wire import protocol
from aoe.wire.frame import Command


def tend(board: Board, now_ns: int) -> None:
    """Time has passed: begin if the owner drains, or put it off."""
    owner = board.owner
    if owner is None or not owner.draining:
        return
    if board.heir is not None:
        if now_ns - board.leaves_ns >= board.patience_ns:
            _put_off(board, now_ns)
    elif now_ns >= board.leaves_ns:
        _begin(board, now_ns)


def _begin(board: Board, now_ns: int) -> None:
    """With the first path that may take over; one that was not heard lately is looked at before."""
    for path in board.paths:
        if not _may_take_over(board, path):
            continue
        if traffic.is_vouched(board, path, now_ns):
            board.heir, board.leaves_ns = path, now_ns
            traffic.recall_changes(board, now_ns)
            go_on(board, now_ns)
            return
        looks.look(board, path, now_ns)


def _may_take_over(board: Board, path: Path) -> bool:
    good = path.state is State.USABLE and path.trial.proved and not path.draining
    return good and not trial.leads_to_owner(board, path)


def go_on(board: Board, now_ns: int) -> None:
    """Something happened while it is under way."""
    owner, heir = board.owner, board.heir
    assert heir is not None, "it is under way"
    assert owner is not None, "without one it is over"
    if not (owner.draining and heir.vouched and _may_take_over(board, heir)):
        _put_off(board, now_ns)
    elif not owner.vouched:
        return  # it is asked whether it is the same life, for which alone it can speak
    elif board.parted:
        _hand_over(board, owner, heir, now_ns)
    elif board.parting is None and not traffic.has_changes(board, owner):
        board.parting = Exchange(Command.ATA, FLUSH, kind=Kind.SYNCS, reply_min=protocol.ATA_HEADER)
        board.follow(owner, owner.channel.start_now(board.parting, now_ns))


def _hand_over(board: Board, owner: Path, heir: Path, now_ns: int) -> None:
    if board.parted == owner.channel.generation:
        board.unflushed = None
        board.debts.flushed()
        board.patience_ns = board.timing.handover_ns
        board.note(heir, Happens.CHOSEN)
    else:
        _put_off(board, now_ns)


def parted(board: Board, answer: on_channel.Answered, now_ns: int) -> None:
    """The old server has flushed what it was sent, or could not."""
    board.parting = None
    if answer.good:
        board.parted = answer.exchange.generation
    else:
        _put_off(board, now_ns)


def _put_off(board: Board, now_ns: int) -> None:
    """What waits goes on; it is tried again, with more patience."""
    board.patience_ns = min(2 * board.patience_ns, board.timing.handover_max_ns)
    over(board, now_ns)
    board.leaves_ns = now_ns + board.timing.handover_again_ns
    traffic.release(board, now_ns)


def over(board: Board, now_ns: int) -> None:
    """Nothing is handed over any more: it is done, or the owner is lost, or it was put off."""
    asked, board.heir, board.parting, board.parted = board.parting, None, None, 0
    if asked is not None:
        assert board.owner is not None, "it is asked as long as it is the owner"
        board.follow(board.owner, board.owner.channel.abandon(asked, now_ns))
