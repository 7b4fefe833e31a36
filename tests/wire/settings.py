"""Settings of the generated tests: the same examples in every run."""

from hypothesis import settings
from hypothesis import strategies as st

steady = settings(derandomize=True, max_examples=150, database=None)

byte = st.integers(0, 0xFF)
nibble = st.integers(0, 0xF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u48 = st.integers(0, 0xFFFFFFFFFFFF)
mac = st.binary(min_size=6, max_size=6)

HEADER_HEX = "ffffffffffff 020000000001 88a2 10 00 ffff ff 01 00000000"
"""The first 24 bytes of the Linux driver's discovery query, to put before a body."""


def framed(body: str | bytes) -> bytes:
    """A frame of exactly these body bytes: no padding."""
    return bytes.fromhex(HEADER_HEX) + (bytes.fromhex(body) if isinstance(body, str) else body)
