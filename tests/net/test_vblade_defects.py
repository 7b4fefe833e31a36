"""What vblade 25 does wrong, seen in vblade itself, and not seen in our target.

Each test makes one observation on a server and compares it with what that server is known to show.
"""

import ctypes
import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aoe.wire import ata, mask
from aoe.wire.ata import AtaReply
from aoe.wire.config import ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Error, Header, decode
from aoe.wire.mask import Directive, DirectiveCommand, MaskCommand
from aoe.wire.protocol import FRAME_MIN, SECTOR
from aoe.wire.reserve import ReserveCommand
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, Target, Vblade, image
from tests.support.labs.ports import PacketPort
from tests.support.labs.raw_client import (
    FLUSH,
    FLUSH_EXT,
    IDENTIFY,
    READ_EXT,
    WRITE_EXT,
    Client,
    NoAnswer,
    Refused,
    ata_request,
)
from tests.support.tools import need, need_namespaces, unavailable
from tests.support.waiting import PATIENCE_S, wait_for

A, B, C = (bytes((2, 0, 0, 0, 0, last)) for last in (0xA, 0xB, 0xC))
CONFIG_QUERY = bytes(8)
OLD, NEW = b"\x0d" * SECTOR, b"\xfe" * SECTOR
TOO_OLD_S = 1.4
"""Longer than the maximum frame age, 1 s."""
PATIENT = 150
"""Retries of a hasty client that is to be answered."""

Seen = TypeVar("Seen")

both = pytest.mark.parametrize("kind", ["vblade", "ours"], scope="module")


def serve(kind: str, lab: Lab, path: Path, interface: str = "v0", ours: Sequence[str] = ()) -> Target:
    """A server of one kind for an image, at 1.1."""
    if kind == "vblade":
        need("vblade")
        return Vblade(lab, path, interface=interface)
    state = path.parent / f"state-{interface}"
    return AoeTarget(lab, path.parent, f"{path}=1.1", *ours, interfaces=[interface], state_dir=state)


@pytest.fixture(scope="module")
def standing(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with a server that is only asked, and can be shared."""
    need_namespaces()
    with Lab() as lab, serve(kind, lab, image(tmp_path_factory.mktemp(kind) / "disk")):
        yield lab


def expect(kind: str, seen: Seen, *, vblade: Seen, ours: Seen) -> None:
    assert seen == {"vblade": vblade, "ours": ours}[kind]


def hasty(lab: Lab, **options: Any) -> Client:
    """A client for questions that may stay unanswered."""
    return lab.client(timeout=0.2, retries=0, **options)


def outcome(call: Any, *arguments: Any, **options: Any) -> Any:
    """Result of a request, or the AoE error, or None for silence."""
    try:
        return call(*arguments, **options)
    except Refused as refused:
        return Error(refused.code)
    except NoAnswer:
        return None
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # the frame met an interface without a carrier
            raise
        return None


# Row 1


def edit(client: Client, *directives: Directive) -> list[bytes]:
    """Mask list after an edit."""
    return [entry.mac for entry in client.mask(*directives).directives]


@both
def test_mask_edits_corrupt_the_list(kind: str, lab: Lab, tmp_path: Path) -> None:
    with serve(kind, lab, image(tmp_path / "disk")):
        client = lab.client()
        added = edit(client, *(Directive(DirectiveCommand.ADD, mac) for mac in (client.mac, A, B)))
        deleted = edit(client, Directive(DirectiveCommand.DELETE, A))
        seen = {"A kept": A in added, "B kept": B in added, "A deleted": A not in deleted and A in added}
    expect(
        kind,
        seen,
        vblade={"A kept": False, "B kept": True, "A deleted": False},
        ours={"A kept": True, "B kept": True, "A deleted": True},
    )


@both
def test_deleting_the_first_of_a_mask_list_aborts_the_process(kind: str, lab: Lab, tmp_path: Path) -> None:
    with serve(kind, lab, image(tmp_path / "disk")) as server:
        client = lab.client()
        assert edit(client, *(Directive(DirectiveCommand.ADD, mac) for mac in (A, client.mac)))
        outcome(hasty(lab).mask, Directive(DirectiveCommand.DELETE, A))
        survived = not gone(kind, server)
    expect(kind, survived, vblade=False, ours=True)


def gone(kind: str, server: Target) -> bool:
    """Whether the process has ended, or does so within some time: vblade is expected to."""
    deadline = time.monotonic() + (PATIENCE_S if kind == "vblade" else 0.5)
    while server.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    return not server.alive


# Row 2


@both
def test_replies_are_short_or_carry_stale_memory(kind: str, standing: Lab) -> None:
    client = standing.client()
    client.write(8, b"\xee" * (2 * SECTOR))
    flush = client.request(Command.ATA, ata.encode(ata_request(FLUSH)))[:36]
    client.send(flush)
    flushed = client.receive(1.0)
    answers = [client.ask(Command.CONFIG, CONFIG_QUERY), client.ask(Command.MASK, bytes(4)), flushed]
    assert all(answers)
    seen = {
        "short": any(len(answer) < FRAME_MIN for answer in answers if answer),
        "stale": any(flushed[36:]) if flushed else None,
    }
    expect(kind, seen, vblade={"short": True, "stale": True}, ours={"short": False, "stale": False})


# Row 3


@both
def test_advertisement_has_version_0(kind: str, lab: Lab, tmp_path: Path) -> None:
    listener = lab.port()
    with serve(kind, lab, image(tmp_path / "disk")):
        header = wait_for(lambda: advertisement(listener), what="no advertisement")
    assert header is not None
    assert (header.dst, header.tag) == (BROADCAST, 0)
    expect(kind, header.version, vblade=0, ours=1)


def advertisement(listener: PacketPort) -> Header | None:
    """The next frame if it is a reply that nobody asked for: our target asks around before it serves."""
    header = decode(listener.receive(1.0) or b"")
    unasked = isinstance(header, Header) and header.flags & FLAG_RESPONSE
    return header if unasked and isinstance(header, Header) else None


@both
def test_any_version_is_answered_and_echoed(kind: str, standing: Lab) -> None:
    reply = standing.client().ask(Command.CONFIG, CONFIG_QUERY, version=2)
    header = decode(reply or b"")
    assert isinstance(header, Header)
    seen = (header.version, header.flags, header.error)
    refused = (1, FLAG_RESPONSE | FLAG_ERROR, Error.UNSUPPORTED_VERSION)
    expect(kind, seen, vblade=(2, FLAG_RESPONSE, 0), ours=refused)


@both
def test_error_flag_and_byte_of_a_request_are_echoed(kind: str, standing: Lab) -> None:
    reply = standing.client().ask(Command.CONFIG, CONFIG_QUERY, flags=FLAG_ERROR, error=9)
    header = decode(reply or b"")
    assert isinstance(header, Header)
    expect(
        kind,
        (header.flags, header.error),
        vblade=(FLAG_RESPONSE | FLAG_ERROR, 9),
        ours=(FLAG_RESPONSE, 0),
    )


# Row 4


@both
def test_bad_arguments_bring_aoe_errors_that_linux_ignores(kind: str, standing: Lab) -> None:
    client = standing.client()
    replies = {
        "count": outcome(client.ata, READ_EXT, 0, 200),
        "short data": outcome(client.ata, WRITE_EXT, 0, 2, bytes(SECTOR)),
        "identify": outcome(client.ata, IDENTIFY, count=0),
    }
    seen = {
        name: (reply.status, reply.error) if isinstance(reply, AtaReply) else reply
        for name, reply in replies.items()
    }
    aborted = (0x41, 0x04)
    expect(
        kind,
        seen,
        vblade=dict.fromkeys(seen, Error.BAD_ARGUMENT),
        ours={"count": aborted, "short data": aborted, "identify": (0x40, 0)},
    )


# Row 5


@both
def test_flush_does_not_sync(kind: str, lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk")
    with serve(kind, lab, path, ours=("--buffered", "--durability", "write-back")):
        client = lab.client()
        flushes = client.ata(FLUSH).status, client.ata(FLUSH_EXT).status
        client.write(0, NEW)
        if not dirty_pages(path):
            unavailable(f"{path} is on a file system that keeps no count of dirty pages (a tmpfs?)")
        client.ata(FLUSH)
        seen = {"statuses": flushes, "left dirty": bool(dirty_pages(path))}
    expect(
        kind,
        seen,
        vblade={"statuses": (0x00, 0x41), "left dirty": True},
        ours={"statuses": (0x40, 0x40), "left dirty": False},
    )


def dirty_pages(path: Path) -> int:
    """Pages of a file that the page cache holds and the disk does not: cachestat(2), Linux 6.5."""
    libc = ctypes.CDLL(None, use_errno=True)
    whole, counts = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    with path.open("rb") as file:
        if libc.syscall(451, file.fileno(), whole, counts, 0):
            unavailable(f"cachestat: {os.strerror(ctypes.get_errno())} (needs Linux 6.5)")
    return counts[1] + counts[2]


# Row 7


@both
def test_state_is_lost_at_restart(kind: str, lab: Lab, tmp_path: Path) -> None:
    with serve(kind, lab, image(tmp_path / "disk")) as server:
        client = lab.client()
        client.config(ConfigCommand.FORCE_SET, b"kept")
        client.reserve(ReserveCommand.SET, client.mac, A)
        edit(client, Directive(DirectiveCommand.ADD, client.mac))
        server.probe_mac = client.mac
        server.restart()
        seen = (client.config().text, client.reserve().macs, edit(client))
    expect(kind, seen, vblade=(b"", (), []), ours=(b"kept", (client.mac, A), [client.mac]))


# Row 8


@both
def test_a_lowered_mtu_ends_the_process(kind: str, lab: Lab, tmp_path: Path) -> None:
    with serve(kind, lab, image(tmp_path / "disk")) as server:
        lab.client().read(0, 2)
        lab.link(lab.cables[0].a, "mtu", "600")
        with_reply_too_long = hasty(lab).ask(Command.ATA, ata.encode(ata_request(READ_EXT, 0, 2)))
        survived = not gone(kind, server)
    assert with_reply_too_long is None or len(with_reply_too_long) <= 614
    expect(kind, survived, vblade=False, ours=True)


@both
def test_a_link_flap_ends_the_process(kind: str, lab: Lab, tmp_path: Path) -> None:
    with serve(kind, lab, image(tmp_path / "disk")) as server:
        client, patient = hasty(lab), lab.client()
        for _ in range(50):
            patient.read(0)
        lab.down(lab.cables[0].a)
        outcome(client.read, 0)
        lab.up(lab.cables[0].a)
        survived = not gone(kind, server)
        if survived:
            wait_for(lambda: outcome(client.read, 0), what="no service after the flap")
    expect(kind, survived, vblade=False, ours=True)


# Row 9 and its like


@both
@pytest.mark.parametrize(
    "fields", [{"dst": A}, {"src": b"\x01\0\x5e\0\0\x01"}], ids=["other-host", "group-source"]
)
def test_frames_of_other_hosts_and_groups_are_answered(
    kind: str, fields: dict[str, bytes], standing: Lab
) -> None:
    client = Client(standing.port(promiscuous=True))
    assert client.ask(Command.CONFIG, CONFIG_QUERY) is not None
    if kind == "ours":
        client.timeout, client.retries = 0.3, 0
    answered = client.ask(Command.CONFIG, CONFIG_QUERY, **fields) is not None
    expect(kind, answered, vblade=True, ours=False)


# Row 12


@both
def test_directives_are_read_beyond_the_frame(kind: str, lab: Lab, tmp_path: Path) -> None:
    """The frame says three directives and carries none; an earlier one left some in the buffer."""
    with serve(kind, lab, image(tmp_path / "disk")):
        client = hasty(lab)
        left_over = b"".join(bytes((0, DirectiveCommand.ADD)) + mac for mac in (client.mac, A, B))
        client.ask(Command.MASK, bytes(4) + left_over)
        lying = client.request(Command.MASK, mask.encode(mask.Mask(MaskCommand.EDIT, dir_count=3)))
        client.send(lying[:28])
        client.receive(0.3)
        listed = edit(lab.client())
    expect(kind, bool(listed), vblade=True, ours=False)


# Order


@both
def test_a_write_from_before_a_pause_lands_over_newer_data(kind: str, lab: Lab, tmp_path: Path) -> None:
    """Two primaries on one disk; the one that was paused finds an old write in its socket."""
    path = image(tmp_path / "disk")
    lab.cable("target", "client")
    with (
        serve(kind, lab, path, "v0", ours=["--shared", "--serial", "ONE"]) as paused,
        serve(kind, lab, path, "v1", ours=["--shared", "--serial", "ONE"]),
    ):
        first, second = hasty(lab), lab.client(interface="v1")
        first.retries = PATIENT
        first.write(8, OLD)
        first.retries = 0
        paused.pause()
        request = ata.encode(ata_request(WRITE_EXT, 0, 1, OLD))
        assert first.ask(Command.ATA, request) is None
        time.sleep(TOO_OLD_S - first.timeout)
        second.write(0, NEW)
        paused.resume()
        first.retries = PATIENT
        first.config()
        first.write(16, OLD)
        winner = second.read(0)
        on_disk = path.read_bytes()[:SECTOR]
    assert winner == on_disk
    expect(kind, winner, vblade=OLD, ours=NEW)


@both
def test_a_write_that_waited_a_little_is_done(kind: str, lab: Lab, tmp_path: Path) -> None:
    """The age bound must not be what makes the test above pass for any pause at all."""
    path = image(tmp_path / "disk")
    with serve(kind, lab, path, ours=["--max-frame-age", f"{PATIENCE_S}"]) as server:
        client = hasty(lab)
        server.pause()
        assert client.ask(Command.ATA, ata.encode(ata_request(WRITE_EXT, 0, 1, OLD))) is None
        server.resume()
        client.retries = PATIENT
        client.config()
        seen = client.read(0)
    expect(kind, seen, vblade=OLD, ours=OLD)
