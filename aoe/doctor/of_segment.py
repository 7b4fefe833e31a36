"""Judges what answers on the network: two servers of one address, two caches of one disk, larger frames that
are lost between."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aoe.doctor.checks import Finding, fault, fine, halves
from aoe.drive.identify import FIRMWARE, MODEL
from aoe.initiator.sizes import NARROW_TEXTS, Narrow
from aoe.initiator.standing import PathStatus
from aoe.wire.protocol import SECTOR

_UNDECIDED = ("", NARROW_TEXTS[Narrow.TRIED])


class Answer(NamedTuple):
    """What answers at an address: the paths to it, the serial of the disk there (empty: it does not say), and
    why it cannot be used (empty: it can). `is_one` is whether it is one server, by whatever interfaces;
    `drives` the model and release of each that was asked, by its MAC."""

    address: str
    serial: str
    paths: tuple[PathStatus, ...]
    problem: str = ""
    is_one: bool = True
    drives: tuple[tuple[str, str], ...] = ()


class Ours(NamedTuple):
    """A disk that this host serves. `cached` says that a page cache is before it, `volatile` that its writes
    are acknowledged before they are on stable storage."""

    address: str
    serial: str
    cached: bool
    volatile: bool


# For a client


def for_client(answers: Sequence[Answer], wanted: Sequence[str]) -> Iterator[Finding]:
    """`wanted` are the addresses that it is to use, of which each has to answer."""
    heard = {it.address for it in answers}
    for address in wanted:
        if address not in heard:
            remedy = "on the server: aoe-target status, and see that the mask of the disk has this host"
            yield fault("silent", address, "nothing answers", remedy)
    for answer in answers:
        if not wanted or answer.address in wanted:
            yield from _answer(answer)
            yield from paths(answer.paths)
            yield from _release(answer)


def _release(answer: Answer) -> Iterator[Finding]:
    """Of each server of ours, once for all of its disks."""
    if answer.is_one and answer.drives:
        every = sorted({path.mac for path in answer.paths})
        yield from _compared(" and ".join(every), answer.drives[0][1])
        return
    for mac, drive in answer.drives:
        yield from _compared(mac, drive)


def _compared(about: str, drive: str) -> Iterator[Finding]:
    """What a server says that it is with this host."""
    model, _, release = drive.rpartition(" ")
    if model != MODEL:
        return
    if release == FIRMWARE:
        yield fine("release", about, f"{drive}, as here")
    else:
        seen = f"its server is {drive}, and this host has {FIRMWARE}"
        yield fault("release", about, seen, "upgrade the older of the two")


def _answer(answer: Answer) -> Iterator[Finding]:
    refused = [it for it in answer.paths if it.state == "refused"]
    for path in refused:
        seen, remedy = _halves(path.reason)
        yield fault("other-disk", answer.address, f"{path.mac} on {path.interface} has {seen}", remedy)
    if answer.problem and not refused:
        seen, remedy = halves(answer.problem)
        yield fault("silent", answer.address, seen, remedy or "aoe stat")
    if not answer.problem and not refused:
        servers = ", ".join(f"{it.mac} on {it.interface}" for it in answer.paths)
        yield fine("silent", answer.address, f"serial {answer.serial}, from {servers}")


def paths(them: Iterable[PathStatus]) -> Iterator[Finding]:
    """Whether frames as large as both ends take pass between them."""
    for it in them:
        about = f"{it.mac} on {it.interface}"
        if it.narrow in _UNDECIDED:
            yield fine("path-mtu", about, f"{it.sectors * SECTOR} bytes in a frame, as both ends take")
            continue
        seen, remedy = _halves(it.narrow)
        carried = f"{it.sectors * SECTOR} bytes in a request, not {it.sectors_max * SECTOR}"
        yield fault("path-mtu", about, f"{seen} ({carried})", remedy)


def _halves(reason: str) -> tuple[str, str]:
    """As the initiator words it: `what: what to do`, or with a semicolon where it says more."""
    seen, _, remedy = reason.partition("; " if "; " in reason else ": ")
    return seen, remedy or "aoe stat"


def several(answers: Iterable[Answer]) -> dict[str, str]:
    """By address, that several servers answer for it."""
    macs = {it.address: sorted({path.mac for path in it.paths}) for it in answers if not it.is_one}
    return {it: f"{' and '.join(found)} answer for it" for it, found in macs.items() if len(found) > 1}


# For a server


def for_server(answers: Sequence[Answer], ours: Sequence[Ours], own: Collection[str]) -> Iterator[Finding]:
    """`own` are the MACs of this host, which hears itself where two interfaces are on one segment."""
    foreign = [it._replace(paths=tuple(path for path in it.paths if path.mac not in own)) for it in answers]
    foreign = [it for it in foreign if it.paths]
    by_address = {it.address: it for it in ours}
    by_serial = {it.serial: it for it in ours if it.serial}
    for answer in foreign:
        here = by_address.get(answer.address)
        if here is not None and (here.serial != answer.serial or _is_refused(answer)):
            yield _twice(answer, here)
        same = by_serial.get(answer.serial)
        if same is not None and (same.cached or same.volatile):
            yield _cached(answer, same)
    yield from paths(it for answer in foreign for it in answer.paths)
    twice = {it.address for it in foreign}
    for address in by_address.keys() - twice:
        yield fine("address-twice", address, "no other server answers for it")


def _is_refused(answer: Answer) -> bool:
    """Whether it is another disk than what this host was heard to serve there by another interface."""
    return any(path.state == "refused" for path in answer.paths)


def _twice(answer: Answer, here: Ours) -> Finding:
    path = answer.paths[0]
    other = answer.serial if answer.serial not in ("", here.serial) else "unknown"
    seen = f"{path.mac} on {path.interface} answers for it, too, with another disk (serial {other})"
    remedy = f"give one of them another shelf or slot: aoe-target remove {here.address}"
    return fault("address-twice", here.address, seen, remedy)


def _cached(answer: Answer, same: Ours) -> Finding:
    what = "write-back" if same.volatile else "through the page cache"
    seen = f"served {what}, and {answer.paths[0].mac} serves the same serial as {answer.address}"
    remedy = f'shared = true and durability = "write-through" at {same.address} in the file'
    return fault("shared-cache", same.address, seen, remedy)


def served(exports: Iterable[Mapping[str, object]]) -> list[Ours]:
    """What a daemon says that it serves."""
    return [
        Ours(
            str(it.get("address")),
            str(it.get("serial", "")),
            cached=not it.get("direct", True) and not it.get("read_only", False),
            volatile=it.get("durability") == "write-back",
        )
        for it in exports
        if it.get("state") in ("serving", "kept", "draining")
    ]
