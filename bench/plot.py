"""Draws bench/figures.svg and bench/failover.svg from the JSON that pytest-benchmark wrote, and prints the
tables of bench/README.md.

plot.py RESULTS.json DIRECTORY
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aoe.cli.svg import BLUE, GREY, LIGHT, ORANGE, RED, Frame, Panel, Scale, duration, picture

# The limits have one colour.
_COLOURS = {
    "vblade": GREY,
    "aoe-target (c)": BLUE,
    "aoe-target (python)": "#7fb0d8",
    "null target": LIGHT,
    "fio": LIGHT,
    "bare asyncio loop": LIGHT,
}
_KINDS = {"reads": BLUE, "writes": ORANGE}
_WHISKER = "#333333"
_HAPPENS = {
    "link down": "the link to the owner goes down for a second",
    "kill": "the owner is killed",
    "pause": "the owner is paused for two seconds",
}
_LEGEND = {"vblade": "vblade", "aoe-target (c)": "aoe-target", "null target": "limit: null target, fio"}


def rows(results: dict[str, Any], group: str | None = None) -> dict[str, dict[str, Any]]:
    """What each benchmark of a group found, by its name; the figures have no group."""
    found = {}
    for one in results["benchmarks"]:
        if one["group"] == group:
            chosen = one.get("param") or one["name"].partition("[")[2].rstrip("]")
            found[one["name"] if group == "initiator" else chosen or one["name"]] = one["extra_info"]
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: rate and CPU time for each request, and both as ratios to the first named."""
    lines = ["| Work | Target | k requests/s | p50 us | CPU us | rate x | CPU x |", "| --- " * 7 + "|"]
    for name, targets in found.items():
        (first, *_) = targets.values()
        for target, it in targets.items():
            measured = f"{it['iops'] / 1000:.1f} | {it['p50_us']:.0f} | {it['cpu_us']:.2f}"
            ratios = f"{it['iops'] / first['iops']:.2f} | {it['cpu_us'] / first['cpu_us']:.2f}"
            lines.append(f"| {name} | {target} | {measured} | {ratios} |")
    return "\n".join(lines)


def initiator_table(found: dict[str, dict[str, Any]]) -> str:
    """What each client did, and below it what the initiator must reach."""
    lines = ["| Work | Client | k requests/s | p50 us | p99 us | CPU us | sent again |", "| --- " * 7 + "|"]
    for name, row in found.items():
        for client, it in row.get("results", {}).items():
            if "iops" in it:
                measured = f"{it['iops'] / 1000:.1f} | {it['p50_us']:.0f} | {it['p99_us']:.0f}"
                lines.append(f"| {name} | {client} | {measured} | {it['cpu_us']:.2f} | {it['lost']} |")
    lines += ["", "| What | is | must be | |", "| --- " * 4 + "|"]
    for must in (must for row in found.values() for must in row.get("musts", [])):
        verdict = "" if must["kept"] else "falls short"
        lines.append(f"| {must['what']} | {must['is']:.4g} | {must['must']} | {verdict} |")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Rates and CPU time of the rows that vblade takes part in."""
    shown = {name: targets for name, targets in found.items() if "vblade" in targets}
    height = 44 * len(shown)
    down = Scale(0.5 - len(shown), 0.5, given=[(-row, name) for row, name in enumerate(shown)])
    unnamed = down._replace(given=[(0.5, "")])
    rates = Panel(Frame(250, 20, 300, height), _from_zero(shown, _rate, "thousand requests a second"), down)
    costs = Panel(
        Frame(580, 20, 200, height), _from_zero(shown, _cost, "CPU microseconds a request"), unnamed
    )
    for row, targets in enumerate(shown.values()):
        for position, (target, it) in enumerate(targets.items()):
            place, colour = 0.27 * (1 - position) - row, _COLOURS[target]
            rates.box((0, place - 0.125), (_rate(it), place + 0.125), colour, _LEGEND.get(target, ""))
            rates.line([(bound / 1000, place) for bound in it["spread"]], _WHISKER)
            costs.box((0, place - 0.125), (_cost(it), place + 0.125), colour)
    path.write_text(picture(800, height + 70, [rates, costs]))


def _rate(it: dict[str, Any]) -> float:
    return float(it["iops"] / 1000)


def _cost(it: dict[str, Any]) -> float:
    return float(it["cpu_us"])


def _from_zero(shown: dict[str, dict[str, Any]], of: Callable[[dict[str, Any]], float], name: str) -> Scale:
    return Scale(0, 1.5 * max(of(it) for targets in shown.values() for it in targets.values()), name)


def draw_failover(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Reads and writes over time and how long the slowest took, two pictures for each thing that happens to
    the owner."""
    panels = [panel for row, (name, it) in enumerate(found.items()) for panel in _failover(row, name, it)]
    path.write_text(picture(800, 290 * len(found) + 10, panels))


def _failover(row: int, name: str, it: dict[str, Any]) -> Iterator[Panel]:
    steps, top = len(it["reads"]), 290 * row + 30
    across = Scale(0, steps * it["step_s"], "seconds (red: it begins, it is over)")
    rates: dict[str, list[float | None]] = {
        kind: [count / it["step_s"] / 1000 for count in it[kind]] for kind in _KINDS
    }
    slowest = {kind: it.get(f"slowest_{kind}", [None] * steps) for kind in _KINDS}
    highest = 1.5 * max(max(it[kind]) for kind in _KINDS) / it["step_s"] / 1000
    yield _over_time(
        Panel(
            Frame(64, top, 712, 90), across._replace(name=""), Scale(0, highest, "thousand/s"), _HAPPENS[name]
        ),
        it,
        rates,
    )
    up = Scale(1e-4, 10.0, "slowest", log=True, words=duration)
    yield _over_time(Panel(Frame(64, top + 140, 712, 90), across, up), it, slowest)


def _over_time(panel: Panel, it: dict[str, Any], values: dict[str, list[float | None]]) -> Panel:
    for moment_s in (it["begin_s"], it["end_s"]):
        panel.mark(moment_s, RED)
    for kind, colour in _KINDS.items():
        points = ((step * it["step_s"], value) for step, value in enumerate(values[kind]))
        panel.line([None if value is None else (at_s, value) for at_s, value in points], colour, kind)
    return panel


def main() -> None:
    results, directory = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    if found := rows(results):
        draw(found, directory / "figures.svg")
        print(table(found))
    if found := rows(results, "failover"):
        draw_failover(found, directory / "failover.svg")
    if found := rows(results, "initiator"):
        print(initiator_table(found))


if __name__ == "__main__":
    main()
