"""What is known of whether servers have one disk, and what follows from it, as in csrc/initiator/trial.c."""

from aoe.initiator.board import Board
from aoe.initiator.facts import Facts
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Path
from aoe.initiator.way import Trial, Way


def same_server(path: Path, facts: Facts | None, other: Path, other_facts: Facts | None) -> bool:
    """Whether two ways lead to one life of one server: by its MAC, or, where it has several network cards, by
    its instance: 64 bits that a target of ours draws when it starts. One address is one export of it."""
    if facts is None or other_facts is None or facts.instance != other_facts.instance:
        return False
    one_card = path.peer.mac == other.peer.mac
    return path.peer[2:] == other.peer[2:] and (one_card or facts.instance is not None)


def other_store(facts: Facts, other: Facts) -> bool:
    """Whether two servers say of the same kind of id that their stores are not one."""
    return facts.store.kind == other.store.kind != 0 and facts.store != other.store


def _same_server(way: Way, other: Way) -> bool:
    return way is other or same_server(way.path, way.facts, other.path, other.facts)


def kin(board: Board, way: Way) -> list[Way]:
    """The ways to the same server, this one among them."""
    return [other for other in board.ways if _same_server(other, way)]


def leads_to_owner(board: Board, way: Way) -> bool:
    """Whether it is another way to the server of the owner."""
    return board.owner is not None and _same_server(way, board.owner)


def meet(board: Board, way: Way) -> None:
    """A server that is new, or has started again: its trial begins, or another way there has begun it."""
    others = [other for other in kin(board, way) if other is not way]
    way.trial = others[0].trial if others else Trial()


def refer_to(board: Board, way: Way) -> None:
    """What others were compared with is no more: the disk is what this server has."""
    for other in board.ways:
        if not _same_server(other, way):
            other.trial.reopen()


def has_other_store(board: Board, way: Way, facts: Facts) -> bool:
    usable = [other for other in board.ways if other.state is State.USABLE]
    compared = usable if board.owner is None else [board.owner]
    others = [other for other in compared if not _same_server(other, way)]
    return any(other.facts is not None and other_store(facts, other.facts) for other in others)


def is_unsure(board: Board, way: Way) -> bool:
    """Whether it has to be compared with the owner before it is usable."""
    known = way.trial.sampled or way.trial.proved
    return board.owner is not None and not known and not leads_to_owner(board, way)


def compare_all(board: Board) -> None:
    """Others with one that is the owner from now on."""
    for way in board.ways:
        if way.state is State.USABLE and is_unsure(board, way):
            board.note(way, Happens.DOUBTED)


def may_inherit(board: Board, way: Way) -> bool:
    """Whether it takes over at once where there is no owner: a proved one goes first."""
    better = any(other.state is State.USABLE and other.trial.proved for other in board.ways)
    return way.trial.proved or not (better or is_barred(board, way))


def is_barred(board: Board, way: Way) -> bool:
    """Whether it has to be proved before: as long as one that is may come back. When all have started
    again, there is none, and it is as it was at first."""
    unproved = board.policy.require and not way.trial.proved
    return unproved and any(other.trial.proved for other in board.ways)


def is_replaced(board: Board, way: Way) -> bool:
    """The owner has started again: whether a proved server, if there is one, is the owner from now on.
    Else this is what the disk is; it counts as proved where there never was another."""
    if way.trial.proved:  # another way there has seen to it
        return False
    others = [other for other in board.ways if not _same_server(other, way) and other.trial.proved]
    if others and (board.policy.require or any(other.state is State.USABLE for other in others)):
        return True
    refer_to(board, way)
    way.trial.proved = not others
    compare_all(board)
    return False
