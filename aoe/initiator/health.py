"""How a path is: how large its frames may be, whether it is alive, and whether it was looked at."""

from aoe.initiator import exchange as on_channel
from aoe.initiator import looks, traffic
from aoe.initiator.board import Board
from aoe.initiator.exchange import Exchange, Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Mute, Path, Port
from aoe.initiator.sizes import Direction, Probe
from aoe.wire import ata, config, frame, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaRequest
from aoe.wire.config import Config
from aoe.wire.frame import Command, Fault, Header
from aoe.wire.opcodes import READ_SECTORS_EXT
from aoe.wire.stamp import UNSTAMPED


def takes(board: Board, path: Path, said: Config, facts: Port, now_ns: int) -> None:
    """Its server says how much."""
    path.offers = said.sector_count or 2
    path.channel.window.limit(max(1, min(said.buffer_count, facts.window)))
    fit(board, path, now_ns)
    resized(board, path, now_ns)


def fit(board: Board, path: Path, now_ns: int) -> None:
    """One of its ends may take another size now."""
    port = board.ports[path.port]
    assert port is not None, "a path has a port"
    sectors = max(1, min(path.offers, port.sectors))
    if sectors != path.sectors:
        path.sectors = sectors
        path.sizes.fit(sectors, now_ns)
        board.news += 1


def resized(board: Board, path: Path, now_ns: int) -> None:
    """What was sent there, or waits for it, and is too large now, is sent again in parts."""
    if path.sizes.shown == path.shown:
        return
    path.shown = path.sizes.shown
    board.news += 1
    for it in [it for it in board.opened if it.only is path and it.sectors > path.most(it.kind)]:
        traffic.give_back(board, it, path, now_ns)
    large = [it for it in traffic.under_way(board, path) if it.sectors > path.most(it.kind)]
    if large:
        traffic.take_back(board, path, large, now_ns)
        traffic.release(board, now_ns)


def told(board: Board, path: Path, answer: on_channel.Answered, now_ns: int) -> None:
    """The answer to a query. What was refused before it, though it is not too large, has failed."""
    path.question = None
    said, facts = config.decode(answer.raw), board.ports[path.port]
    if answer.good and not isinstance(said, Fault) and facts is not None:
        takes(board, path, said, facts, now_ns)
    for operation in [operation for operation, asked in path.refused.items() if asked]:
        del path.refused[operation]
        if operation.sectors > path.most(operation.kind):
            traffic.give_back(board, operation, path, now_ns)
        else:
            assert operation.refusal is not None, "it was refused"
            traffic.conclude(board, operation, path, operation.refusal, now_ns)
    if path.refused:
        looks.ask_size(board, path, now_ns)


def measure(board: Board, path: Path, now_ns: int) -> None:
    """See how large frames may be there."""
    port, lost = board.ports[path.port], path.channel.suspect
    assert port is not None, "a path has a port"
    path.channel.suspect = None
    if lost is not None and lost.sectors <= path.most(lost.kind):
        direction = Direction.BACK if lost.kind is Kind.READS else Direction.THERE
        path.sizes.doubt(direction, lost.lba, now_ns)
        looks.ask_size(board, path, now_ns)
    if path.sizes.again(port.sectors, now_ns):
        looks.ask_size(board, path, now_ns)
    for probe in path.sizes.turn(now_ns):
        _send_probe(board, path, probe)
    resized(board, path, now_ns)


def probe_exchange(probe: Probe, sectors: int, lba: int, trailer: int) -> Exchange:
    """The READ that a probe is, near an LBA of a disk that has so many sectors. A request that is filled up
    to see whether it arrives leaves room for a trailer of so many bytes."""
    count, filler = min(_read_by(probe), sectors), 0
    if probe.direction is Direction.THERE:
        filler = probe.sectors * protocol.SECTOR + trailer
    at = max(0, min(lba, sectors - count))
    body = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, count, READ_SECTORS_EXT, at, bytes(filler)))
    return Exchange(Command.ATA, body, reply_min=protocol.ATA_HEADER + protocol.SECTOR * count)


def _send_probe(board: Board, path: Path, probe: Probe) -> None:
    assert board.facts is not None, "it was asked what it leads to"
    tag, trailer = path.channel.new_tag(), protocol.STAMP_TRAILER * (path.channel.stamp.stream > 0)
    path.sizes.sent(tag, probe)
    own, mac, shelf, slot = path.channel.peer
    header = Header(mac, own, frame.VERSION, 0, 0, shelf, slot, Command.ATA, tag)
    asked = probe_exchange(probe, board.facts.sectors, path.sizes.lba, trailer)
    board.out.append((path.port, frame.encode(header, asked.body)))


def probe_reply(board: Board, path: Path, probe: Probe, header: Header, raw: bytes, now_ns: int) -> None:
    """Also an error says that frames get there, and if it is told at once, nothing of others."""
    sectors = board.facts.sectors if board.facts else 0
    if probe_exchange(probe, sectors, 0, 0).judge(header, raw) is None:
        board.counters["unfit_reply"] += 1
        return
    path.channel.heard_ns = now_ns
    path.sizes.answered(header.tag)
    resized(board, path, now_ns)


def watch(board: Board, path: Path, now_ns: int) -> None:
    """Look for what has been quiet for too long."""
    if path.state is State.USABLE or path.sampling:
        measure(board, path, now_ns)
    waits = path.state in (State.CHECKING, State.COMPARED)
    if path.state is State.USABLE:
        _judge(board, path, now_ns)
    elif waits and path.channel.quiet_ns(now_ns) >= board.timing.dead_ns:
        board.note(path, Happens.SILENT, Reason.SILENT)


def _judge(board: Board, path: Path, now_ns: int) -> None:
    """Is it alive? Only where there is another one to turn to."""
    if all(other.state.shown is State.REFUSED for other in board.paths if other is not path):
        return
    quiet_ns = path.channel.quiet_ns(now_ns)
    if quiet_ns >= board.timing.probe_ns and now_ns - path.probed_ns >= board.timing.probe_ns:
        path.probed_ns = now_ns
        _, mac, *address = path.channel.peer
        board.query(path.port, mac, (address[0], address[1]))
    if quiet_ns >= board.timing.dead_ns:
        board.note(path, Happens.SILENT, Reason.SILENT)
    elif path.channel.outstanding and now_ns - max(path.io_ns, path.channel.asked_ns) >= board.timing.slow_ns:
        path.slow = True
        board.note(path, Happens.SLOW, Reason.SLOW)


def tend(board: Board, path: Path, now_ns: int) -> None:
    """Look at what was not looked at for long."""
    if path.check is not None:
        return
    if path.sectors < protocol.STAMPED_SECTORS_MIN:
        looks.use_stream(board, path, UNSTAMPED, now_ns)
    if not path.channel.stuck:
        path.mute = Mute.NOT
    elif path.state is State.USABLE and path.channel.stamp.stream:
        looks.unanswered(board, path, now_ns)
    due = path.lost and now_ns >= path.check_after_ns
    usable = path.state is State.USABLE
    idle = usable and now_ns - path.channel.heard_ns >= board.timing.standby_ns
    unknown = usable and not path.channel.stamp.stream and looks.may_register(path, now_ns)
    untold = usable and looks.word(board, path) != path.told
    if due or idle or unknown or untold:
        looks.look(board, path, now_ns)


def _read_by(probe: Probe) -> int:
    """How many sectors it reads."""
    return probe.sectors if probe.direction is Direction.BACK else 1
