"""Writes a configuration as a file: `read(dump(config)) == config`."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import fields
from typing import Any

from aoe.config.keys import EXPORT, HEADS, POOL, SCHEDULE, TARGET, Key
from aoe.config.text import key, toml
from aoe.config.values import Config, ExportConfig, PoolConfig, ScheduleConfig, TargetConfig

_KEYS: dict[type, Iterable[Key]] = {
    TargetConfig: TARGET,
    ExportConfig: EXPORT,
    PoolConfig: POOL,
    ScheduleConfig: SCHEDULE,
}
Table = TargetConfig | ExportConfig | PoolConfig | ScheduleConfig


def dump(config: Config) -> str:
    """The text of a file that says the same. Groups and defaults are not in it: what they meant is.

    ConfigurationError for a name that is not UTF-8.
    """
    target = said(config.target)
    blocks = [block("target", target)] if target else []
    blocks += [block("pool", said(pool)) for pool in config.pools]
    blocks += [block("schedule", said(schedule)) for schedule in config.schedules]
    blocks += [block("export", said(export)) for export in config.exports]
    return "\n".join(blocks)


def block(table: str, keys: dict[str, object]) -> str:
    """A table as it stands in a file."""
    return "".join(f"{line}\n" for line in (HEADS[table], *lines(keys)))


def lines(keys: dict[str, object]) -> Iterator[str]:
    """Keys and their values."""
    return (f"{key(name)} = {toml(value)}" for name, value in keys.items())


def said(value: Table, also: Container[str] = ()) -> dict[str, object]:
    """What a table has to say: keys whose fields are not as they are without, and those of the fields in
    `also`, but nothing for what is "not stated"."""
    usual = {field.name: field.default for field in fields(value)}
    keys = _KEYS[type(value)]
    found: dict[str, Any] = {it.name: (it, getattr(value, it.field)) for it in keys}
    return {
        name: it.kind.written(has)
        for name, (it, has) in found.items()
        if has is not None and (has != usual[it.field] or it.field in also)
    }
