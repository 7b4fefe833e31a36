"""Draws bench/figures.svg from the JSON that pytest-benchmark wrote, and prints the table of the README.

plot.py RESULTS.json FIGURES.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

_COLOURS = {"vblade": "#9a9a9a", "aoe-target (c)": "#1f6fb4", "null target": "#d7d7d7"}


def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each benchmark found, by its name."""
    found = {}
    for one in results["benchmarks"]:
        found[one.get("param") or one["name"].partition("[")[2].rstrip("]") or one["name"]] = one[
            "extra_info"
        ]
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: rate and CPU time for each request, and both as ratios to the first named."""
    lines = ["| Work | Target | k requests/s | p50 us | CPU us | rate x | CPU x |", "| --- " * 7 + "|"]
    for name, targets in found.items():
        (first, *_) = targets.values()
        for target, it in targets.items():
            cpu = f"{it['cpu_us']:.2f}" if "cpu_us" in it else "-"
            ratio = f"{it['cpu_us'] / first['cpu_us']:.2f}" if "cpu_us" in it else "-"
            rate = f"{it['iops'] / 1000:.1f} | {it['p50_us']:.0f} | {cpu} | {it['iops'] / first['iops']:.2f}"
            lines.append(f"| {name} | {target} | {rate} | {ratio} |")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Rates and CPU time of the rows that vblade takes part in."""
    names = [name for name, targets in found.items() if "null target" in targets]
    figure, (rates, costs) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for position, (target, colour) in enumerate(_COLOURS.items()):
        places = [index + 0.27 * (position - 1) for index in range(len(names))]
        results = [found[name][target] for name in names]
        spread = [
            [it["iops"] / 1000 - it["spread"][0] / 1000 for it in results],
            [it["spread"][1] / 1000 - it["iops"] / 1000 for it in results],
        ]
        rates.barh(
            places, [it["iops"] / 1000 for it in results], 0.25, xerr=spread, color=colour, label=target
        )
        costs.barh(places, [it["cpu_us"] for it in results], 0.25, color=colour)
    rates.set_yticks(range(len(names)), names)
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
