"""`aoe-target status`: how a running target is, in words, as JSON, or as a table."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.asking import ask, connected
from aoe.cli.report import Report
from aoe.cli.svg import duration
from aoe.config.text import in_units
from aoe.control.hand import Hand
from aoe.limits import LATENCY_BUCKETS
from aoe.metrics.quantile import quantile_ns
from aoe.metrics.table import WORK
from aoe.node.steps import BANDWIDTHS
from aoe.printable import plain
from aoe.timing import CONTROL_SAMPLE_S, WATCHED_S

Facts = Mapping[str, Any]


class Status(NamedTuple):
    """What is served, to which hosts, and how fast; with `watch` again each second until Ctrl-C."""

    socket: Path | None
    json: bool
    watch: bool

    def run(self, report: Report) -> int:
        """Look twice: how fast it is is the difference."""
        with connected(self.socket, report) as hand:
            before = Look.at(hand)
            if self.watch:
                return _watch(hand, before, report)
            time.sleep(CONTROL_SAMPLE_S)
            _say(report, Look.at(hand, before))
            return 0


class Look(NamedTuple):
    """What a daemon said, when (monotonic, seconds), and the look before it."""

    facts: Facts
    at_s: float
    before: "Look | None" = None

    @classmethod
    def at(cls, hand: Hand, before: "Look | None" = None) -> "Look":
        """Now."""
        facts = ask(hand, "status")
        return cls(facts, time.monotonic(), before._replace(before=None) if before else None)

    def exports(self) -> list[dict[str, Any]]:
        """Each with its rates, `requests_per_s` and `bytes_per_s`, and with `reply_p99_us`: 99 of 100 replies
        took no more microseconds."""
        return [{**it, **self._rates(it)} for it in _dicts(self.facts.get("exports"))]

    def _rates(self, export: Facts) -> dict[str, float]:
        """None for one that was not there before, or began anew meanwhile."""
        if self.before is None:
            return {}
        passed_s = self.at_s - self.before.at_s
        was = {it.get("address"): it for it in _dicts(self.before.facts.get("exports"))}
        last = was.get(export.get("address"), {})
        found = {}
        for name, keys in (
            ("requests_per_s", ("reads", "writes", "flushes", "trims")),
            ("bytes_per_s", ("read_bytes", "written_bytes")),
        ):
            more = sum(_number(export, key) - _number(last, key) for key in keys)
            if last and more >= 0 and passed_s > 0:
                found[name] = round(more / passed_s, 1)
        p99_ns = _p99_ns(_numbers(export, "reply"), _numbers(last, "reply"))
        return found if p99_ns is None else {**found, "reply_p99_us": round(p99_ns / 1000, 1)}


def _p99_ns(now: list[int], before: list[int]) -> float | None:
    """Of what was answered meanwhile."""
    if not len(now) == len(before) == LATENCY_BUCKETS + 1:
        return None
    more = [after - was for after, was in zip(now[:-1], before[:-1], strict=True)]
    return quantile_ns(more, 0.99) if min(more) >= 0 else None


def _numbers(facts: Facts, key: str) -> list[int]:
    value = facts.get(key)
    return [it for it in value if isinstance(it, int)] if isinstance(value, list | tuple) else []


def _number(facts: Facts, key: str) -> int:
    value = facts.get(key, 0)
    return value if isinstance(value, int) else 0


def _dicts(them: object) -> list[dict[str, Any]]:
    return [it for it in them if isinstance(it, dict)] if isinstance(them, list) else []


def _dict(it: object) -> dict[str, Any]:
    return it if isinstance(it, dict) else {}


def _say(report: Report, look: Look) -> None:
    facts = {**look.facts, "exports": look.exports()}
    report.say("\n".join(sentences(look)), **facts)


# In words


def sentences(look: Look) -> Iterator[str]:
    """Lines, none of which has a control character, whatever names are in them."""
    facts, exports = look.facts, look.exports()
    release = f", release {facts['release']}" if "release" in facts else ""
    logs = facts.get("log_level", "info")
    yield plain(f"change {facts.get('number', 0)}: {len(exports)} exports, logs {logs}{release}")
    for export in exports:
        yield plain(_export(export))
        yield from (plain(f"  {_client(it)}") for it in _dicts(export.get("clients")))
        if cutting := export.get("cutting"):
            yield plain(f"  cutting @{cutting}: {100 * float(export.get('cut') or 0):.0f} %")
        if counted := wrong(export):
            yield plain(f"  failed or dropped: {counted}")
        yield from (plain(f"  stays: {mac} {why}") for mac, why in _dict(export.get("stays")).items())
    for interface in _dicts(facts.get("interfaces")):
        state = "up" if interface.get("up") else "down or not there"
        yield plain(f"interface {interface.get('name')}: {state}")
    for pool in _dicts(facts.get("pools")):
        yield plain(f"pool {_pool(pool)}")
    if said := errors(facts):
        yield plain("errors: " + " ".join(f"{name}={n}" for name, n in said.items()))
    for patch in _dicts(facts.get("patches")):
        yield plain(f"beside the file: {patch.get('sentence')}")


def _pool(pool: Facts) -> str:
    """How full it is, or why it is not used."""
    from aoe.cli.pools import sentence  # noqa: PLC0415 - only where there are some

    return (
        f"{pool.get('name')}: {pool['problem']}"
        if pool.get("problem")
        else sentence(str(pool.get("name")), pool)
    )


def _export(export: Facts) -> str:
    state = " ".join(
        str(it) for it in (export.get("state"), export.get("reason") and f"({export['reason']})") if it
    )
    parts = [f"{export.get('path')}", state, speed(export)]
    if export.get("reserve"):
        parts.append(f"reserved for {', '.join(map(str, export['reserve']))}")
    if export.get("mask"):
        parts.append(f"mask {', '.join(map(str, export['mask']))}")
    parts += limits(export)
    return f"{export.get('address')}: " + ", ".join(part for part in parts if part)


def limits(export: Facts) -> Iterator[str]:
    """Those that there are, as the file has them; and what was dropped for them."""
    found = export.get("limits")
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(value, int | float) and value:
            yield f"{name} {in_units(value) if name in BANDWIDTHS and isinstance(value, int) else value}"
    counted = export.get("counted")
    over = counted.get("limited") if isinstance(counted, dict) else 0
    if isinstance(over, int) and over:
        yield f"{over} requests over limits"


def speed(export: Facts) -> str:
    """How fast it is, where that is known."""
    if "requests_per_s" not in export:
        return ""
    mib = export.get("bytes_per_s", 0.0) / 1e6
    p99_us = export.get("reply_p99_us")
    p99 = f", p99 {duration(p99_us / 1e6)}" if isinstance(p99_us, int | float) else ""
    return f"{export['requests_per_s']:.0f} IOPS{p99}, {mib:.1f} MB/s, queue {_number(export, 'queue')}"


def _client(client: Facts) -> str:
    again = _number(client, "repeated")
    parts = [f"{_number(client, 'requests')} requests", moved(client), again and f"{again} repeated"]
    return f"{client.get('mac')}: " + ", ".join(str(it) for it in (*parts, heard(client)) if it)


def moved(client: Facts) -> str:
    """How much it asked to read and to write, where that is known."""
    if "read_bytes" not in client:
        return ""
    read, written = (_number(client, name) / 1e6 for name in ("read_bytes", "written_bytes"))
    return f"{read:.1f} MB read, {written:.1f} MB written"


def wrong(export: Facts) -> str:
    """Of an export, its errors and what was dropped, by name."""
    return " ".join(f"{name}={n}" for name, n in _dict(export.get("counted")).items())


def heard(client: Facts) -> str:
    """How long ago it was heard."""
    ago_us = client.get("heard_us")
    return f"heard {ago_us / 1e6:.1f} s ago" if isinstance(ago_us, int) else "not heard yet"


def errors(facts: Facts) -> dict[str, int]:
    """What was counted that is no work done, by reason, without what never happened."""
    counted = facts.get("counters")
    them = counted.items() if isinstance(counted, dict) else ()
    return {str(name): n for name, n in them if n and name not in WORK and isinstance(n, int)}


# Again and again


def _watch(hand: Hand, before: Look, report: Report) -> int:
    """Until Ctrl-C, which gives a terminal back as it was."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _shown(hand, before, report)
    except KeyboardInterrupt:
        return 0


def _shown(hand: Hand, before: Look, report: Report) -> int:
    if report.as_json or not sys.stdout.isatty():
        return _repeat(hand, before, report)
    from aoe.cli.watching import watch  # noqa: PLC0415 - loads rich

    return watch(lambda last: Look.at(hand, last), before)


def _repeat(hand: Hand, before: Look, report: Report) -> int:
    while True:
        time.sleep(WATCHED_S)
        before = Look.at(hand, before)
        _say(report, before)
