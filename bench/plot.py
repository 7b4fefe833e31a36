"""Draws bench/figures.svg and bench/failover.svg from the JSON that pytest-benchmark wrote, and prints the
tables of bench/README.md.

plot.py RESULTS.json DIRECTORY
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

# The limits have one colour.
_COLOURS = {
    "vblade": "#9a9a9a",
    "aoe-target (c)": "#1f6fb4",
    "aoe-target (python)": "#7fb0d8",
    "null target": "#d7d7d7",
    "fio": "#d7d7d7",
    "bare asyncio loop": "#d7d7d7",
}
_KINDS = {"reads": "#1f6fb4", "writes": "#d98a1f"}
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
    figure, (rates, costs) = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
    for row, targets in enumerate(shown.values()):
        for position, (target, it) in enumerate(targets.items()):
            place, colour = row + 0.27 * (position - 1), _COLOURS[target]
            spread = [[it["iops"] - it["spread"][0]], [it["spread"][1] - it["iops"]]]
            whiskers = [[value / 1000 for value in side] for side in spread]
            label = _LEGEND.get(target) if row == 0 else None
            rates.barh(place, it["iops"] / 1000, 0.25, xerr=whiskers, color=colour, label=label)
            costs.barh(place, it["cpu_us"], 0.25, color=colour)
    rates.set_yticks(range(len(shown)), list(shown))
    rates.invert_yaxis()
    rates.set_xlabel("thousand requests a second (more is better)")
    costs.set_xlabel("CPU microseconds a request (less is better)")
    rates.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)


def draw_failover(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Reads and writes over time, one picture for each thing that happens to the owner."""
    figure, places = plt.subplots(len(found), 1, figsize=(8, 1.9 * len(found)), sharex=True, squeeze=False)
    for place, (name, it) in zip(places[:, 0], found.items(), strict=True):
        at_s = [step * it["step_s"] for step in range(len(it["reads"]))]
        for kind, colour in _KINDS.items():
            rates = [round(count / it["step_s"] / 1000, 2) for count in it[kind]]
            place.plot(at_s, rates, color=colour, linewidth=1, label=kind)
        for moment_s in (it["begin_s"], it["end_s"]):
            place.axvline(moment_s, color="#c03030", linewidth=1, linestyle=":")
        place.set_title(_HAPPENS[name], fontsize="small", loc="left")
        place.set_ylim(bottom=0)
        place.set_ylabel("thousand/s")
    places[0, 0].legend(fontsize="small", loc="lower right")
    places[-1, 0].set_xlabel("seconds (red: it begins, it is over)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    results, directory = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    mpl.rcParams["svg.fonttype"] = "none"
    if found := rows(results):
        draw(found, directory / "figures.svg")
        print(table(found))
    if found := rows(results, "failover"):
        draw_failover(found, directory / "failover.svg")
    if found := rows(results, "initiator"):
        print(initiator_table(found))


if __name__ == "__main__":
    main()
