"""How a way is: how large its frames may be, whether it is alive, and whether it was looked at."""

from aoe.initiator import exchange as one_way
from aoe.initiator import looks, traffic
from aoe.initiator.board import Board
from aoe.initiator.exchange import Exchange, Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import Happens, State
from aoe.initiator.sizes import Direction, Probe
from aoe.initiator.way import Port, Way
from aoe.wire import ata, config, frame, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaRequest
from aoe.wire.config import Config
from aoe.wire.frame import Command, Fault, Header
from aoe.wire.opcodes import READ_SECTORS_EXT
from aoe.wire.stamp import UNSTAMPED


def takes(board: Board, way: Way, said: Config, facts: Port, now_ns: int) -> None:
    """Its server says how much."""
    way.offers = said.sector_count or 2
    way.path.window.limit(max(1, min(said.buffer_count, facts.window)))
    fit(board, way, now_ns)
    resized(board, way, now_ns)


def fit(board: Board, way: Way, now_ns: int) -> None:
    """One of its ends may take another size now."""
    port = board.ports[way.port]
    assert port is not None, "a way has a port"
    sectors = max(1, min(way.offers, port.sectors))
    if sectors != way.sectors:
        way.sectors = sectors
        way.sizes.fit(sectors, now_ns)
        board.news += 1


def resized(board: Board, way: Way, now_ns: int) -> None:
    """What was sent there, or waits for it, and is too large now, is sent again in parts."""
    if way.sizes.shown == way.shown:
        return
    way.shown = way.sizes.shown
    board.news += 1
    for it in [it for it in board.opened if it.only is way and it.sectors > way.most(it.kind)]:
        traffic.give_back(board, it, way, now_ns)
    large = [it for it in traffic.under_way(board, way) if it.sectors > way.most(it.kind)]
    if large:
        traffic.take_back(board, way, large, now_ns)
        traffic.release(board, now_ns)


def told(board: Board, way: Way, answer: one_way.Answered, now_ns: int) -> None:
    """The answer to a query. What was refused before it, though it is not too large, has failed."""
    way.question = None
    said, facts = config.decode(answer.raw), board.ports[way.port]
    if answer.good and not isinstance(said, Fault) and facts is not None:
        takes(board, way, said, facts, now_ns)
    for operation in [operation for operation, asked in way.refused.items() if asked]:
        del way.refused[operation]
        if operation.sectors > way.most(operation.kind):
            traffic.give_back(board, operation, way, now_ns)
        else:
            assert operation.refusal is not None, "it was refused"
            traffic.conclude(board, operation, way, operation.refusal, now_ns)
    if way.refused:
        looks.ask_size(board, way, now_ns)


def measure(board: Board, way: Way, now_ns: int) -> None:
    """See how large frames may be there."""
    port, lost = board.ports[way.port], way.path.suspect
    assert port is not None, "a way has a port"
    way.path.suspect = None
    if lost is not None and lost.sectors <= way.most(lost.kind):
        direction = Direction.BACK if lost.kind is Kind.READS else Direction.THERE
        way.sizes.doubt(direction, lost.lba, now_ns)
        looks.ask_size(board, way, now_ns)
    if way.sizes.again(port.sectors, now_ns):
        looks.ask_size(board, way, now_ns)
    for probe in way.sizes.turn(now_ns):
        _send_probe(board, way, probe)
    resized(board, way, now_ns)


def _send_probe(board: Board, way: Way, probe: Probe) -> None:
    assert board.facts is not None, "it was asked what it leads to"
    tag, count, filler = way.path.new_tag(), min(_read_by(probe), board.facts.sectors), 0
    if probe.direction is Direction.THERE:
        filler = probe.sectors * protocol.SECTOR + protocol.STAMP_TRAILER * (way.path.stamp.stream > 0)
    way.sizes.sent(tag, probe)
    lba = max(0, min(way.sizes.lba, board.facts.sectors - count))
    own, mac, shelf, slot = way.path.peer
    header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, Command.ATA, tag)
    body = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, count, READ_SECTORS_EXT, lba, bytes(filler)))
    board.out.append((way.port, frame.encode(header, body)))


def probe_reply(board: Board, way: Way, probe: Probe, header: Header, raw: bytes, now_ns: int) -> None:
    """Also an error says that frames get there, and if it is told at once, nothing of others."""
    least = protocol.ATA_HEADER + protocol.SECTOR * min(
        _read_by(probe), board.facts.sectors if board.facts else 0
    )
    if Exchange(Command.ATA, b"", reply_min=least).judge(header, raw) is None:
        board.counters["unfit_reply"] += 1
        return
    way.path.heard_ns = now_ns
    way.sizes.answered(header.tag)
    resized(board, way, now_ns)


def watch(board: Board, way: Way, now_ns: int) -> None:
    """Look for what has been quiet for too long."""
    if way.state is State.USABLE or way.sampling:
        measure(board, way, now_ns)
    waits = way.state in (State.CHECKING, State.COMPARED)
    if way.state is State.USABLE:
        _judge(board, way, now_ns)
    elif waits and way.path.quiet_ns(now_ns) >= board.timing.dead_ns:
        board.note(way, Happens.SILENT, Reason.SILENT)


def _judge(board: Board, way: Way, now_ns: int) -> None:
    """Is it alive? Only where there is another one to turn to."""
    if all(other.state.shown is State.REFUSED for other in board.ways if other is not way):
        return
    quiet_ns = way.path.quiet_ns(now_ns)
    if quiet_ns >= board.timing.probe_ns and now_ns - way.probed_ns >= board.timing.probe_ns:
        way.probed_ns = now_ns
        _, mac, *address = way.path.peer
        board.query(way.port, mac, (address[0], address[1]))
    if quiet_ns >= board.timing.dead_ns:
        board.note(way, Happens.SILENT, Reason.SILENT)
    elif way.path.outstanding and now_ns - max(way.io_ns, way.path.asked_ns) >= board.timing.slow_ns:
        way.slow = True
        board.note(way, Happens.SLOW, Reason.SLOW)


def tend(board: Board, way: Way, now_ns: int) -> None:
    """Look at what was not looked at for long."""
    if way.check is not None:
        return
    if way.sectors < protocol.STAMPED_SECTORS_MIN:
        looks.use_stream(board, way, UNSTAMPED, now_ns)
    if way.state is State.USABLE and way.path.stuck and way.path.stamp.stream:
        looks.claim_another(board, way, now_ns)
    due = way.lost and now_ns >= way.check_after_ns
    idle = way.state is State.USABLE and now_ns - way.path.heard_ns >= board.timing.standby_ns
    unknown = way.state is State.USABLE and not way.path.stamp.stream and looks.may_claim(way, now_ns)
    if due or idle or unknown:
        looks.look(board, way, now_ns)


def _read_by(probe: Probe) -> int:
    """How many sectors it reads."""
    return probe.sectors if probe.direction is Direction.BACK else 1
