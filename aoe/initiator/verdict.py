"""What IDENTIFY says of a path: whether it leads to the disk, and may be used."""

from aoe.drive import identify
from aoe.initiator import exchange as on_channel
from aoe.initiator import looks, trial
from aoe.initiator.board import Board
from aoe.initiator.facts import Facts, Reason, facts_of, unfit
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Path
from aoe.wire import ata, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaRequest
from aoe.wire.opcodes import IDENTIFY_DEVICE, READ_SECTORS_EXT
from aoe.wire.stamp import Stamp

_READ_FIRST_SECTOR = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, 1, READ_SECTORS_EXT, 0))


def checked(board: Board, path: Path, answer: on_channel.Answered, now_ns: int) -> None:
    """The answer to a question of what a path leads to."""
    assert path.check is not None, "what was answered was asked"
    identifies = ata.command_in(path.check.body) == IDENTIFY_DEVICE
    path.check = None
    if not identifies:
        path.slow = False
        _fits(board, path)
    elif not answer.good:
        board.note(path, Happens.UNFIT, Reason.IDENTIFY_FAILS)
    else:
        identified(board, path, answer.raw, path.registering, now_ns)


def identified(board: Board, path: Path, raw: bytes, registering: Stamp, now_ns: int) -> bool:
    """What IDENTIFY says of a path is noted; whether it leads to the disk. `registering`: asked with it."""
    data = raw[protocol.ATA_HEADER : protocol.ATA_HEADER + protocol.SECTOR]
    nonsense = unfit(data)
    if nonsense is not Reason.NONE:
        board.note(path, Happens.ANOTHER, nonsense)
        return False
    facts = facts_of(data, board.timing)
    was, path.facts = path.facts, facts
    if was is not None and was.draining and not facts.draining:
        path.usable_ns = path.usable_ns and now_ns  # until then it was not to be gone back to
    if was is not None and was.instance != facts.instance:
        path.channel.generation += 1
        path.reborn = True
        path.register_after_ns = now_ns
        board.losses += board.unflushed is path
    born = was is None or was.instance != facts.instance
    board.debts.learned(path.channel.peer, facts.instance if facts.alone else None)
    if born:
        trial.meet(board, path)
    reason = _mismatch(board, path, facts)
    if reason in (Reason.OTHER_DISK, Reason.OTHER_STORE, Reason.VOLATILE):
        board.note(path, Happens.ANOTHER, reason)
        return False
    if reason is not Reason.NONE:
        board.note(path, Happens.UNFIT, reason)
        return True
    if born and path is board.owner and trial.is_replaced(board, path):
        board.note(path, Happens.REPLACED)
        return True
    _believe(board, path, facts)
    path.channel.quiesce_after(board.quiesce_ns(facts.age_ns))
    path.channel.bound_ns = board.bound_ns(facts.age_ns)
    path.channel.drains = facts.instance is not None
    path.channel.trims = facts.trims
    if not looks.registered(board, path, facts, registering, now_ns):
        return True
    if path.slow:
        looks.check(board, path, _READ_FIRST_SECTOR, now_ns)
    else:
        _fits(board, path)
    return True


def _fits(board: Board, path: Path) -> None:
    """IDENTIFY says nothing against it."""
    condemned = path.trial.condemned
    if condemned is Reason.OTHER_DATA:
        board.note(path, Happens.DIFFERENT, condemned)
    elif condemned is not Reason.NONE:
        board.note(path, Happens.UNSEEN, condemned)
    else:
        board.note(path, Happens.UNSURE if trial.is_unsure(board, path) else Happens.FIT)


def _fixed(board: Board, path: Path) -> Facts | None:
    """What the disk is known to be; before the choice only while another path that is usable says so, or
    a server that answered first and was gone would keep the others out."""
    others = any(other.state is State.USABLE for other in board.paths if other is not path)
    return board.facts if board.chosen or others else None


def _mismatch(board: Board, path: Path, facts: Facts) -> Reason:
    """Why a path does not lead to the disk, or cannot be used beside the others."""
    was = _fixed(board, path)
    # Two processes may share a MAC, and one serves a disk at one address.
    others = [it for it in trial.company(board, path) if it.channel.peer[1:] != path.channel.peer[1:]]
    if was is not None and facts.serial != was.serial:
        return Reason.OTHER_DISK
    if trial.has_other_store(board, path, facts):
        return Reason.OTHER_STORE
    if others and (facts.volatile or any(it.facts is not None and it.facts.volatile for it in others)):
        return Reason.VOLATILE
    if was is not None and facts.sectors != was.sectors and not _grew(board, path, facts, was):
        return Reason.OTHER_SIZE  # while a disk grows, its servers notice at different times
    return Reason.NO_ZEROES if _breaks_promise(board, facts) else Reason.NONE


def _believe(board: Board, path: Path, facts: Facts) -> None:
    """The disk is what a path says that it is, less what was not promised before."""
    was, before = _fixed(board, path), board.facts
    if was is None:
        board.facts = facts
    elif facts.sectors != was.sectors:
        board.facts = facts._replace(data=identify.lessened(facts.data, was.data))
    else:
        board.facts = was._replace(data=identify.lessened(was.data, facts.data))
    board.news += before is None or before.data != board.facts.data


def _grew(board: Board, path: Path, facts: Facts, was: Facts) -> bool:
    """Whether the disk has become larger; the owner is believed, or any server while there is none."""
    return board.owner in (None, path) and facts.sectors > was.sectors


def _breaks_promise(board: Board, facts: Facts) -> bool:
    """Whether a TRIM there leaves anything, where the disk was said to leave zeroes. What a server cannot
    do at all it refuses, and it does not count as done."""
    if board.facts is None or not board.chosen:
        return False
    promised = identify.trim_blocks_of(board.facts.data) and identify.trims_to_zeroes(board.facts.data)
    trims = identify.trim_blocks_of(facts.data) > 0
    return bool(promised and trims) and not identify.trims_to_zeroes(facts.data)
