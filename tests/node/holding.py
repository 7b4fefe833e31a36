"""A service that has files held by its manager, as it is told, one word a line; what it did is its status.

`keep KEY TEXT` (a file with that text), `alike KEY TEXT` (kept under a name of which it knows nothing),
`take KEY` says what is in it, `forget KEY`, `leave` says how many names nothing asked for.
"""

import asyncio
import os
import sys

from aoe.node.held import Held, Kind
from aoe.node.notify import Notifier


def written(text: str) -> int:
    """A file that has only a descriptor."""
    fd = os.memfd_create("kept")
    os.write(fd, text.encode())
    return fd


def taken(held: Held, key: str) -> str:
    """What is in a file that was held."""
    fd = held.take(Kind.STORE, key)
    return "nothing" if fd is None else os.pread(fd, 100, 0).decode()


async def main() -> None:
    """Until there are no more words."""
    notifier = Notifier.of(os.environ)
    held = Held.of(os.environ, notifier)
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()
    notifier.ready()
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        word, key, text = (*line.split(), "", "")[:3]
        said = ""
        if word == "keep":
            held.keep(Kind.STORE, key, written(text))
        elif word == "alike":
            notifier.say(f"FDSTORE=1\nFDNAME=aoe9-store-{key}", written(text))
        elif word == "take":
            said = taken(held, key)
        elif word == "forget":
            held.forget(Kind.STORE, key)
        elif word == "leave":
            said = f"{len(held.leave())} left"
        await held.settled()
        notifier.status(f"did {line.strip()}: {said}")
    held.close()
    notifier.close()


asyncio.run(main())
