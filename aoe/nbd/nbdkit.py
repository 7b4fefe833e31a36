"""Runs nbdkit with our plugin as a child: the command line, when it is ready, and how it ends."""

import asyncio
import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from aoe import limits, timing
from aoe.errors import ConfigurationError, RequestError, Unreachable
from aoe.initiator.options import OPTIONS, Options
from aoe.initiator.standing import PathStatus
from aoe.link.packet import PacketLink
from aoe.link.udp import UdpSpec
from aoe.nbd import DEFAULTS, status
from aoe.nbd.reports import Reports
from aoe.target.repeated import Repeated
from aoe.wire.frame import error_text

PLUGIN = Path(__file__).with_name("aoe_nbd_plugin.so")
DOOR = Path(__file__).with_name("aoe-door")
"""The supervisor of a door that the kernel uses (csrc/door)."""
log = logging.getLogger("aoe.nbd")

_SUPERVISOR = "aoe-door: "
_PREFIX = "nbdkit: error: "
_ENDING = _PREFIX + "aborting sleep because of server shut down"
"""How the plugin learned that it is to end."""
_LEFT = re.compile(r"nbdkit: [^ ]+ error: .*: (Broken pipe|Connection reset by peer|Bad message)")
"""A client that hung up is no error of ours."""
_AOE_ERROR = re.compile(r"AoE error ([0-9]+)")
_USUAL_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_VARIES = re.compile(r"^nbdkit: [^:]*: |at byte [0-9]+")
"""What differs between messages of one kind: the program's name, and the byte."""


class Plan(NamedTuple):
    """What is served, and where: `addresses` ("e0.0") are paths to one disk, over `interfaces` and `links`
    ("udp:..."), at the Unix socket `path`. `threads` is how many requests of each client are under way at
    once. With `device` ("/dev/nbd0") it is that block device instead, and nothing is at `path`, but for what
    is beside it."""

    path: Path
    addresses: Sequence[str]
    interfaces: Sequence[str] = ()
    links: Sequence[str] = ()
    read_only: bool = False
    options: Options = DEFAULTS
    threads: int = limits.NBD_THREADS
    device: str = ""


def command_line(plan: Plan) -> list[str]:
    """How nbdkit is called. ConfigurationError where something is missing for it."""
    nbdkit = shutil.which("nbdkit") or shutil.which("nbdkit", path=_USUAL_PATH)
    if nbdkit is None:
        raise ConfigurationError("nbdkit is not installed: apt-get install nbdkit")
    if not PLUGIN.exists():
        raise ConfigurationError(
            "the NBD plugin is not built: apt-get install gcc nbdkit-plugin-dev, then install this "
            "package again"
        )
    for name in plan.interfaces:
        PacketLink(name).close()  # it words what is wrong with an interface
    return [
        *_first_words(plan, nbdkit),
        f"--threads={plan.threads}",
        *(["--readonly"] if plan.read_only else []),
        str(PLUGIN),
        *(f"{name}={value}" for name, value in _parameters(plan)),
    ]


def _first_words(plan: Plan, nbdkit: str) -> list[str]:
    if not plan.device:
        return [nbdkit, "--foreground", "--exit-with-parent", f"--unix={plan.path}"]
    if not DOOR.exists():
        raise ConfigurationError(f"{DOOR} is not built: apt-get install gcc, then install this package again")
    return [str(DOOR), "--foreground", plan.device, nbdkit]


def _parameters(plan: Plan) -> list[tuple[str, str]]:
    return [
        *(("address", address) for address in plan.addresses),
        *(("interface", name) for name in plan.interfaces),
        *(("link", _numeric(text)) for text in plan.links),
        *((it.word, text) for it in OPTIONS for text in it.kind.texts(getattr(plan.options, it.name))),
    ]


def _numeric(text: str) -> str:
    """A link with its names resolved."""
    spec = UdpSpec.parse(text)
    if not spec.peers:
        raise ConfigurationError(f"link {text} names no peer; add peer=HOST:PORT")
    peers = "".join(f",peer={host}:{port}" for host, port in spec.peers)
    return f"udp:{spec.bind[0]}:{spec.bind[1]}{peers},mtu={spec.mtu}"


class Listener(Protocol):
    """What is told what becomes of it."""

    def ready(self, size: int) -> None:
        """Clients may connect; the disk has so many bytes."""

    def changed(self, path: PathStatus, lost_s: float | None) -> None:
        """A path is another one; `lost_s` for how long it could not be used, where it can again."""

    def status(self, size: int, paths: list[PathStatus]) -> str:
        """What is answered to a client that asks at `status.beside(plan.path)`: one line."""


async def serve(plan: Plan, listener: Listener) -> int | None:
    """Serve until SIGTERM, or until SIGINT, which is waited for hardly at all; the signal that came. A device
    that is in use is served on.

    Unreachable with nbdkit's reason where it did not come so far, RequestError where it ended by itself.
    """
    command = command_line(plan)
    _make_room(plan.path)
    ours, theirs = _announcements()
    ready, says_ready = os.pipe()
    words = [f"--ready={says_ready}"] if plan.device else []
    child = await asyncio.create_subprocess_exec(
        *(*command[:1], *words, *command[1:]),
        f"announce={theirs.fileno()}",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(theirs.fileno(), *([says_ready] if plan.device else [])),
        env=None if plan.device else _environment(),
    )
    theirs.close()
    os.close(says_ready)
    stopped = _forward_signals(child, hurries=not plan.device)
    talk = _Talk(child)
    names = [*plan.interfaces, *plan.links]
    reports = Reports(ours, names, hold=plan.options.hold, on_change=listener.changed)
    try:
        size = await reports.size()
        if plan.device and not await _is_attached(ready):
            size = None
        if size is not None:
            await _serving(plan, listener, talk, reports, size)
        ended = await _end(child)
    except BaseException:
        if child.returncode is None and not plan.device:  # what is mounted of it goes on
            child.kill()
        raise
    finally:
        reports.close()
        os.close(ready)
        plan.path.unlink(missing_ok=True)
    said = await talk.ended()
    if size is None and not stopped:
        raise Unreachable("; ".join(said) or f"nbdkit ended with status {ended}")
    if ended and not stopped:
        raise RequestError(f"nbdkit ended with status {ended}")
    return stopped[0] if stopped else None


def _announcements() -> tuple[socket.socket, socket.socket]:
    """Our end, and one whose number a door has for nothing else (csrc/door/child.c)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, limits.DOOR_DESCRIPTORS)
    return ours, socket.socket(fileno=number)


async def _is_attached(ready: int) -> bool:
    """Whether the supervisor has written there, or has ended."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(ready, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(ready)
    return bool(os.read(ready, 1))


def _environment() -> dict[str, str]:
    """Ours, and the plugin preloaded, so that a client may vanish (csrc/nbd/vanished.c)."""
    before = os.environ.get("LD_PRELOAD")
    if set(str(PLUGIN)) & {" ", ":"}:  # no such path can be preloaded (ld.so(8))
        return dict(os.environ)
    return {**os.environ, "LD_PRELOAD": f"{before}:{PLUGIN}" if before else str(PLUGIN)}


async def _serving(plan: Plan, listener: Listener, talk: "_Talk", reports: Reports, size: int) -> None:
    """Until the child has ended, or is to end."""

    async def answer() -> str:
        return listener.status(size, await reports.paths())

    async with status.answering(status.beside(plan.path), answer):
        talk.serves()
        listener.ready(size)
        await reports.hung_up()


async def _end(child: asyncio.subprocess.Process) -> int:
    """Its exit status. It would wait for its clients to hang up; they have all their answers."""
    try:
        async with asyncio.timeout(timing.NBD_LAST_ANSWER_S):
            return await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
        return 0


class _Talk:
    """What the child says on standard error. What it says before it serves is kept."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None, "a pipe"
        self._stderr = child.stderr
        self._kept: list[str] = []
        self._repeated = Repeated(log)
        self._ready = False
        self._reading = asyncio.ensure_future(self._read())

    def serves(self) -> None:
        """Clients may connect now."""
        self._ready = True
        for text in self._kept:
            log.error("%s", text)

    async def ended(self) -> list[str]:
        """What it said before it was ready, once its pipe is closed."""
        await self._reading
        self._repeated.finish()
        return self._kept

    async def _read(self) -> None:
        """Whatever it says is taken: a child that cannot say something does not serve either."""
        while line := await self._line():
            text = _AOE_ERROR.sub(_worded, line.decode(errors="replace").rstrip()).removeprefix(_SUPERVISOR)
            if text == _ENDING:
                continue
            if _LEFT.fullmatch(text):
                log.info("a client left while it was being answered")
                continue
            if self._ready:
                self._repeated.say(_VARIES.sub("", text), logging.ERROR, "%s", text)
            elif len(self._kept) < limits.NBD_LINES_MAX:
                self._kept.append(text.removeprefix(_PREFIX))

    async def _line(self) -> bytes:
        try:
            return await self._stderr.readline()
        except ValueError:  # longer than any that is meant to be read
            return b"nbdkit said more than fits a line\n"


def _worded(match: re.Match[str]) -> str:
    """An AoE error in the words that it has everywhere."""
    return error_text(int(match[1]))


def _forward_signals(child: asyncio.subprocess.Process, *, hurries: bool) -> list[int]:
    """SIGTERM and SIGINT go to the child, too; those that came."""
    came: list[int] = []
    loop = asyncio.get_running_loop()

    def forward(number: int) -> None:
        came.append(number)
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        if number == signal.SIGINT and hurries:
            loop.call_later(timing.NBD_HURRY_S, kill)

    def kill() -> None:
        if child.returncode is None:
            child.kill()

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, forward, number)
    return came


def _make_room(path: Path) -> None:
    """Remove a socket that was left behind; ConfigurationError for one in use, and for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} exists and is not a socket; name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConfigurationError(f"{path} is in use; name another path, or stop what serves there")
