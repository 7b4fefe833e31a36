"""Names in messages: nothing that a terminal obeys, or a reader of lines takes for another one, gets out."""

import pytest

from aoe.printable import lines, one_line, plain

NASTY = "a\x1b[2J\rb\x07\x9bc\u202ed\udcff\x00"
SHOWN = r"a\u001b[2J\u000db\u0007\u009bc\u202ed\udcff\u0000"


def test_every_control_character_is_shown() -> None:
    assert plain(NASTY) == SHOWN
    assert all(plain(chr(it)).isprintable() for it in range(0x3000))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x0b", "\x85", "\u2028"])
def test_a_message_is_one_line(end: str) -> None:
    assert one_line(f"/a{end}b: \x1bgone") == r"/a b: \u001bgone"


def test_several_lines_keep_their_ends_and_tabs() -> None:
    assert lines(f"{NASTY}\tx\ny") == f"{SHOWN}\tx\ny"
