"""What may be found, in one table: how grave it is, and why it matters. The manual is made of it."""

from enum import StrEnum
from typing import Any, NamedTuple

from aoe.printable import one_line


class Severity(StrEnum):
    """`ERROR`: something cannot be used, or data is in danger. `WARNING`: it works, but slower, or not for
    long. `UNSEEN`: this user, or now, cannot look. `OK`: it was looked at, and is well."""

    ERROR = "error"
    WARNING = "warning"
    UNSEEN = "unseen"
    OK = "ok"


class Check(NamedTuple):
    """One kind of fault. `why` is what comes of it, in one clause."""

    severity: Severity
    why: str


_E, _W = Severity.ERROR, Severity.WARNING

CHECKS = {
    # The host
    "engine": Check(_W, "Python moves the sectors, at several times the CPU time"),
    "io-uring": Check(_W, "threads do the work of io_uring, at more CPU time for each request"),
    "clock-stepped": Check(_W, "writes that waited when the clock jumped were dropped, and are sent again"),
    "kernel-driver": Check(_E, "the aoe driver of the kernel writes to both servers, and has no fence"),
    "watches": Check(_W, "it is not noticed that a file which is served is removed or replaced"),
    # Interfaces
    "interface": Check(_E, "nothing can be served or reached over it"),
    "interface-down": Check(_E, "no frame comes in or goes out"),
    "interface-bridged": Check(_E, "the bridge takes every frame before a target or client sees it"),
    "interface-mtu": Check(_E, "not even one sector fits into a frame"),
    "interface-errors": Check(_W, "each frame that is lost there costs a wait, and is sent again"),
    "scatter-gather": Check(
        _W, "the kernel copies each frame that is larger than a page once more to send it"
    ),
    "packet-socket": Check(_E, "no AoE frame can be sent or heard"),
    "socket-buffer": Check(_W, "fewer requests can be under way at a time than is usual"),
    # What is on the network
    "silent": Check(_E, "the disk cannot be used from here"),
    "other-disk": Check(_E, "a client that took both servers for one disk would mix their data"),
    "address-twice": Check(_E, "clients mix the two disks, and write to both"),
    "shared-cache": Check(_E, "another host changes the disk behind this cache, so reads may be old"),
    "path-mtu": Check(_W, "requests are cut smaller than both ends take, at more frames for the same data"),
    "release": Check(_W, "one of the two has not what the other can, and not all that was mended"),
    # The service
    "config": Check(_E, "the file cannot be applied, nor read at the next start"),
    "daemon": Check(_E, "nothing of the file is served, or it cannot be seen or changed"),
    "package": Check(_W, "the old program runs until it is restarted, and may load modules of the new one"),
    "descriptors": Check(_E, "disks or interfaces that come cannot be opened"),
    "export": Check(_E, "clients get no answer, or not from the disk that is meant"),
    "pool": Check(_E, "no volume of it can be served or made"),
    "pool-full": Check(
        _W, "no volume, clone or snapshot is made there, and writes fail once nothing is left"
    ),
    "setting": Check(_E, "the service cannot start with it"),
    "frames-dropped": Check(_W, "requests are lost here, and clients wait before they ask again"),
    "unit-failed": Check(_E, "the service does not run"),
    "unit-disabled": Check(_W, "the service does not start at the next boot"),
    "opener": Check(_E, "no disk and no interface can be opened for the service"),
    "control-open": Check(_E, "another user can put a socket of its own in that place"),
    "unit-changed": Check(_W, "systemd still runs the service by its old words"),
    "unit-store": Check(_W, "a restart loses the frames, locks and streams that systemd would hold"),
    "user": Check(_E, "systemd cannot start the service"),
    # What it keeps
    "state-dir": Check(_E, "serials, lists of hosts and failed disks cannot be kept over a restart"),
    "state-open": Check(_E, "another user can change which hosts may write"),
    "state-damaged": Check(_E, "the disk of that record is not served again after a restart"),
    "sync-failed": Check(_E, "it is unknown what the disk has of the last writes"),
    # Stores
    "store": Check(_E, "it cannot be served"),
    "store-silent": Check(_E, "requests hang, and so does a start that opens it"),
    "store-access": Check(_E, "the service cannot open it"),
    "store-read-only": Check(_W, "every write fails, although the file does not say read-only"),
    "store-full": Check(_W, "writes will fail once the file system under the sparse file is full"),
}
"""By their id, which stays as it is from version to version."""


class Finding(NamedTuple):
    """What was seen of one thing. `about` names it, `remedy` is a command line, or words for a file."""

    id: str
    severity: Severity
    about: str
    seen: str
    remedy: str = ""

    @property
    def why(self) -> str:
        """Why it matters, in one clause; empty where nothing is wrong."""
        return CHECKS[self.id].why if self.is_fault else ""

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong."""
        return self.severity in (Severity.ERROR, Severity.WARNING)

    @property
    def sentence(self) -> str:
        """In one line."""
        why, remedy = (f"{mark}{it}" if it else "" for mark, it in ((": ", self.why), ("; ", self.remedy)))
        return one_line(f"{self.severity}: {self.about}: {self.seen}{why}{remedy} [{self.id}]")

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "severity": str(self.severity), "why": self.why}


def fault(id: str, about: str, seen: str, remedy: str) -> Finding:
    """Something is wrong."""
    return Finding(id, CHECKS[id].severity, about, seen, remedy)


def fine(id: str, about: str, seen: str) -> Finding:
    """It was looked at, and is well."""
    assert id in CHECKS
    return Finding(id, Severity.OK, about, seen)


def unseen(id: str, about: str, seen: str, remedy: str) -> Finding:
    """It could not be looked at."""
    assert id in CHECKS
    return Finding(id, Severity.UNSEEN, about, seen, remedy)


def halves(message: str) -> tuple[str, str]:
    """What is wrong, and the remedy, of a message; the remedy is empty where there is none."""
    seen, _, remedy = message.partition("; ")
    return seen, remedy


_ORDER = list(Severity)


def gravest_first(found: list[Finding]) -> list[Finding]:
    """Each once; in the order of the table among those that are equally grave."""
    place = {id: at for at, id in enumerate(CHECKS)}
    return sorted(dict.fromkeys(found), key=lambda it: (_ORDER.index(it.severity), place[it.id], it.about))
