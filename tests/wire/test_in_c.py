"""csrc/shared/wire.h says what aoe/wire says of the same bytes, and writes the same ones."""

import ctypes
import subprocess
from ctypes import c_char_p, c_uint8, c_uint32, c_uint64, create_string_buffer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import ata, config, frame
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Header
from aoe.wire.protocol import ATA_HEADER
from tests.support.tools import need
from tests.wire.settings import byte, mac, steady, u16, u32, u48

CSRC = Path(__file__).parent.parent.parent / "csrc"

FIELDS = {
    "is_aoe": "wire_is_aoe(raw, 36)",
    "is_reply": "wire_is_reply(raw)",
    "is_error": "wire_is_error(raw)",
    "version": "wire_version(raw)",
    "error": "wire_of(raw)->error",
    "shelf": "wire_shelf(raw)",
    "slot": "wire_of(raw)->slot",
    "address": "wire_address(raw)",
    "command": "wire_of(raw)->command",
    "tag": "wire_tag(raw)",
    "aflags": "wire_of(raw)->ata.flags",
    "feature": "wire_of(raw)->ata.feature",
    "count": "wire_of(raw)->ata.count",
    "opcode": "wire_of(raw)->ata.opcode",
    "failed": "wire_failed(raw)",
    "lba": "wire_lba(raw)",
    "stream": "wire_big16(wire_of(raw)->ata.stream)",
    "buffers": "wire_big16(wire_of(raw)->config.buffers)",
    "firmware": "wire_big16(wire_of(raw)->config.firmware)",
    "sectors": "wire_of(raw)->config.sectors",
    "vercmd": "wire_of(raw)->config.vercmd",
    "text": "wire_big16(wire_of(raw)->config.length)",
    "dst": "wire_little(wire_of(raw)->dst, 6)",
    "src": "wire_little(wire_of(raw)->src, 6)",
    "to_all": "same_mac(wire_of(raw)->dst, wire_all())",
    "from_group": "wire_is_group(wire_of(raw)->src)",
    "range_lba": "wire_little(wire_ranges(raw)[1].lba, LBA_BYTES)",
    "range_count": "wire_little(wire_ranges(raw)[1].count, 2)",
}
WRITERS = """
void put_header(uint8_t *raw, const uint8_t *dst, const uint8_t *src, uint32_t shelf, uint32_t slot,
                uint32_t command, uint32_t tag)
{
    wire_put_header(raw, dst, src, shelf, slot, command, tag);
}
void put_lba(uint8_t *raw, uint64_t lba) { wire_put_little(wire_at(raw)->ata.lba, LBA_BYTES, lba); }
"""


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    need("gcc")
    source = tmp_path_factory.mktemp("wire") / "fields.c"
    readers = [f"uint64_t {name}(const uint8_t *raw) {{ return {how}; }}\n" for name, how in FIELDS.items()]
    source.write_text('#include "shared/wire.h"\n' + "".join(readers) + WRITERS)
    library = source.with_suffix(".so")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{CSRC}"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in FIELDS:
        getattr(loaded, name).restype = c_uint64
        getattr(loaded, name).argtypes = [c_char_p]
    return loaded


def expected(raw: bytes) -> dict[str, int]:
    """What aoe/wire reads."""
    header, asked, said = frame.decode(raw), ata.decode_request(raw), config.decode(raw[:28] + bytes(4))
    assert isinstance(header, Header)
    assert isinstance(asked, ata.AtaRequest)
    assert isinstance(said, config.Config)
    second = int.from_bytes(raw[ATA_HEADER + 8 : ATA_HEADER + 16], "little")
    return {
        "is_aoe": 1,
        "is_reply": int(bool(header.flags & FLAG_RESPONSE)),
        "is_error": int(bool(header.flags & FLAG_ERROR)),
        "version": header.version,
        "error": header.error,
        "shelf": header.shelf,
        "slot": header.slot,
        "address": header.shelf << 8 | header.slot,
        "command": header.command,
        "tag": header.tag,
        "aflags": asked.aflags,
        "feature": asked.feature,
        "count": asked.sector_count,
        "opcode": asked.command,
        "lba": asked.lba,
        "buffers": said.buffer_count,
        "firmware": said.firmware,
        "dst": int.from_bytes(header.dst, "little"),
        "src": int.from_bytes(header.src, "little"),
        "to_all": int(header.dst == frame.BROADCAST),
        "from_group": int(frame.is_group(header.src)),
        "range_lba": second & 0xFFFFFFFFFFFF,
        "range_count": second >> 48,
    }


frames = st.builds(
    lambda dst, src, rest: dst + src + bytes.fromhex("88a2") + rest,
    mac | st.just(frame.BROADCAST),
    mac,
    st.binary(min_size=64, max_size=64),
)


@steady
@given(frames)
def test_what_is_read(in_c: ctypes.CDLL, raw: bytes) -> None:
    """Bytes may be zero: a pointer into a buffer, not a string of C."""
    buffer = create_string_buffer(raw, len(raw))
    found = {name: getattr(in_c, name)(buffer) for name in expected(raw)}
    assert found == expected(raw)


@steady
@given(frames, u16, byte, byte, byte)
def test_a_config_reply(
    in_c: ctypes.CDLL, raw: bytes, text: int, sectors: int, ccmd: int, buffers: int
) -> None:
    body = config.encode(config.reply(ccmd & 0xF, bytes(text % 1024), buffers, 3, sectors))
    buffer = create_string_buffer(raw[:24] + body, 1100)
    assert in_c.sectors(buffer) == sectors
    assert in_c.vercmd(buffer) == 0x10 | ccmd & 0xF
    assert in_c.text(buffer) == text % 1024


@pytest.mark.parametrize("status", range(256))
def test_which_status_is_a_failure(in_c: ctypes.CDLL, status: int) -> None:
    reply = frame.encode(
        Header(b"a" * 6, b"b" * 6, 1, 8, 0, 1, 2, 0, 3), ata.encode(ata.AtaReply(0, 0, 0, status, 0))
    )
    assert bool(in_c.failed(create_string_buffer(reply))) == bool(status & 0xA9)


@pytest.mark.parametrize("ethertype", ["88a3", "a288", "0800", "0000"])
def test_other_types_are_not_ours(in_c: ctypes.CDLL, ethertype: str) -> None:
    raw = bytes(12) + bytes.fromhex(ethertype) + bytes(50)
    assert not in_c.is_aoe(create_string_buffer(raw))


@steady
@given(mac, mac, u16, byte, byte, u32, u48)
def test_what_is_written(
    in_c: ctypes.CDLL, dst: bytes, src: bytes, shelf: int, slot: int, command: int, tag: int, lba: int
) -> None:
    buffer = create_string_buffer(b"\xa5" * 60, 60)
    in_c.put_header(buffer, dst, src, c_uint32(shelf), c_uint32(slot), c_uint32(command), c_uint32(tag))
    assert buffer.raw[:24] == frame.encode(Header(dst, src, 1, 0, 0, shelf, slot, command, tag))[:24]
    in_c.put_lba(buffer, c_uint64(lba))
    asked = ata.decode_request(buffer.raw)
    assert isinstance(asked, ata.AtaRequest)
    assert asked.lba == lba
    assert buffer.raw[34:] == b"\xa5" * 26


@pytest.mark.parametrize("stream", [0, 1, 0x1234, 0xFFFF])
def test_the_stream_of_a_request(in_c: ctypes.CDLL, stream: int) -> None:
    raw = bytes(34) + stream.to_bytes(2, "big") + (c_uint8 * 24)()
    assert in_c.stream(create_string_buffer(bytes(raw))) == stream
