"""A service that keeps descriptors in the store of its manager, as it is told, one word a line.

`put NAME [again] [silent]` stores an open file, `alias NAME OTHER` the same again; `socket NAME [silent]`
one end of a pair, `hang` closes the other ends; `remove NAME`; `fail` has its next start fail. What it was
started with is its status.
`storing.py DIRECTORY`: where it keeps what is to fail.
"""

import array
import os
import socket
import sys
from pathlib import Path

FAILS = Path(sys.argv[1], "fail")
NOTIFY = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
NOTIFY.connect(os.environ["NOTIFY_SOCKET"])


def say(text: str, *descriptors: int) -> None:
    """To the manager."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    NOTIFY.sendmsg([text.encode()], rights)


def given() -> list[str]:
    """The names of what it was started with; each is open."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == int(os.environ["LISTEN_FDS"])
    for number, _ in enumerate(names, 3):
        os.fstat(number)
    return names


def main() -> None:
    """Until there are no more words."""
    if FAILS.exists():
        FAILS.unlink()
        sys.exit(1)
    say(f"STATUS=given {' '.join(given())}")
    say("READY=1")
    others, files = [], {}
    for line in sys.stdin:
        word, *rest = line.split()
        name = rest[0] if rest else ""
        more = "\nFDPOLL=0" if "silent" in rest else ""
        if word == "put":
            if "again" not in rest:
                files[name] = os.open("/dev/null", os.O_RDONLY)
            say(f"FDSTORE=1\nFDNAME={name}{more}", files[name])
        elif word == "socket":
            ours, other = socket.socketpair()
            others.append(other)
            say(f"FDSTORE=1\nFDNAME={name}{more}", ours.fileno())
            ours.close()
        elif word == "hang":
            while others:
                others.pop().close()
        elif word == "alias":
            say(f"FDSTORE=1\nFDNAME={rest[1]}", files[name])
        elif word == "fail":
            FAILS.touch()
        elif word == "remove":
            say(f"FDSTOREREMOVE=1\nFDNAME={name}")
        say(f"STATUS=did {line.strip()}")


main()
