"""Draws bench/figures.svg and bench/failover.svg from the JSON that pytest-benchmark wrote, and prints the
tables of the README.

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
_LEGEND = {"vblade": "vblade", "aoe-target (c)": "aoe-target", "null target": "limit: null target, fio"}


def rows(results: dict[str, Any], group: str | None = None) -> dict[str, dict[str, Any]]:
    """What each benchmark of a group found, by its name."""
    found = {}
    for one in results["benchmarks"]:
        if one["group"] == group:
            name = one["name"].partition("[")[2].rstrip("]") if group is None else one["name"]
            found[one.get("param") or name or one["name"]] = one["extra_info"]
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


def main() -> None:
    found = rows(json.loads(Path(sys.argv[1]).read_text()))
    draw(found, Path(sys.argv[2]))
    print(table(found))


if __name__ == "__main__":
    main()
