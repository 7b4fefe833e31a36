"""Every error a caller or an administrator can meet.

A peer's mistakes are not here: they are values and counters (see `aoe.wire.frame.Fault`).
"""

import errno


class AoeError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigurationError(AoeError):
    """What was asked for cannot be served. One line that names the thing and the remedy."""

    exit = 2
    """The status of a command that ends with it."""


class MisuseError(AoeError, RuntimeError):
    """Used where it cannot work: in a child of the process that made it (os.fork), in another event loop or
    thread than its own. One line that names the reason and the remedy."""


class OutOfRangeError(AoeError, ValueError):
    """A number that the caller gave is not one that can be: an offset outside of the disk, say."""


class ControlFailed(AoeError):
    """A daemon did not do what it was asked, or there is none. `kind` names the reason, `exit` is the status
    of a command that asked."""

    def __init__(self, message: str, kind: str, exit: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.exit = exit


class DiskError(AoeError):
    """The backing store failed.

    `offset` is the first failing byte, `errno` the kernel's number (0 for a short read).
    """

    def __init__(self, message: str, offset: int, errno: int = 0) -> None:
        super().__init__(message)
        self.offset = offset
        self.errno = errno


class DiskFailed(DiskError):
    """A sync failed earlier, so nothing may be promised until a restart or a reopen (order rule T6)."""


class DiskHangs(AoeError):
    """A disk does not answer. What was asked for is done when it does. One line that names it."""


class StillHangs(DiskHangs):
    """The same disk, since something else was asked for."""


class PoolError(AoeError):
    """The store of a pool failed, or another process has what is asked for. One line that names the thing."""


class FetchFailed(AoeError):
    """A web server did not give what it was asked for, or something else. One line that names the URL."""


class CutError(AoeError):
    """A snapshot of disks that are served did not come about; the disks go on as without one.
    One line that names the disk and the reason."""


class NoThread(DiskError):
    """A thread that a call needs cannot be started. Nothing was done; later it may be possible."""

    def __init__(self) -> None:
        remedy = "raise the limit (ulimit -u, or TasksMax= in a systemd unit)"
        super().__init__(f"no thread can be started; {remedy}", 0, errno.EAGAIN)


class Outdated(DiskError):
    """What asked for it knows an earlier instance of the disk: it gets no answer, and asks again."""

    def __init__(self) -> None:
        super().__init__("another instance was asked", 0)


class RequestError(AoeError):
    """The target answered a request with an error, or did not answer at all."""


class Unreachable(RequestError):
    """No answer for as long as the caller wanted to wait."""


class TargetRefused(RequestError):
    """The target answered with an AoE error: reserved by another host, or not a command it knows.

    `code` is the error's number (AoEr11 section 2.4), 0 where it is not known.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
