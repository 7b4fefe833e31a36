"""What is asked for over HTTP is judged by its first line, and as soon as that can be."""

from random import Random

import pytest

from aoe.limits import METRICS_HEAD_MAX
from aoe.metrics import http

ASKED = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET /metrics HTTP/1.1\n\n",
        b"GET /metrics?name[]=x HTTP/1.1\r\n\r\n",
        ASKED + b"GET /other HTTP/1.1\r\n\r\n",
    ],
)
def test_the_page(request_: bytes) -> None:
    assert http.judged(request_) is http.PAGE


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /../metrics HTTP/1.1\r\n\r\n", 404),
        (b"get /metrics HTTP/1.1\r\n", 400),
        (b"GET /metrics\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n", 400),
        (b"\r\n", 400),
        (b"\x16\x03\x01\x02\n", 400),
        (b"x" * METRICS_HEAD_MAX, 431),
        (ASKED[:-2] + b"A: " + b"b" * METRICS_HEAD_MAX, 431),
        (ASKED[:-2] + b"A: " + b"b" * METRICS_HEAD_MAX + b"\r\n\r\n", 431),
    ],
)
def test_what_does_not_get_it(request_: bytes, status: int) -> None:
    verdict = http.judged(request_)
    assert verdict is not None
    assert verdict.status == status
    head, _, body = http.refusal(verdict).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.count(b"\n") == 1


def test_it_is_waited_for_until_it_is_whole() -> None:
    for end in range(len(ASKED)):
        assert http.judged(ASKED[:end]) is None
        assert http.judged(bytearray(ASKED[:end])) is None


def test_whatever_comes_is_judged_in_the_end() -> None:
    rng = Random(1)
    for _ in range(2000):
        piece = rng.choice([rng.randbytes(20), ASKED[: rng.randrange(len(ASKED))], b"\r\n\r\n", b"GET /"])
        received = piece * (METRICS_HEAD_MAX // max(1, len(piece)) + 1) if piece else b"\n"
        assert http.judged(received) is not None
