"""Which path carries an operation, and what becomes of it."""

from aoe.drive.command import ABRT, ERROR, FAILURES
from aoe.initiator import exchange as on_channel
from aoe.initiator import looks, trial
from aoe.initiator.board import Board
from aoe.initiator.exchange import Exchange, Kind
from aoe.initiator.life import State
from aoe.initiator.path import Answered, Operation, Path, Settled, TooLarge
from aoe.wire import ata
from aoe.wire.ata import AtaReply
from aoe.wire.frame import FLAG_ERROR, Command, Error


def dispatch(board: Board, operation: Operation, now_ns: int) -> None:
    """Send it, or hold it until there is a path that can be trusted."""
    if operation.only is not None:
        _send(board, operation, operation.only, now_ns)
        return
    path = board.owner
    if path is not None and operation.free and board.policy.spread:
        path = _least_loaded(board, path, now_ns)
    if path is None or (board.heir is not None and operation.kind is not Kind.READS):
        board.held[operation] = None
    elif not is_vouched(board, path, now_ns):
        board.held[operation] = None
        looks.look(board, path, now_ns)
    elif operation.sectors > path.most(operation.kind):
        give_back(board, operation, path, now_ns)
    else:
        _send(board, operation, path, now_ns)


def give_back(board: Board, operation: Operation, path: Path, now_ns: int) -> None:
    """It has to become several. What was sent of it stays of unknown fate."""
    board.events.append(TooLarge(operation, path.most(operation.kind)))
    abandon(board, operation, now_ns)


def frame(board: Board, kind: Kind) -> int:
    """How many sectors the owner takes in one request, or any path while there is no owner."""
    paths = board.paths if board.owner is None else [board.owner]
    return max((path.most(kind) for path in paths), default=1)


def is_vouched(board: Board, path: Path, now_ns: int) -> bool:
    """Whether it was heard lately, and nothing happened since that would make it another server (I6)."""
    return path.vouched and now_ns - path.channel.heard_ns < board.timing.silence_ns


def _least_loaded(board: Board, owner: Path, now_ns: int) -> Path:
    """The proved path with the fewest requests; of equals, the one after the last that was chosen. One that
    is to be left is the last choice."""
    at = board.paths.index(board.last) + 1 if board.last in board.paths else 0
    best = None
    for path in board.paths[at:] + board.paths[:at]:
        if path.state is not State.USABLE or not (path.trial.proved or trial.leads_to_owner(board, path)):
            continue
        if not is_vouched(board, path, now_ns):
            looks.look(board, path, now_ns)
        elif best is None or (path.draining, path.channel.load) < (best.draining, best.channel.load):
            best = path
    board.last = best or owner
    return board.last


def _send(board: Board, operation: Operation, path: Path, now_ns: int) -> None:
    exchange = Exchange(
        operation.command,
        operation.body,
        kind=operation.kind,
        reply_min=operation.reply_min,
        sectors=operation.sectors,
    )
    operation.exchanges[exchange] = path
    board.operations[exchange] = operation
    board.follow(path, path.channel.start(exchange, now_ns))


def abandon(board: Board, operation: Operation, now_ns: int) -> None:
    """No answer is wanted any more. What was sent stays of unknown fate."""
    operation.open = False
    board.opened.pop(operation, None)
    board.held.pop(operation, None)
    if operation.refused_by is not None:
        operation.refused_by.refused.pop(operation, None)
    _close(board, operation, now_ns)


def _close(board: Board, operation: Operation, now_ns: int) -> None:
    """No answer to it is wanted any more."""
    if not operation.exchanges:
        board.events.append(Settled(operation))
    for exchange, path in list(operation.exchanges.items()):
        if exchange.open:
            board.follow(path, path.channel.abandon(exchange, now_ns))


def settled(board: Board, exchange: Exchange) -> None:
    """No copy of what one path had of an operation can do anything any more."""
    operation = board.operations.pop(exchange, None)
    if operation is None:
        return
    del operation.exchanges[exchange]
    if not operation.open and not operation.exchanges:
        board.events.append(Settled(operation))


def answered(board: Board, path: Path, answer: on_channel.Answered, now_ns: int) -> None:
    """A path has the reply to an operation."""
    operation = board.operations[answer.exchange]
    if operation.command == Command.ATA:
        path.io_ns = now_ns
    if operation.kind is not Kind.READS and path.facts is not None and path.facts.volatile:
        board.unflushed = path
        board.debts.cache(path.port, path.channel.peer, path.facts.instance or 0)
        board.changed += 1
    if not operation.open:
        return
    if operation.sectors > 1 and _refuses(answer):
        operation.refused_by, operation.refusal = path, answer
        path.refused[operation] = False
        looks.ask_size(board, path, now_ns)
    else:
        conclude(board, operation, path, answer, now_ns)


def conclude(
    board: Board, operation: Operation, path: Path, answer: on_channel.Answered, now_ns: int
) -> None:
    """This is the answer; there is no other."""
    operation.open = False
    del board.opened[operation]
    board.events.append(Answered(operation, path, answer.header, answer.raw, answer.good))
    _close(board, operation, now_ns)


def release(board: Board, now_ns: int) -> None:
    """What was held may go, if it can."""
    held, board.held = board.held, {}
    for operation in held:
        dispatch(board, operation, now_ns)


def under_way(board: Board, path: Path) -> list[Exchange]:
    """What is open there and could go elsewhere, in the order of the operations."""
    return [
        exchange
        for operation in board.opened
        if operation.only is None
        for exchange, carrier in operation.exchanges.items()
        if carrier is path and exchange.open
    ]


def has_changes(board: Board, path: Path) -> bool:
    """Whether changes or flushes are open there that could go elsewhere."""
    return any(exchange.kind is not Kind.READS for exchange in under_way(board, path))


def recall_changes(board: Board, now_ns: int) -> None:
    """Those that the owner was not sent yet wait for another path."""
    assert board.owner is not None, "it is to be left"
    there = under_way(board, board.owner)
    unsent = [it for it in there if it.kind is not Kind.READS and not it.tries]
    take_back(board, board.owner, unsent, now_ns)


def take_back(board: Board, path: Path, exchanges: list[Exchange], now_ns: int) -> None:
    """They wait for a path again. What was sent stays of unknown fate."""
    board.held |= {board.operations[exchange]: None for exchange in exchanges}
    for sent in (False, True):  # or what waits would be sent as soon as there is room
        for exchange in exchanges:
            if bool(exchange.tries) is sent:
                board.follow(path, path.channel.abandon(exchange, now_ns))


def _refuses(answer: on_channel.Answered) -> bool:
    """Whether this is how a server says that it does not take so much in one request: ours and ggaoed abort
    the command, vblade calls it a bad argument."""
    if answer.good:
        return False
    if answer.header.flags & FLAG_ERROR:
        return answer.header.error == Error.BAD_ARGUMENT
    said = ata.decode_reply(answer.raw)
    return isinstance(said, AtaReply) and said.status & FAILURES == ERROR and bool(said.error & ABRT)
