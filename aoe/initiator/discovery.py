"""Finding paths: config queries for every address on every port, and the servers that answer."""

from aoe import limits
from aoe.drive.command import FAILURES
from aoe.initiator import health, looks
from aoe.initiator.board import Board
from aoe.initiator.channel import Channel
from aoe.initiator.exchange import Peer
from aoe.initiator.facts import Reason, facts_of, unfit
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Address, Path, Port
from aoe.initiator.strangers import IDENTIFY, Stranger
from aoe.wire import ata, config, protocol
from aoe.wire.config import Config
from aoe.wire.frame import BROADCAST, FLAG_ERROR, Command, Fault, Header
from aoe.wire.protocol import USER_TAG

TAG_STEP = 0x1E3779B1


def seek(board: Board, now_ns: int) -> None:
    """Ask for every address on every port where no usable path is known."""
    for port, facts in enumerate(board.ports):
        for address in board.addresses:
            if facts is not None and facts.up and not _leads(board, port, address):
                board.query(port, BROADCAST, address)
    board.seek_ns = now_ns + board.seek_wait_ns
    most = board.timing.query_max_ns if board.owner is None else board.timing.query_idle_ns
    board.seek_wait_ns = min(2 * board.seek_wait_ns, most)


def _leads(board: Board, port: int, address: Address) -> bool:
    """Whether there is a usable path. Behind one that is refused a good server may be hidden."""
    return any(
        path.state is State.USABLE and path.port == port and path.channel.peer[2:] == address
        for path in board.paths
    )


def was_looked_at(board: Board, address: Address) -> bool:
    """Whether a path there, on any port, has been checked and found well, or not ours."""
    known = (State.USABLE, State.REFUSED)
    return any(path.state.shown in known and path.channel.peer[2:] == address for path in board.paths)


def tells_of_itself(board: Board, header: Header) -> bool:
    """Whether a frame is the answer to a query of ours, or an advertisement."""
    expected = not header.tag & USER_TAG or header.tag in board.asked
    return header.command == Command.CONFIG and not header.flags & FLAG_ERROR and expected


def path_of(board: Board, port: int, header: Header) -> Path | None:
    """To the server that a frame comes from, if there is one."""
    there = (header.src, header.shelf, header.slot)
    return next((path for path in board.paths if path.port == port and path.channel.peer[1:] == there), None)


def config_reply(board: Board, port: int, path: Path | None, header: Header, raw: bytes, now_ns: int) -> None:
    """A server says that it is there, and how much it takes."""
    said = config.decode(raw)
    address = (header.shelf, header.slot)
    facts = board.ports[port]
    if isinstance(said, Fault) or address not in board.addresses or facts is None or not facts.up:
        board.counters["unfit_reply"] += 1
        return
    if path is None:
        if _has_room(board, stranger_of(port, header), now_ns):
            _join(board, port, facts, header, said, now_ns)
        return
    if header.tag & USER_TAG:
        path.channel.heard(now_ns)
    else:  # an advertisement: the server may have started again, and knows nothing of what it was asked
        path.vouched = False
        if path.check is not None:
            board.follow(path, path.channel.ask_again(path.check, now_ns))
    health.takes(board, path, said, facts, now_ns)
    board.note(path, Happens.ANSWERS if header.tag & USER_TAG else Happens.TELLS)


def _join(board: Board, port: int, facts: Port, header: Header, said: Config, now_ns: int) -> None:
    board.paths_made += 1
    channel = Channel(
        Peer(facts.mac, header.src, header.shelf, header.slot),
        window_max=max(1, min(said.buffer_count, facts.window)),
        first_tag=board.first_tag + board.paths_made * TAG_STEP,
        quiesce_ns=board.quiesce_ns(board.timing.foreign_age_ns),
        timing=board.timing,
        debts=board.debts,
        port=port,
    )
    channel.bound_ns = board.bound_ns(board.timing.foreign_age_ns)
    rank = board.addresses.index((header.shelf, header.slot))
    path = Path(board.paths_made, port, rank, channel)
    path.offers = said.sector_count or 2
    health.fit(board, path, now_ns)
    at = sum((other.rank, other.port) <= (rank, port) for other in board.paths)
    board.paths.insert(at, path)
    board.news += 1
    looks.look(board, path, now_ns)


def _has_room(board: Board, stranger: Stranger, now_ns: int) -> bool:
    """Whether a server gets a place; if there is none, it is asked what it is."""
    if len(board.paths) < limits.PATHS_MAX:
        return True
    welcome = board.strangers.welcome(stranger)
    left = [path for path in board.paths if path.replaceable(welcome) and path is not board.unflushed]
    if left:
        _forget(board, min(left, key=lambda it: (it.usable_ns > 0, it.channel.heard_ns, it.number)))
        return True
    board.counters["too_many_paths"] += 1
    if board.strangers.may_ask(now_ns):
        tag, address = board.strangers.tag(stranger), (stranger.shelf, stranger.slot)
        board.say(stranger.port, stranger.mac, address, Command.ATA, tag, IDENTIFY)
    return False


def _forget(board: Board, path: Path) -> None:
    """A path that nothing was asked of but what it leads to makes room."""
    board.follow(path, path.channel.settle_all())
    board.paths.remove(path)
    board.counters += path.channel.counters
    board.last = None


def stranger_reply(board: Board, stranger: Stranger, header: Header, raw: bytes) -> None:
    """A server without a place says what it is."""
    least, port = protocol.ATA_HEADER + protocol.SECTOR, board.ports[stranger.port]
    told = header.command == Command.ATA and not header.flags & FLAG_ERROR and len(raw) >= least
    expected = (stranger.shelf, stranger.slot) in board.addresses and port is not None and port.up
    if not told or not expected or ata.status_of(raw) & FAILURES:
        board.counters["unfit_reply"] += 1
        return
    data = raw[protocol.ATA_HEADER : least]
    known = board.facts is None or not board.chosen or board.facts.serial == facts_of(data).serial
    if known and unfit(data) is Reason.NONE:
        board.strangers.invite(stranger)
        board.query(stranger.port, stranger.mac, (stranger.shelf, stranger.slot))


def was_asked_as_stranger(board: Board, port: int, header: Header) -> bool:
    """Whether a frame is the answer to the question to those that there is no place for."""
    return board.strangers.tag(stranger_of(port, header)) == header.tag


def stranger_of(port: int, header: Header) -> Stranger:
    """The server that has sent a frame."""
    return Stranger(port, header.src, header.shelf, header.slot)
