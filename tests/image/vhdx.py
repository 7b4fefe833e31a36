"""A vhdx whose writes were interrupted, as by a power cut: its log says what is still to be done."""

import struct
from pathlib import Path

_HEADS = 64 << 10, 128 << 10
_HEAD_BYTES = _ENTRY_BYTES = 4096
_LOG_ID = b"some log's guid."
_LOG_ID_AT, _LOG_AT = 48, 72
_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_ZEROES = struct.Struct("<4sIQQQ")


def interrupt(path: Path, at: int) -> None:
    """Let the log of an image in vhdx say that 4096 bytes of its file become zeroes."""
    with path.open("r+b") as file:
        for head in _HEADS:
            file.seek(head)
            data = bytearray(file.read(_HEAD_BYTES))
            data[_LOG_ID_AT : _LOG_ID_AT + len(_LOG_ID)] = _LOG_ID
            file.seek(head)
            file.write(_signed(data))
        (log,) = struct.unpack_from("<Q", data, _LOG_AT)
        end = file.seek(0, 2)
        entry = _ENTRY.pack(b"loge", 0, _ENTRY_BYTES, 0, 1, 1, 0, _LOG_ID, end, end)
        entry += _ZEROES.pack(b"zero", 0, _ENTRY_BYTES, at, 1)
        file.seek(log)
        file.write(_signed(bytearray(entry.ljust(_ENTRY_BYTES, b"\0"))))


def _signed(data: bytearray) -> bytes:
    """With its CRC32C in the second word."""
    data[4:8] = bytes(4)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    data[4:8] = struct.pack("<I", crc ^ 0xFFFFFFFF)
    return bytes(data)
