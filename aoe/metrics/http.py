"""As much of HTTP/1.1 (RFC 9112) as one page needs: what a request asks for, and the head of an answer."""

import re
from typing import NamedTuple

from aoe.limits import METRICS_HEAD_MAX

PATH = "/metrics"

_REQUEST = re.compile(rb"([A-Z]{1,16}) (\S+) HTTP/1\.[0-9]")
_END = re.compile(rb"\r?\n\r?\n")


class Verdict(NamedTuple):
    """How a request is answered: with the page where `status` is 200, else with `said`, one line."""

    status: int
    reason: str
    said: str = ""
    more: str = ""
    """Header fields."""


PAGE = Verdict(200, "OK")
TOO_LONG = Verdict(431, "Request Header Fields Too Large", f"a request has up to {METRICS_HEAD_MAX} bytes")
TOO_SLOW = Verdict(408, "Request Timeout", "the request did not come to its end in time")
TOO_MANY = Verdict(503, "Service Unavailable", "too many connections are open", "Retry-After: 1\r\n")
_NO_HTTP = Verdict(400, "Bad Request", f"ask with: GET {PATH} HTTP/1.1")
_NO_GET = Verdict(405, "Method Not Allowed", f"only GET {PATH} is answered", "Allow: GET\r\n")
_NO_PAGE = Verdict(404, "Not Found", f"the page is {PATH}")


def judged(so_far: bytes | bytearray) -> Verdict | None:
    """What has come so far: None until a request is whole, of which nothing but its first line matters."""
    line, ended, _ = bytes(so_far).partition(b"\n")
    if len(line) >= METRICS_HEAD_MAX:
        return TOO_LONG
    asked = _REQUEST.fullmatch(line.rstrip(b"\r"))
    if ended and asked is None:
        return _NO_HTTP
    end = _END.search(so_far)
    if end is None or asked is None:
        return TOO_LONG if len(so_far) >= METRICS_HEAD_MAX else None
    return TOO_LONG if end.start() > METRICS_HEAD_MAX else _about(*asked.groups())


def _about(method: bytes, target: bytes) -> Verdict:
    if target.partition(b"?")[0] != PATH.encode():
        return _NO_PAGE
    return PAGE if method == b"GET" else _NO_GET


def head(verdict: Verdict, content_type: str, length: int) -> bytes:
    """Of an answer with a body of so many bytes, after which the connection ends."""
    return (
        f"HTTP/1.1 {verdict.status} {verdict.reason}\r\n{verdict.more}Content-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


def refusal(verdict: Verdict) -> bytes:
    """The whole answer to a request that does not get the page."""
    body = verdict.said.encode() + b"\n"
    return head(verdict, "text/plain; charset=utf-8", len(body)) + body
