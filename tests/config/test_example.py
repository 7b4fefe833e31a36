"""The example that is installed is right, whole, and has every key."""

import re
from pathlib import Path

from aoe.config.keys import DEFAULTS, EXPORT, POOL, SCHEDULE, TARGET
from aoe.config.read import read

TEXT = (Path(__file__).parents[2] / "examples" / "aoe-target.toml").read_text()


def said(table: str, text: str) -> set[str]:
    """The keys that stand under a table's head."""
    parts = re.split(r"^\[+(\w+)\]+$", text, flags=re.MULTILINE)
    bodies = [body for name, body in zip(parts[1::2], parts[2::2], strict=True) if name == table]
    return set(re.findall(r"^([a-z-]+) = ", "\n".join(bodies), re.MULTILINE))


def test_it_is_right() -> None:
    first, second, third = read(TEXT, "f.toml").exports
    assert first.mask is None
    assert second.mask is not None
    assert len(second.mask) == 3
    assert third.place == "/dev/disk/by-label/templates"


def test_it_has_every_key_and_each_is_right_as_shown() -> None:
    whole = re.sub("^#(?=[a-z])", "", TEXT, flags=re.MULTILINE)
    assert said("target", whole) == {key.name for key in TARGET}
    whole = whole.replace("#[[pool]]", "[[pool]]").replace("#[[export]]", "[[export]]")
    whole = whole.replace("#[[schedule]]", "[[schedule]]")
    assert said("schedule", whole) == {key.name for key in SCHEDULE}
    assert said("pool", whole) == {key.name for key in POOL}
    assert said("defaults", whole) == {key.name for key in DEFAULTS}
    assert said("export", whole) | said("defaults", whole) == {key.name for key in EXPORT}
    read(whole.replace("threads = 1\n", ""), "f.toml")
