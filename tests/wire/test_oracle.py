"""Independent readers agree with what we encode: Wireshark's dissector, and scapy as a second opinion.

The dissector (4.0) knows the header of every command and the registers of command 0. The arguments of
commands 1 to 3 it leaves alone, and so those are compared as raw bytes with a layout written here, and
by scapy. It shows D only with E and A only with W, ATA Cmd in requests and ATA Status in replies.
"""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.config import Config
from aoe.wire.mask import Mask
from tests.support.tools import need, which
from tests.wire.generate import Message, Sample, samples

COUNT = 4000

HEADER_FIELDS = ["eth.dst", "eth.src", "eth.type"]
HEADER_FIELDS += [f"aoe.{name}" for name in ("version", "response", "flags_error", "error", "major", "minor")]
HEADER_FIELDS += ["aoe.cmd", "aoe.tag"]
ATA_FIELDS = [f"aoe.aflags.{flag}" for flag in "edaw"]
ATA_FIELDS += ["aoe.err_feature", "aoe.sector_count", "aoe.ata.cmd", "aoe.ata.status", "aoe.lba"]
TROUBLE = "_ws.malformed"


def write_pcap(path: Path, frames: list[bytes]) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
        for second, raw in enumerate(frames):
            file.write(struct.pack("<IIII", second, 0, len(raw), len(raw)) + raw)


def dissect(path: Path, fields: list[str]) -> list[dict[str, str]]:
    wanted = [part for field in fields for part in ("-e", field)]
    command = [which("tshark") or "tshark", "-n", "-r", str(path), "-T", "fields", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def told() -> list[Sample]:
    return list(samples(1, COUNT))


@pytest.fixture(scope="module")
def read(told: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    need("tshark")
    path = tmp_path_factory.mktemp("oracle") / "frames.pcap"
    write_pcap(path, [sample.raw for sample in told])
    lines = dissect(path, [*HEADER_FIELDS, *ATA_FIELDS, TROUBLE])
    assert len(lines) == COUNT
    return lines


def header_as_shown(sample: Sample) -> dict[str, str]:
    header = sample.header
    error = header.flags & 4
    return {
        "eth.dst": header.dst.hex(":"),
        "eth.src": header.src.hex(":"),
        "eth.type": "0x88a2",
        "aoe.version": "1",
        "aoe.response": "1" if header.flags & 8 else "0",
        "aoe.flags_error": "1" if error else "0",
        "aoe.error": str(header.error) if error else "",
        "aoe.major": f"0x{header.shelf:04x}",
        "aoe.minor": f"0x{header.slot:02x}",
        "aoe.cmd": str(header.command),
        "aoe.tag": f"0x{header.tag:08x}",
    }


def registers_as_shown(message: Message) -> dict[str, str]:
    if not isinstance(message, AtaRequest | AtaReply):
        return dict.fromkeys(ATA_FIELDS, "")
    aflags, feature, count, command, lba, _ = message
    asks = isinstance(message, AtaRequest)
    return {
        "aoe.aflags.e": "1" if aflags & 0x40 else "0",
        "aoe.aflags.d": ("1" if aflags & 0x10 else "0") if aflags & 0x40 else "",
        "aoe.aflags.a": ("1" if aflags & 0x02 else "0") if aflags & 0x01 else "",
        "aoe.aflags.w": "1" if aflags & 0x01 else "0",
        "aoe.err_feature": f"0x{feature:02x}",
        "aoe.sector_count": str(count),
        "aoe.ata.cmd": f"0x{command:02x}" if asks else "",
        "aoe.ata.status": "" if asks else f"0x{command:02x}",
        "aoe.lba": f"0x{lba:016x}",
    }


def differences(told: list[Sample], read: list[dict[str, str]]) -> Iterator[str]:
    for number, (sample, line) in enumerate(zip(told, read, strict=True)):
        expected = header_as_shown(sample) | registers_as_shown(sample.message) | {TROUBLE: ""}
        # What answers what is Wireshark's guess from tags; it shows the opcode of the request with a reply.
        if sample.header.flags & 8:
            expected |= {"aoe.ata.cmd": line["aoe.ata.cmd"]}
        yield from (f"frame {number}: {key}" for key in expected if line[key] != expected[key])


def test_tshark_agrees_field_by_field(told: list[Sample], read: list[dict[str, str]]) -> None:
    assert not list(differences(told, read))


def test_tshark_sees_every_field_of_every_kind(read: list[dict[str, str]]) -> None:
    for field in [*HEADER_FIELDS, *ATA_FIELDS]:
        assert len({line[field] for line in read}) > 1 or field in ("eth.type", "aoe.version"), field


def test_the_comparison_finds_a_wrong_bit(told: list[Sample], tmp_path: Path) -> None:
    need("tshark")
    few = told[:40]
    spoilt = [sample.raw[:14] + bytes([sample.raw[14] ^ 0x08]) + sample.raw[15:] for sample in few]
    write_pcap(tmp_path / "spoilt.pcap", spoilt)
    lines = dissect(tmp_path / "spoilt.pcap", [*HEADER_FIELDS, *ATA_FIELDS, TROUBLE])
    assert len([text for text in differences(few, lines) if text.endswith("aoe.response")]) == 40


def body_as_laid_out(message: Message) -> bytes:
    """The bytes after the header, from AoEr11's figures, with no help of aoe.wire."""
    if isinstance(message, AtaRequest | AtaReply):
        aflags, feature, count, command, lba, data = message
        return bytes((aflags, feature, count, command)) + lba.to_bytes(6, "little") + bytes(2) + data
    if isinstance(message, Config):
        numbers = message.buffer_count << 16 | message.firmware
        nibbles = message.version << 4 | message.ccmd
        fixed = numbers.to_bytes(4, "big") + bytes((message.sector_count, nibbles))
        return fixed + len(message.text).to_bytes(2, "big") + message.text
    if isinstance(message, Mask):
        entries = b"".join(bytes((0, dcmd)) + mac for dcmd, mac in message.directives)
        return bytes((0, message.mcmd, message.merror, message.dir_count)) + entries
    return bytes((message.rcmd, len(message.macs))) + b"".join(message.macs)


def test_arguments_the_dissector_leaves_alone_are_laid_out_as_specified(told: list[Sample]) -> None:
    for sample in told:
        body = body_as_laid_out(sample.message)
        assert sample.raw[24:] == body.ljust(36, b"\0")


# scapy.contrib.aoe names its flag bits from the wrong end (their numbers are right, and compared), and
# reads the one-byte counts of mask and reserve as two bytes: only commands 0 and 1 are put before it.


def scapy_reads(message: AtaRequest | AtaReply | Config, packet: Any) -> bool:
    if isinstance(message, Config):
        part = packet.q_conf_info
        counts = (part.buffer_count, part.firmware, part.sector_count, part.aoe, part.config_length)
        expected = (message.buffer_count, message.firmware, message.sector_count, message.version)
        return (*counts, part.ccmd, part.config) == (*expected, len(message.text), message.ccmd, message.text)
    part = packet.i_ata_cmd
    lba = bytes(getattr(part, f"lba{place}") for place in range(6))
    shown = (int(part.flags), part.err_feature, part.sector_count, part.cmd_status)
    data = part.data[: len(message.data)]
    return (*shown, int.from_bytes(lba, "little"), data) == tuple(message)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:scapy", "ignore::SyntaxWarning:scapy")
def test_scapy_agrees(told: list[Sample]) -> None:
    from scapy.contrib.aoe import AOE

    for sample in told[:400]:
        if not isinstance(sample.message, AtaRequest | AtaReply | Config):
            continue
        packet = AOE(sample.raw[14:])
        header = (packet.version, int(packet.flags), packet.error, packet.major, packet.minor, packet.cmd)
        assert header == sample.header[2:8]
        assert packet.tag == sample.header.tag
        assert scapy_reads(sample.message, packet), sample.message
