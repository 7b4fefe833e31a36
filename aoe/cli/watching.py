"""The table of `aoe-target status --watch` (rich)."""

import time
from collections.abc import Callable
from typing import Any

from aoe.cli.status import Look, errors, heard, limits
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


def watch(look: Callable[[Look], Look], last: Look, console: Console | None = None) -> int:
    """Show it until Ctrl-C, or until the daemon ends (ControlFailed)."""
    live = Live(table(last), console=console, auto_refresh=False, screen=console is None)
    try:
        live.start(refresh=True)  # not by `with`, which Ctrl-C in here would leave without its end
        while True:
            time.sleep(WATCHED_S)
            last = look(last)
            live.update(table(last), refresh=True)
    finally:
        live.stop()


def table(look: Look) -> RenderableType:
    """One look."""
    exports = Table(
        expand=True, title=f"aoe-target, change {look.facts.get('number', 0)}", title_justify="left"
    )
    for name in ("export", "path", "state"):
        exports.add_column(name, overflow="fold")
    for name in ("IOPS", "MB/s", "queue"):
        exports.add_column(name, justify="right", no_wrap=True)
    exports.add_column("clients (requests, last heard)", overflow="fold")
    for export in look.exports():
        exports.add_row(*_row(export))
    return Group(exports, *_below(look))


def _row(export: dict[str, Any]) -> list[Text]:
    state = str(export.get("state", ""))
    reason = f": {export['reason']}" if export.get("reason") else ""
    clients = [it for it in export.get("clients") or [] if isinstance(it, dict)]
    said = "\n".join(plain(f"{it.get('mac')} ({it.get('requests', 0)}, {heard(it)})") for it in clients)
    rates = [_rate(export, "requests_per_s", 1, 0), _rate(export, "bytes_per_s", 1e6, 1)]
    cells = [export.get("address"), export.get("path"), None, *rates, export.get("queue", ""), None]
    row = [Text(plain(str(it))) for it in cells]
    lines = map(plain, (state + reason, *limits(export)))
    row[2] = Text("\n".join(lines), style=_COLOURS.get(state, ""))
    row[-1] = Text(said)
    return row


def _rate(export: dict[str, Any], name: str, unit: float, digits: int) -> str:
    value = export.get(name)
    return f"{value / unit:.{digits}f}" if isinstance(value, int | float) else ""


def _below(look: Look) -> list[Text]:
    lines = [("errors: " + "  ".join(f"{name} {n}" for name, n in errors(look.facts).items()), "red")]
    patches = look.facts.get("patches")
    for patch in patches if isinstance(patches, list) else []:
        lines.append((f"beside the file: {patch.get('sentence')}", "yellow"))
    return [Text(plain(text), style=style) for text, style in lines if text != "errors: "]
