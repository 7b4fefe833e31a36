"""What happens to ways, as the table of `aoe.initiator.life` has it, and which of them is the owner."""

from collections.abc import Callable

from aoe.initiator import discovery, health, looks, traffic, trial
from aoe.initiator.board import Board
from aoe.initiator.facts import Reason
from aoe.initiator.life import TABLE, Do, Happens, State
from aoe.initiator.way import Note, Way


def happened(board: Board, way: Way, note: Note, now_ns: int) -> None:
    """As the table of a path's life has it."""
    row = TABLE.get((way.state, note.happens))
    assert row is not None, f"{note.happens.name} does not happen to a path that is {way.state.name}"
    if row.to is not None:
        _become(board, way, row.to, note.reason, now_ns)
    for do in row.do:
        _DOING[do](board, way, now_ns)


def _become(board: Board, way: Way, state: State, reason: Reason, now_ns: int) -> None:
    if (way.state, way.reason) != (state, reason):
        if state is State.USABLE:
            way.usable_ns = now_ns
            board.usable_ns = board.usable_ns or now_ns
        way.state, way.reason = state, reason
        board.news += 1


def _give_up(board: Board, way: Way, now_ns: int) -> None:
    way.vouched = False
    asked, way.check, way.question = (way.check, way.question), None, None
    if way is board.owner:
        board.owner = None
        board.lost_ns = now_ns
    traffic.take_back(board, way, traffic.under_way(board, way), now_ns)
    board.held |= dict.fromkeys(operation for operation in way.refused if operation.only is None)
    way.refused.clear()
    for exchange in asked:
        if exchange is not None:
            board.follow(way, way.path.abandon(exchange, now_ns))


def _turn(board: Board, _: Way, now_ns: int) -> None:
    if board.owner is not None:
        traffic.release(board, now_ns)
        return
    for other in board.ways:
        if now_ns >= other.check_after_ns:
            looks.look(board, other, now_ns)


def _vouch(board: Board, way: Way, _: int) -> None:
    board.news += not way.vouched
    way.vouched = True


def _resize(_: Board, way: Way, now_ns: int) -> None:
    way.sizes.restart(now_ns)


def _put_to_use(board: Board, way: Way, now_ns: int) -> None:
    if board.owner is None and board.chosen and trial.may_inherit(board, way):
        _take_over(board, way, now_ns)
    else:
        traffic.release(board, now_ns)


def _take_over(board: Board, way: Way, now_ns: int) -> None:
    if board.unflushed not in (None, way):
        board.losses += 1
    if not way.trial.proved:
        trial.refer_to(board, way)
    board.owner = way
    way.io_ns = now_ns
    board.news += 1
    trial.compare_all(board)
    traffic.release(board, now_ns)


def _again_soon(board: Board, way: Way, now_ns: int) -> None:
    way.check_after_ns = now_ns + board.timing.recheck_ns


def _again_slow(board: Board, way: Way, now_ns: int) -> None:
    way.check_after_ns = now_ns + board.timing.slow_ns


def _again_refused(board: Board, way: Way, now_ns: int) -> None:
    others = board.owner not in (None, way)
    way.check_after_ns = now_ns + (board.timing.query_idle_ns if others else board.timing.recheck_ns)


def _again_condemned(board: Board, way: Way, now_ns: int) -> None:
    way.check_after_ns = now_ns + board.timing.condemned_ns


def settle_in(board: Board, now_ns: int) -> None:
    """Choose the first owner: when every address has a way, or those that have none take too long."""
    usable = [way for way in board.ways if way.state is State.USABLE]
    if not usable:
        return
    waited_ns = now_ns - board.usable_ns
    all_looked_at = all(discovery.was_looked_at(board, address) for address in board.addresses)
    if waited_ns >= (board.timing.settle_in_ns if all_looked_at else board.timing.query_max_ns):
        board.chosen = True
        usable[0].trial.proved = True
        board.note(usable[0], Happens.CHOSEN)


def inherit(board: Board, now_ns: int) -> None:
    """The proved ones do not answer, either."""
    there = [way for way in board.ways if way.state is State.USABLE and way.check is None]
    heirs = [way for way in there if way.vouched and not trial.is_barred(board, way)]
    if heirs and now_ns - board.lost_ns >= board.timing.probe_ns:
        board.note(min(heirs, key=lambda way: not way.trial.proved), Happens.CHOSEN)


def go_back(board: Board, failback_ns: int, now_ns: int) -> None:
    for way in board.ways:
        if way is board.owner:
            return
        if way.state is State.USABLE and way.trial.proved and now_ns - way.usable_ns >= failback_ns:
            board.note(way, Happens.CHOSEN)
            return


_DOING: dict[Do, Callable[[Board, Way, int], None]] = {
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
