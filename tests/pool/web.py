"""A web server with one file, and with the faults of web servers."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Web:
    """What it serves, and how. `cut` ends an answer after so many bytes, `stall` then waits instead."""

    def __init__(self) -> None:
        self.data = b""
        self.tag = '"one"'
        self.headers: dict[str, str] = {}
        self.cut: int | None = None
        self.stall = False
        self.status: int | None = None
        self.location: str | None = None
        self.asked: list[dict[str, str]] = []
        self.over = threading.Event()
        self.scheme = "http"
        self.port = 0

    def url(self, name: str = "disk.img") -> str:
        """Of its file, which has every name."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        web = self.web
        web.asked.append(dict(self.headers.items()))
        if web.location is not None:
            self._begin(302, {"Location": web.location, "Content-Length": "0"})
        elif web.status is not None:
            self._begin(web.status, {"Content-Length": "0"})
        else:
            self._file(web, self._start(web))

    def _start(self, web: Web) -> int | None:
        found = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", ""))
        return int(found[1]) if found and self.headers.get("If-Range") == web.tag else None

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _file(self, web: Web, start: int | None) -> None:
        size = len(web.data)
        if start is not None and start >= size:
            self._begin(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        body = web.data[start or 0 :]
        headers = {"Content-Length": str(len(body)), "ETag": web.tag, **web.headers}
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._begin(200 if start is None else 206, {name: it for name, it in headers.items() if it})
        self.wfile.write(body[: web.cut])
        if web.stall:
            self.wfile.flush()
            web.over.wait(60)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Web]:
    """It serves until the end of the block, and no proxy of this machine is asked for it. With a certificate,
    and its key in the same file, it speaks TLS."""
    web = Web()
    handler = type("Handler", (_Handler,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        web.port = server.server_port
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            web.scheme = "https"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            web.over.set()
            server.shutdown()
            thread.join()
