"""Names and messages that a terminal prints, and does not obey, whatever is in them."""


def visible(character: str) -> str:
    """As it is, where it can be seen; else its number, as TOML and Python escape it."""
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"


def plain(text: str) -> str:
    """A name for a message: as it is, where that is one line."""
    return text if text.isprintable() else "".join(map(visible, text))


def one_line(text: str) -> str:
    """A message, whatever is in the names that it quotes."""
    return plain(" ".join(text.splitlines()))


def lines(text: str) -> str:
    """What may be several lines, with tabs in them, and nothing else that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(it if it in "\n\t" else visible(it) for it in text)
