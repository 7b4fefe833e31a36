"""A Unix socket beside the NBD socket: a client that connects is told how the paths are, in one line."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aoe import limits, timing
from aoe.errors import ConfigurationError, RequestError, Unreachable


def beside(path: Path) -> Path:
    """Where it is, for an NBD socket."""
    return path.with_name(path.name + ".status")


@asynccontextmanager
async def answering(path: Path, answer: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
    """Answer inside the block. ConfigurationError where there can be no such socket."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(f"{await answer()}\n".encode())
            await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)
    try:
        server = await asyncio.start_unix_server(tell, path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}; name a shorter --socket") from error
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def ask(path: Path) -> str:
    """The answer at that socket. ConfigurationError where there is none."""
    try:
        async with asyncio.timeout(timing.STATUS_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=limits.STATUS_BYTES_MAX)
            try:
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError as error:
        raise Unreachable(f"{path} does not answer") from error
    except OSError as error:
        raise ConfigurationError(f"no aoe nbd serves there: {path}: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise RequestError(f"{path} ended without an answer")
    return line.decode()
