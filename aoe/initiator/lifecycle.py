"""What happens to paths, as the table of `aoe.initiator.life` has it, and which of them is the owner."""

from collections.abc import Callable

from aoe.initiator import discovery, handover, health, looks, traffic, trial
from aoe.initiator.board import Board
from aoe.initiator.facts import Reason
from aoe.initiator.life import TABLE, Do, Happens, State
from aoe.initiator.path import Note, Path


def happened(board: Board, path: Path, note: Note, now_ns: int) -> None:
    """As the table of a path's life has it."""
    row = TABLE.get((path.state, note.happens))
    assert row is not None, f"{note.happens.name} does not happen to a path that is {path.state.name}"
    if row.to is not None:
        _become(board, path, row.to, note.reason, now_ns)
    for do in row.do:
        _DOING[do](board, path, now_ns)


def _become(board: Board, path: Path, state: State, reason: Reason, now_ns: int) -> None:
    if (path.state, path.reason) != (state, reason):
        if state is State.USABLE:
            path.usable_ns = now_ns
            board.usable_ns = board.usable_ns or now_ns
        path.state, path.reason = state, reason
        board.news += 1


def _give_up(board: Board, path: Path, now_ns: int) -> None:
    path.vouched = False
    asked, path.check, path.question = (path.check, path.question), None, None
    if path is board.owner:
        handover.over(board, now_ns)
        board.owner = None
        board.lost_ns = now_ns
    traffic.take_back(board, path, traffic.under_way(board, path), now_ns)
    board.held |= dict.fromkeys(operation for operation in path.refused if operation.only is None)
    path.refused.clear()
    for exchange in asked:
        if exchange is not None:
            board.follow(path, path.channel.abandon(exchange, now_ns))


def _turn(board: Board, _: Path, now_ns: int) -> None:
    if board.owner is not None:
        traffic.release(board, now_ns)
        return
    for other in board.paths:
        if now_ns >= other.check_after_ns:
            looks.look(board, other, now_ns)


def _vouch(board: Board, path: Path, _: int) -> None:
    board.news += not path.vouched
    path.vouched = True


def _resize(_: Board, path: Path, now_ns: int) -> None:
    path.sizes.restart(now_ns)


def _put_to_use(board: Board, path: Path, now_ns: int) -> None:
    if board.owner is None and board.chosen and trial.may_inherit(board, path):
        _take_over(board, path, now_ns)
    else:
        traffic.release(board, now_ns)


def _take_over(board: Board, path: Path, now_ns: int) -> None:
    if board.unflushed not in (None, path):
        board.losses += 1
    if not path.trial.proved:
        trial.refer_to(board, path)
    handover.over(board, now_ns)
    board.owner = path
    path.io_ns = now_ns
    board.news += 1
    trial.compare_all(board)
    traffic.release(board, now_ns)


def _again_soon(board: Board, path: Path, now_ns: int) -> None:
    path.check_after_ns = now_ns + board.timing.recheck_ns


def _again_slow(board: Board, path: Path, now_ns: int) -> None:
    path.check_after_ns = now_ns + board.timing.slow_ns


def _again_refused(board: Board, path: Path, now_ns: int) -> None:
    others = board.owner not in (None, path)
    path.check_after_ns = now_ns + (board.timing.query_idle_ns if others else board.timing.recheck_ns)


def _again_condemned(board: Board, path: Path, now_ns: int) -> None:
    path.check_after_ns = now_ns + board.timing.condemned_ns


def settle_in(board: Board, now_ns: int) -> None:
    """Choose the first owner: when every address has a path, or those that have none take too long."""
    usable = [path for path in board.paths if path.state is State.USABLE]
    if not usable:
        return
    waited_ns = now_ns - board.usable_ns
    all_looked_at = all(discovery.was_looked_at(board, address) for address in board.addresses)
    if waited_ns >= (board.timing.settle_in_ns if all_looked_at else board.timing.query_max_ns):
        board.chosen = True
        first = min(usable, key=lambda path: path.draining)
        first.trial.proved = True
        _answer_for_cache(board, first)
        board.note(first, Happens.CHOSEN)


def _answer_for_cache(board: Board, owner: Path) -> None:
    """What an earlier life left in a volatile cache is there still, or the next FLUSH fails (I6)."""
    cached, board.debts.left_cache = board.debts.left_cache, None
    if cached is None:
        return
    assert owner.facts is not None, "it is usable"
    there = cached.peer[1:] == owner.channel.peer[1:] and cached.stamp.instance == (owner.facts.instance or 0)
    if there and owner.facts.volatile:
        board.unflushed = owner
        board.debts.cache(owner.port, owner.channel.peer, cached.stamp.instance)
    else:
        board.losses += 1
        board.debts.news += 1


def inherit(board: Board, now_ns: int) -> None:
    """The proved ones do not answer, either."""
    there = [path for path in board.paths if path.state is State.USABLE and path.check is None]
    heirs = [path for path in there if path.vouched and not trial.is_barred(board, path)]
    if heirs and now_ns - board.lost_ns >= board.timing.probe_ns:
        board.note(min(heirs, key=lambda path: (not path.trial.proved, path.draining)), Happens.CHOSEN)


def go_back(board: Board, failback_ns: int, now_ns: int) -> None:
    """To a path that was named earlier; an owner that is to be left is handed over instead."""
    if board.owner is not None and board.owner.draining:
        return
    for path in board.paths:
        if path is board.owner:
            return
        good = path.state is State.USABLE and path.trial.proved and not path.draining
        if good and now_ns - path.usable_ns >= failback_ns:
            board.note(path, Happens.CHOSEN)
            return


_DOING: dict[Do, Callable[[Board, Path, int], None]] = {
    Do.GIVE_UP: _give_up,
    Do.TURN: _turn,
    Do.VOUCH: _vouch,
    Do.LOOK: looks.look,
    Do.RESIZE: _resize,
    Do.MEASURE: health.measure,
    Do.USE: _put_to_use,
    Do.OWN: _take_over,
    Do.AGAIN_SOON: _again_soon,
    Do.AGAIN_SLOW: _again_slow,
    Do.AGAIN_REFUSED: _again_refused,
    Do.AGAIN_CONDEMNED: _again_condemned,
}
