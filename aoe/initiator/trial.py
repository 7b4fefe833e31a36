"""What is known of whether servers have one disk, and what follows from it, as in csrc/initiator/trial.c."""

from aoe.drive.identify import StoreKind
from aoe.initiator.board import Board
from aoe.initiator.channel import Channel
from aoe.initiator.facts import Facts
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Path, Trial


def same_server(channel: Channel, facts: Facts | None, other: Channel, other_facts: Facts | None) -> bool:
    """Whether two paths lead to one life of one server: by its MAC, or, where it has several network cards,
    by its instance: 64 bits that a target of ours draws when it starts. One address is one export of it."""
    if facts is None or other_facts is None or facts.instance != other_facts.instance:
        return False
    one_card = channel.peer.mac == other.peer.mac
    return channel.peer[2:] == other.peer[2:] and (one_card or facts.instance is not None)


def other_store(facts: Facts, other: Facts) -> bool:
    """Whether two servers say of the same kind of id that their stores are not one."""
    return facts.store.kind == other.store.kind != 0 and facts.store != other.store


def are_copies(facts: Facts | None, other: Facts | None) -> bool:
    """Whether two servers say that their stores are copies of one image that is never written to."""
    both = facts is not None and other is not None and facts.store == other.store
    return both and facts is not None and facts.store.kind == StoreKind.IMAGE


def _same_server(path: Path, other: Path) -> bool:
    return path is other or same_server(path.channel, path.facts, other.channel, other.facts)


def kin(board: Board, path: Path) -> list[Path]:
    """The paths to the same server, this one among them."""
    return [other for other in board.paths if _same_server(other, path)]


def leads_to_owner(board: Board, path: Path) -> bool:
    """Whether it is another path to the server of the owner."""
    return board.owner is not None and _same_server(path, board.owner)


def meet(board: Board, path: Path) -> None:
    """A server that is new, or has started again: its trial begins, or another path there has begun it."""
    others = [other for other in kin(board, path) if other is not path]
    path.trial = others[0].trial if others else Trial()


def refer_to(board: Board, path: Path) -> None:
    """What others were compared with is no more: the disk is what this server has."""
    for other in board.paths:
        if not _same_server(other, path):
            other.trial.reopen()


def has_other_store(board: Board, path: Path, facts: Facts) -> bool:
    compared = company(board, path) if board.owner is None else [board.owner]
    others = [other for other in compared if not _same_server(other, path)]
    return any(other.facts is not None and other_store(facts, other.facts) for other in others)


def is_unsure(board: Board, path: Path) -> bool:
    """Whether it has to be compared with the owner before it is usable."""
    known = path.trial.sampled or path.trial.proved
    return board.owner is not None and not known and not leads_to_owner(board, path)


def compare_all(board: Board) -> None:
    """Others with one that is the owner from now on."""
    for path in board.paths:
        if path.state is State.USABLE and is_unsure(board, path):
            board.note(path, Happens.DOUBTED)


def may_inherit(board: Board, path: Path) -> bool:
    """Whether it takes over at once where there is no owner: a proved one goes first."""
    better = any(other.state is State.USABLE and other.trial.proved for other in board.paths)
    return path.trial.proved or not (better or is_barred(board, path))


def is_barred(board: Board, path: Path) -> bool:
    """Whether it has to be proved before: as long as one that is may come back. When all have started
    again, there is none, and it is as it was at first."""
    unproved = board.policy.require and not path.trial.proved
    return unproved and any(other.trial.proved for other in board.paths)


def company(board: Board, path: Path) -> list[Path]:
    """The paths that it would be used beside. One that is barred stands back behind those that are proved,
    even while they do not answer: it would keep them out when they come back, and they it for ever."""
    waits = board.owner is None and is_barred(board, path)
    return [it for it in board.paths if it.state is State.USABLE or (waits and it.trial.proved)]


def is_replaced(board: Board, path: Path) -> bool:
    """The owner has started again: whether a proved server, if there is one, is the owner from now on.
    Else this is what the disk is; it counts as proved where there never was another."""
    if path.trial.proved:  # another path there has seen to it
        return False
    others = [other for other in board.paths if not _same_server(other, path) and other.trial.proved]
    if others and (board.policy.require or any(other.state is State.USABLE for other in others)):
        return True
    refer_to(board, path)
    path.trial.proved = not others
    compare_all(board)
    return False
