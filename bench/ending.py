"""How a benchmark ends that `timeout` ends, or a service manager."""

import signal
import sys

STATUS = 128 + signal.SIGTERM


def undo_at_sigterm() -> None:
    """Take down what was set up (network namespaces, processes, files), as at the end. Only the first signal
    counts: `timeout` sends two."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(STATUS)
