"""A disk image that a PC's firmware can boot: it tells on COM1 what it read."""

import random
from pathlib import Path

from aoe.wire.protocol import SECTOR

GREETING = b"boot sector runs\r\n"
FAILURE = b"INT 13h failed\r\n"
SECTORS = 9
"""Sectors that the boot sector loads: an odd number, so that pieces of two do not fit evenly."""
FIRST_LBA = 20_011
IMAGE_BYTES = 16 << 20

_ORIGIN = 0x7C00
_LOADED = 0x8000
_PUT_AT, _PACKET_AT, _GREETING_AT, _FAILURE_AT = 0x50, 0x100, 0x140, 0x180


def write_image(path: Path, seed: int) -> bytes:
    """Make a bootable image; returns the text that its boot sector fetches from far away, and prints."""
    text = far_text(seed)
    with path.open("wb") as image:
        image.truncate(IMAGE_BYTES)
        image.write(boot_sector())
        image.seek(FIRST_LBA * SECTOR)
        image.write(text.ljust(SECTORS * SECTOR, b"\0"))
    return text


def far_text(seed: int) -> bytes:
    """Printable text over all of the sectors loaded, with no two parts alike."""
    letters = random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=SECTORS * SECTOR - 3)
    return bytes(letters) + b"\r\n"


def boot_sector() -> bytes:
    """Print a greeting, load sectors with INT 13h function 42h, print those; then halt."""
    sector = bytearray(SECTOR)
    code = _code()
    assert len(code) <= _PACKET_AT
    sector[: len(code)] = code
    for at, data in ((_PACKET_AT, _address_packet()), (_GREETING_AT, GREETING), (_FAILURE_AT, FAILURE)):
        sector[at : at + len(data)] = data
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def _code() -> bytes:
    """Real-mode machine code, with the subroutine `put` behind it."""
    code = _SETUP
    code += _print(len(code), _ORIGIN + _GREETING_AT)
    code += b"\xb4\x42"  # mov ah, 42h: extended read; the firmware left the drive in dl
    code += b"\xbe" + _word(_ORIGIN + _PACKET_AT)  # mov si, packet
    code += b"\xcd\x13"  # int 13h
    code += b"\x72\x09"  # jc over the next two
    code += _print(len(code), _LOADED) + _HALT
    code += _print(len(code), _ORIGIN + _FAILURE_AT) + _HALT
    assert len(code) <= _PUT_AT
    return code.ljust(_PUT_AT, b"\0") + _PUT


def _print(at: int, text: int) -> bytes:
    """mov si, text; call put -- 6 bytes at offset `at`."""
    return b"\xbe" + _word(text) + b"\xe8" + _word((_PUT_AT - at - 6) & 0xFFFF)


def _address_packet() -> bytes:
    """What to read where: size, sectors, buffer as offset and segment, LBA."""
    return b"\x10\0" + _word(SECTORS) + _word(_LOADED) + _word(0) + FIRST_LBA.to_bytes(8, "little")


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


_SETUP = b"".join(
    (
        b"\xfa",  # cli
        b"\x31\xc0",  # xor ax, ax
        b"\x8e\xd8\x8e\xc0\x8e\xd0",  # mov ds, ax; mov es, ax; mov ss, ax
        b"\xbc" + _word(_ORIGIN),  # mov sp, origin
        b"\xfb\xfc",  # sti; cld
    )
)
_HALT = b"\xf4\xeb\xfd"  # hlt; jmp to it
_PUT = b"".join(  # put: print the NUL-terminated text at si
    (
        b"\x52",  # push dx: the drive
        b"\xac",  # next: lodsb
        b"\x84\xc0",  # test al, al
        b"\x74\x12",  # jz end
        b"\x88\xc4",  # mov ah, al
        b"\xba\xfd\x03",  # mov dx, 3FDh: line status of COM1
        b"\xec",  # wait: in al, dx
        b"\xa8\x20",  # test al, 20h: transmitter empty
        b"\x74\xfb",  # jz wait
        b"\x88\xe0",  # mov al, ah
        b"\xba\xf8\x03",  # mov dx, 3F8h: data of COM1
        b"\xee",  # out dx, al
        b"\xeb\xe9",  # jmp next
        b"\x5a",  # end: pop dx
        b"\xc3",  # ret
    )
)
