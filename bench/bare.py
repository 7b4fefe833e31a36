"""The least that asyncio can do: receive a read, pread, send. No checks, no order, no clock.

bare.py IF IMAGE
"""

import asyncio
import os
import socket
import sys

import uvloop


async def main(interface: str, image: str) -> None:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    link.bind((interface, 0x88A2))
    mac = link.getsockname()[4]
    fd = os.open(image, os.O_RDONLY)

    def ready() -> None:
        try:
            frame = link.recv(9100)
        except BlockingIOError:
            return
        if frame[14] & 8:
            return
        head = frame[6:12] + mac + frame[12:14] + b"\x18" + frame[15:27] + b"\x40" + frame[28:36]
        if frame[19] == 0:
            lba = int.from_bytes(frame[28:34], "little")
            link.send(head + os.pread(fd, frame[26] * 512, lba * 512))
        else:
            link.send(head.ljust(60, b"\0"))

    asyncio.get_running_loop().add_reader(link, ready)
    await asyncio.Event().wait()


uvloop.run(main(*sys.argv[1:]))
