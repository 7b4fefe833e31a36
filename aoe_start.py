"""Where the commands begin. Loading them takes a moment, in which Ctrl-C ends them without a word."""

import gc
import importlib
import os
import signal
import sys

_NAMES = {"aoe.cli.client": "aoe", "aoe.cli.target": "aoe-target", "aoe.cli.cloud": "aoe-cloud"}
_INTERRUPTED = 128 + signal.SIGINT


def client() -> int:
    """`aoe`."""
    return _run("aoe.cli.client")


def target() -> int:
    """`aoe-target`. A service that ends leaves at once: clients wait for the next life of it."""
    return _run("aoe.cli.target", at_once=True)


def cloud() -> int:
    """`aoe-cloud`."""
    return _run("aoe.cli.cloud")


def _run(name: str, *, at_once: bool = False) -> int:
    """Until a command has a handler of its own there is nothing that it could leave half-made. Where Ctrl-C
    is ignored, as behind nohup, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    gc.disable()  # until a command is loaded: nothing of that is garbage
    try:
        status: int = importlib.import_module(name).main()
        if at_once:
            importlib.import_module("aoe.cli.ending").leave(status)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except ImportError as error:  # later ones are said by the command
        print(
            f"{_NAMES[name]}: a part of this program is missing: {error}; install it again", file=sys.stderr
        )
        status = 1
    return status


def _leave(*_: object) -> None:
    os._exit(_INTERRUPTED)
