"""A door that a test can see through: it serves as nbdkit does until the transmission phase, and no further.

Its word is a directory, with the disk's `size`, and what it `says`, a byte at a time. There it tells its
process id. Where it `refuses`, it ends then."""

import os
import socket
import struct
import sys
from pathlib import Path


def answer(kind: int, data: bytes) -> bytes:
    return struct.pack(">QLLL", 0x3E889045565A9, 7, kind, len(data)) + data


def main(place: Path) -> None:
    says = place / "says"
    for byte in says.read_bytes() if says.exists() else b"":
        os.write(2, bytes([byte]))
    (place / "pid.new").write_text(str(os.getpid()))
    (place / "pid.new").rename(place / "pid")
    if (place / "refuses").exists():
        sys.exit(1)
    listener = socket.socket(fileno=3)
    while True:
        client, _ = listener.accept()
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        client.recv(26)
        size = int((place / "size").read_text())
        client.sendall(answer(3, struct.pack(">HQH", 0, size, 1)) + answer(1, b""))
        while client.recv(4096):
            pass


main(Path(sys.argv[1]))
