"""What a key or table that does not exist may have been meant for. Only a wrong file needs it."""

from collections.abc import Iterator

from aoe.config.keys import HEADS, TABLES, as_key
from aoe.config.kinds import nearest
from aoe.config.text import key


def no_table(name: str, value: object) -> tuple[str, str]:
    """What is wrong with a name at the top of a file, and the remedy."""
    homes = [*_homes(name)]
    if not isinstance(value, dict | list) or homes:
        return f"{key(name)} is outside of a table", f"; {_elsewhere(name, '') or _no_home()}"
    near = nearest(name.lower(), HEADS)
    return f"there is no table {key(name)}", f"; is {HEADS[near]} meant?" if near else f"; {_no_home()}"


def no_key(name: str, table: str) -> tuple[str, str]:
    """What is wrong with a key of a table, and the remedy."""
    return f"{key(name)} is no key of {HEADS[table]}", f"; {_elsewhere(name, table) or _all(table)}"


def _elsewhere(name: str, table: str) -> str:
    """Where a key belongs, or which key is meant; empty where nothing is like it."""
    if homes := [*_homes(name)]:
        return f"put it into {' or '.join(homes)}"
    plain = name.lower().replace("_", "-").lstrip("-")
    written = plain if any(_homes(plain)) else as_key(f"--{plain}")
    if written:
        homes = [*_homes(written.split(" = ")[0])]
        return f"write {written}" + ("" if HEADS.get(table) in homes else f" in {' or '.join(homes)}")
    own = nearest(plain, TABLES.get(table, ()))
    if own:
        return f"is {own} meant?"
    near = nearest(plain, [name for keys in TABLES.values() for name in keys])
    return f"is {near} meant, in {' or '.join(_homes(near))}?" if near else ""


def _homes(name: str) -> Iterator[str]:
    return (HEADS[table] for table, keys in TABLES.items() if name in keys)


def _all(table: str) -> str:
    return f"its keys are {', '.join(TABLES[table])}"


def _no_home() -> str:
    return f"a file has {', '.join(HEADS.values())}"
