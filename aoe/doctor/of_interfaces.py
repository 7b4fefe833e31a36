"""Judges interfaces: whether frames come in at all, whether they are lost there, and how many may wait."""

from collections.abc import Iterator
from mmap import PAGESIZE
from typing import NamedTuple

from aoe import limits
from aoe.doctor.checks import Finding, fault, fine, halves, unseen
from aoe.wire import protocol


class Lost(NamedTuple):
    """Frames that a network card counted: all that it `received`, those it had no room for, those that came
    damaged."""

    received: int = 0
    missed: int = 0
    damaged: int = 0


class Seen(NamedTuple):
    """An interface. One that is not `there` has only a name; `bridge` is the one that it is a port of. What
    `gathers` takes a frame from several pages, as the kernel has those that are larger than one.
    `problem` is why no packet socket can be had there. `fits` is how
    many of the largest frames a receive buffer has room for, None where that is not known."""

    name: str
    there: bool = True
    is_ethernet: bool = True
    running: bool = True
    bridge: str = ""
    mtu: int = limits.UDP_MTU_DEFAULT
    lost: Lost = Lost()
    gathers: bool = True
    fits: int | None = None
    problem: str = ""


def judge(one: Seen, *, client: bool) -> Iterator[Finding]:
    """All of it, or the first thing for which nothing works there. A `client` needs a socket of its own."""
    finding = _carries(one)
    yield finding
    if finding.is_fault:
        return
    yield from _lost(one)
    if one.mtu > PAGESIZE:
        yield _gathers(one)
    if one.problem:
        seen, remedy = halves(one.problem)
        yield (fault if client else unseen)("packet-socket", one.name, seen, remedy)
    if one.fits is not None:
        yield room(one.name, one.mtu, one.fits)


def _carries(one: Seen) -> Finding:
    if not one.there:
        remedy = "ip link; then name the one that is meant, by its MAC or alternative name"
        return fault("interface", one.name, "there is no such interface", remedy)
    if not one.is_ethernet:
        return fault("interface", one.name, "no Ethernet interface", "name one that is: ip link")
    if one.bridge:
        seen = f"a port of {one.bridge}"
        return fault("interface-bridged", one.name, seen, f"name {one.bridge} in place of {one.name}")
    if not one.running:
        remedy = f"ip link set {one.name} up; if it is, look at its cable"
        return fault("interface-down", one.name, "down, or without carrier", remedy)
    if one.mtu < protocol.MTU_MIN:
        remedy = f"ip link set {one.name} mtu {limits.UDP_MTU_DEFAULT}"
        return fault("interface-mtu", one.name, f"MTU {one.mtu}", remedy)
    return fine("interface", one.name, f"up, MTU {one.mtu}")


def _lost(one: Seen) -> Iterator[Finding]:
    """A few of very many harm nothing."""
    lost = one.lost.missed + one.lost.damaged
    seen = f"{one.lost.missed} frames found no room in the card, {one.lost.damaged} came damaged"
    if lost > one.lost.received // limits.DOCTOR_LOST_ONE_IN:
        remedy = f"look at its cable and switch port, and give it more buffers: ethtool -G {one.name} rx 4096"
        yield fault("interface-errors", one.name, f"{seen}, of {one.lost.received}", remedy)
    else:
        yield fine("interface-errors", one.name, seen)


def _gathers(one: Seen) -> Finding:
    if one.gathers:
        return fine("scatter-gather", one.name, "scatter-gather is on")
    remedy = f"ethtool -K {one.name} sg on"
    return fault("scatter-gather", one.name, f"scatter-gather is off at MTU {one.mtu}", remedy)


def room(name: str, mtu: int, fits: int) -> Finding:
    """Of a receive buffer: so many of the largest frames fit."""
    usual = limits.BUFFER_COUNT_DEFAULT_MAX
    seen = f"{fits} frames of MTU {mtu} fit into the receive buffer"
    if fits >= usual:
        return fine("socket-buffer", name, seen)
    remedy = f"sysctl -w net.core.rmem_max={limits.RECEIVE_BUFFER}, and start it again"
    return fault("socket-buffer", name, f"{seen}, not {usual}", remedy)
