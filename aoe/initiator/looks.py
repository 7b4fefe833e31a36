"""Questions to the server of a way: IDENTIFY, with a stream of ours (order rule T9); how much it takes."""

from aoe.initiator.board import Board
from aoe.initiator.exchange import Exchange
from aoe.initiator.facts import Facts
from aoe.initiator.life import State
from aoe.initiator.strangers import IDENTIFY
from aoe.initiator.way import Way
from aoe.wire import config, protocol
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import Command
from aoe.wire.stamp import UNSTAMPED, Stamp, stamped


def look(board: Board, way: Way, now_ns: int) -> None:
    """Ask a way what it leads to, unless it is asked, or was refused a moment ago."""
    port = board.ports[way.port]
    refused = way.state.shown is State.REFUSED and now_ns < way.check_after_ns
    if way.check is not None or refused or port is None or not port.up:
        return
    way.claim = _claim(way, now_ns)
    check(board, way, stamped(IDENTIFY, way.claim) if way.claim.stream else IDENTIFY, now_ns)


def check(board: Board, way: Way, body: bytes, now_ns: int) -> None:
    """Ask it this, whatever it has under way."""
    way.check = Exchange(Command.ATA, body, reply_min=protocol.ATA_HEADER + protocol.SECTOR)
    board.follow(way, way.path.start_now(way.check, now_ns))


def may_claim(way: Way, now_ns: int) -> bool:
    """Whether its server may be asked to know another stream."""
    return way.heeds and way.sectors >= protocol.STAMPED_SECTORS_MIN and now_ns >= way.claim_after_ns


def _claim(way: Way, now_ns: int) -> Stamp:
    """What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be."""
    if way.path.stamp.stream or way.facts is None or way.facts.instance is None:
        return way.path.stamp
    return way.path.new_stream(way.facts.instance) if may_claim(way, now_ns) else UNSTAMPED


def registered(board: Board, way: Way, facts: Facts, claim: Stamp, now_ns: int) -> bool:
    """Whether the way can be used as it is. A server that may know our stream is told of it first: only a
    question that names its present life counts there."""
    if claim.stream and claim.instance == facts.instance:
        if not facts.streams:
            way.claim_after_ns = now_ns + board.timing.stream_again_ns
        use_stream(board, way, claim if facts.streams else UNSTAMPED, now_ns)
        return True
    way.heeds = facts.streams
    if way.path.stamp.stream and way.path.stamp.instance == facts.instance:
        return True
    use_stream(board, way, UNSTAMPED, now_ns)
    if not may_claim(way, now_ns):
        return True
    look(board, way, now_ns)
    return False


def use_stream(board: Board, way: Way, stamp: Stamp, now_ns: int) -> None:
    """From now on; what the server drops as it does not know the last one is sent again at once."""
    last = way.path.stamp
    if last.stream == stamp.stream:
        return
    way.path.stamp = stamp
    if last.stream:
        board.follow(way, way.path.send_changes_again(now_ns))


def claim_another(board: Board, way: Way, now_ns: int) -> None:
    """Changes are not answered: the server has forgotten our stream, or another host forged its end. What
    is sent until it knows another one carries none."""
    if now_ns < way.claim_after_ns:
        return
    way.renewed += 1
    board.news += 1
    way.vouched = False
    use_stream(board, way, UNSTAMPED, now_ns)
    look(board, way, now_ns)
    way.claim_after_ns = now_ns + board.timing.recheck_ns


def ask_size(board: Board, way: Way, now_ns: int) -> None:
    """Ask its server how much it takes."""
    if way.question is None:
        way.refused = dict.fromkeys(way.refused, True)
        body = config.encode(Config(ConfigCommand.READ))
        way.question = Exchange(Command.CONFIG, body, reply_min=protocol.CONFIG_HEADER)
        board.follow(way, way.path.start_now(way.question, now_ns))
