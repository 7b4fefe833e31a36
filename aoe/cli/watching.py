"""The table of `aoe-target status --watch` (rich)."""

import time
from collections.abc import Callable
from typing import Any

from aoe.cli.status import Look, errors, heard, limits
from aoe.cli.svg import duration
from aoe.cli.trails import BARS, P99, PLAIN, RATE, Trails, sparkline
from aoe.errors import ConfigurationError
from aoe.printable import plain
from aoe.timing import WATCHED_S

try:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise ConfigurationError(
        "status --watch needs rich; install python3-rich, or pip install 'aoe-target[node]'"
    ) from error

_COLOURS = {
    "serving": "green",
    "failed": "bold red",
    "waiting": "yellow",
    "kept": "yellow",
    "draining": "cyan",
}


_WIDE = 120
"""Columns from which on there is room for each client."""
_CELLS, _CELLS_WIDE = 8, 24
"""Of a line of bars."""


def watch(look: Callable[[Look], Look], last: Look, console: Console | None = None) -> int:
    """Show it until Ctrl-C, or until the daemon ends (ControlFailed)."""
    live = Live(console=console, auto_refresh=False, screen=console is None)
    trails = Trails()

    def show(now: Look) -> None:
        trails.saw(now)
        live.update(table(now, trails, live.console), refresh=True)

    try:
        live.start()  # not by `with`, which Ctrl-C in here would leave without its end
        show(last)
        while True:
            time.sleep(WATCHED_S)
            last = look(last)
            show(last)
    finally:
        live.stop()


def table(look: Look, trails: Trails, console: Console) -> RenderableType:
    """One look, with what was seen before it."""
    wide = console.width >= _WIDE
    exports = Table(
        expand=True, title=f"aoe-target, change {look.facts.get('number', 0)}", title_justify="left"
    )
    for name in ("export", "path", "state"):
        exports.add_column(name, overflow="fold")
    for name in ("IOPS", "p99", "MB/s", "queue"):
        exports.add_column(name, justify="right", no_wrap=True)
    exports.add_column(
        "clients (requests, MB read + written, last heard)" if wide else "clients", overflow="fold"
    )
    bars = BARS if "utf" in console.encoding else PLAIN
    for export in look.exports():
        exports.add_row(*_row(export, trails, wide, bars))
    return Group(exports, *_below(look))


def _row(export: dict[str, Any], trails: Trails, wide: bool, bars: str) -> list[Text]:
    state = str(export.get("state", ""))
    reason = f": {export['reason']}" if export.get("reason") else ""
    lines = (state + reason, *limits(export))
    drawn = [_drawn(export, trails, name, wide, bars) for name in (RATE, P99)]
    cells = [*drawn, _rate(export, "bytes_per_s", 1e6, 1), export.get("queue", ""), _clients(export, wide)]
    return [
        Text(plain(str(export.get("address")))),
        Text(plain(str(export.get("path")))),
        Text("\n".join(map(plain, lines)), style=_COLOURS.get(state, "")),
        *(Text(str(it)) for it in cells),
    ]


def _drawn(export: dict[str, Any], trails: Trails, name: str, wide: bool, bars: str) -> str:
    """A value, and how it was before."""
    value = export.get(name)
    line = sparkline(trails.of(str(export.get("address")), name), _CELLS_WIDE if wide else _CELLS, bars)
    if not isinstance(value, int | float):
        return line if line.strip() else ""
    said = duration(value / 1e6) if name == P99 else f"{value:.0f}"
    return f"{said} {line}" if wide else f"{said}\n{line}"


def _clients(export: dict[str, Any], wide: bool) -> str:
    """Each of them, or how many there are."""
    clients = [it for it in export.get("clients") or [] if isinstance(it, dict)]
    if not wide:
        return str(len(clients) or "")
    return "\n".join(plain(_client(it)) for it in clients)


def _client(client: dict[str, Any]) -> str:
    """`02:00:00:00:00:01 (7, 0.1 + 12.0 MB, 0.5 s ago)`, without what a daemon does not say."""
    both = [client.get(name) for name in ("read_bytes", "written_bytes")]
    read, written = (it / 1e6 if isinstance(it, int) else None for it in both)
    moved = "" if read is None or written is None else f"{read:.1f} + {written:.1f} MB"
    said = (str(client.get("requests", 0)), moved, heard(client).removeprefix("heard "))
    return f"{client.get('mac')} ({', '.join(filter(None, said))})"


def _rate(export: dict[str, Any], name: str, unit: float, digits: int) -> str:
    value = export.get(name)
    return f"{value / unit:.{digits}f}" if isinstance(value, int | float) else ""


def _below(look: Look) -> list[Text]:
    lines = [("errors: " + "  ".join(f"{name} {n}" for name, n in errors(look.facts).items()), "red")]
    patches = look.facts.get("patches")
    for patch in patches if isinstance(patches, list) else []:
        lines.append((f"beside the file: {patch.get('sentence')}", "yellow"))
    return [Text(plain(text), style=style) for text, style in lines if text != "errors: "]
