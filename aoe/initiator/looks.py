"""Questions to the server of a path: IDENTIFY, with a stream of ours (order rule T9); how much it takes."""

from aoe.initiator import trial
from aoe.initiator.board import Board
from aoe.initiator.exchange import Exchange
from aoe.initiator.facts import Facts
from aoe.initiator.life import State
from aoe.initiator.path import Mute, Path
from aoe.initiator.strangers import IDENTIFY
from aoe.wire import ata, config, protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import Command
from aoe.wire.opcodes import IDENTIFY_DEVICE
from aoe.wire.stamp import AWAY, BACKGROUND, UNPROVED, UNSTAMPED, Stamp, stamped

_QUESTIONS = {
    word: ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24 | word))
    for about in (0, BACKGROUND)
    for word in (about, about | AWAY, about | UNPROVED)
}
"""IDENTIFY, by what it says of us: whether we stay there, and whether what we ask for can wait."""


def look(board: Board, path: Path, now_ns: int) -> None:
    """Ask a path what it leads to, unless it is asked, or was refused a moment ago."""
    port = board.ports[path.port]
    refused = path.state.shown is State.REFUSED and now_ns < path.check_after_ns
    if path.check is not None or refused or port is None or not port.up:
        return
    path.registering = _to_register(path, now_ns)
    path.looked_ns = now_ns
    path.told = word(board, path)
    asked = _QUESTIONS[path.told | (BACKGROUND if board.policy.background else 0)]
    check(board, path, stamped(asked, path.registering) if path.registering.stream else IDENTIFY, now_ns)


def word(board: Board, path: Path) -> int:
    """What a server that drains is told: whether we have left it, or why not; 0 where there is no more to
    say, and to one that does not."""
    if not path.draining:
        return 0
    if not trial.leads_to_owner(board, path):
        return AWAY
    return UNPROVED if any(_lacks_a_proof(board, other) for other in board.paths) else 0


def _lacks_a_proof(board: Board, path: Path) -> bool:
    """Whether it would be gone to if a write had shown that it has the disk."""
    fit = path.state is State.USABLE and not path.trial.proved and not path.draining
    return fit and not trial.leads_to_owner(board, path)


def check(board: Board, path: Path, body: bytes, now_ns: int) -> None:
    """Ask it this, whatever it has under way."""
    path.check = Exchange(Command.ATA, body, reply_min=protocol.ATA_HEADER + protocol.SECTOR)
    board.follow(path, path.channel.start_now(path.check, now_ns))


def may_register(path: Path, now_ns: int) -> bool:
    """Whether its server may be asked to know another stream."""
    return path.heeds and path.sectors >= protocol.STAMPED_SECTORS_MIN and now_ns >= path.register_after_ns


def _to_register(path: Path, now_ns: int) -> Stamp:
    """What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be."""
    stamp, facts = path.channel.stamp, path.facts
    if facts is None or facts.instance is None or _is_of(stamp, facts) or not may_register(path, now_ns):
        return stamp
    return path.channel.new_stream(facts.instance)


def _is_of(stamp: Stamp, facts: Facts) -> bool:
    """Whether it is a stream for that life of the server."""
    return stamp.stream > 0 and stamp.instance == facts.instance


def registered(board: Board, path: Path, facts: Facts, registering: Stamp, now_ns: int) -> bool:
    """Whether the path can be used as it is. A server that may know our stream is told of it first: only a
    question that names its present life counts there. One that has begun another life is asked anew then."""
    stamp = path.channel.stamp
    if _is_of(registering, facts):
        if _was_late(path, facts, now_ns):
            look(board, path, now_ns)
            return False
        if not facts.streams:
            path.register_after_ns = now_ns + board.timing.stream_again_ns
        path.heeded = facts.heeded or registering != stamp  # a FLUSH may have overtaken it
        stamp = registering if facts.streams else UNSTAMPED
    else:
        path.heeds = facts.streams
        if not _is_of(stamp, facts):
            if may_register(path, now_ns):
                look(board, path, now_ns)
                return False
            stamp = UNSTAMPED
    use_stream(board, path, stamp, now_ns)
    if path.reborn:
        path.reborn = False
        board.follow(path, path.channel.begin_anew(facts.instance if facts.alone else None, now_ns))
    return True


def _was_late(path: Path, facts: Facts, now_ns: int) -> bool:
    """Whether a question that registered nothing may have been too old for it (order rule T3), as it waited
    while the server started: then it is asked once more before it counts as full."""
    path.late = not (facts.streams or path.late) and now_ns - path.looked_ns >= facts.age_ns
    return path.late


def use_stream(board: Board, path: Path, stamp: Stamp, now_ns: int) -> None:
    """From now on; what the server drops as it does not know the last one is sent again at once."""
    last = path.channel.stamp
    if last.stream == stamp.stream:
        return
    path.channel.stamp = stamp
    if last.stream and not path.reborn:
        board.follow(path, path.channel.send_changes_again(now_ns))


def unanswered(board: Board, path: Path, now_ns: int) -> None:
    """Changes are not answered, however often they are sent. A server that answers nothing is asked what it
    is: it may start again. Once it speaks, they are sent again at once: what waited there meanwhile may have
    been too old (order rule T3). One that goes on to answer all else is asked whether it heeds our stream.
    Where it does, its disk takes long, or it did not until it was asked: they are sent again, too."""
    if not path.channel.ignores:
        path.mute = path.mute or Mute.SILENT
        look(board, path, now_ns)
    elif now_ns < path.register_after_ns:
        return
    elif path.mute is Mute.SILENT or (path.mute is Mute.ASKED and path.heeded):
        path.mute = Mute.ASKED_AGAIN
        path.register_after_ns = now_ns + board.timing.recheck_ns
        board.follow(path, path.channel.send_changes_again(now_ns))
    elif path.mute is Mute.ASKED:
        _register_another(board, path, now_ns)
    else:
        path.mute, path.heeded = Mute.ASKED, False
        look(board, path, now_ns)


def _register_another(board: Board, path: Path, now_ns: int) -> None:
    """The server has forgotten our stream, or another host forged its end. What is sent until it knows
    another one carries none."""
    path.renewed += 1
    path.mute = Mute.NOT
    board.news += 1
    path.vouched = False
    use_stream(board, path, UNSTAMPED, now_ns)
    look(board, path, now_ns)
    path.register_after_ns = now_ns + board.timing.recheck_ns


def ask_size(board: Board, path: Path, now_ns: int) -> None:
    """Ask its server how much it takes."""
    if path.question is None:
        path.refused = dict.fromkeys(path.refused, True)
        body = config.encode(Config(ConfigCommand.READ))
        path.question = Exchange(Command.CONFIG, body, reply_min=protocol.CONFIG_HEADER)
        board.follow(path, path.channel.start_now(path.question, now_ns))
