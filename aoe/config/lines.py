"""A text by its lines: each change keeps how lines end, and what is around."""

import re


class Lines:
    """What becomes of a text; places are offsets of characters in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def with_line(self, line: str, behind: int) -> str:
        """With one more line behind that of a place, as far to the right as that one."""
        end = self._end(behind)
        indent = re.match(r"[ \t]*", self._text[self._start(behind) :])
        assert indent, "it may be empty"
        before = self._text[:end]
        return f"{self._ended(before)}{indent[0]}{line}{self._newline}{self._text[end:]}"

    def without_lines(self, first: int, last: int) -> str:
        """Without the lines from one place to another."""
        return self._text[: self._start(first)] + self._text[self._end(last) :]

    def with_block(self, block: str) -> str:
        """With a block of lines at the end, and an empty line before it."""
        before = self._ended(self._text)
        gap = self._newline if before.strip() and not before.endswith(self._newline * 2) else ""
        return before + gap + block.replace("\n", self._newline)

    def without_block(self, first: int, last: int) -> str:
        """Without the lines from one place to another, the comment right above them unless the file begins
        with it, and the empty lines that would be too many."""
        start, end = self._comment_above(self._start(first)), self._end(last)
        rest = self._text[end:]
        if not self._text[:start].strip() or self._text[:start].endswith(self._newline * 2):
            rest = re.sub(r"\A(?:[ \t]*\r?\n)+", "", rest)
        before = self._text[:start]
        return before + rest if rest.strip() else self._ended(before.rstrip()) + rest.lstrip()

    def _comment_above(self, start: int) -> int:
        above = start
        while above and re.match(r"[ \t]*#", self._text[self._start(above - 1) :]):
            above = self._start(above - 1)
        return above or start

    def _ended(self, text: str) -> str:
        return text if not text or text.endswith("\n") else text + self._newline

    def _start(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def _end(self, at: int) -> int:
        return self._text.find("\n", at) + 1 or len(self._text)
