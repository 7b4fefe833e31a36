"""Bytes <-> frozen values. No I/O, exact lengths, zero padding (AoEr11)."""
