"""The README, and what its shell blocks have to be typed."""

import re
from pathlib import Path

README = (Path(__file__).parents[3] / "README.md").read_text()


def commands(section: str | None = None) -> list[str]:
    """Each line of a section's shell blocks, or of all, without its comment."""
    text = README if section is None else README.split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
