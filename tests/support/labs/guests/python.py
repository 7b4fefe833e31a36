"""This Python and what our target imports, for a guest: compiled modules, extensions, their libraries."""

import importlib.util
import json
import py_compile
import subprocess
import sys
import tempfile
from pathlib import Path

import aoe
from tests.support.labs.guests.files import GuestFiles

# The codecs and the event loop are imported at run time only.
_LIST = """
import json, sys, asyncio.selector_events, encodings.ascii, encodings.latin_1, encodings.idna, {modules}
print(json.dumps([sys.path, [m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)]]))
"""


def add_python(files: GuestFiles, *modules: str) -> str:
    """Put the interpreter and these modules, with all that they import, in place.

    Returns the shell command that starts it: an interpreter with its environment, to be given a script.
    """
    listing = subprocess.run(
        [sys.executable, "-c", _LIST.format(modules=", ".join(modules))],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    path, modules_found = json.loads(listing.stdout)
    interpreter = Path(sys.executable).resolve()
    files.copy_program(interpreter)
    for module in map(Path, modules_found):
        if module.suffix == ".py":
            # Without the source, its time stamp is no matter, and an emulated processor compiles slowly.
            files.add(str(module.with_suffix(".pyc")), _compiled(module))
        else:
            files.copy_program(module)
    where = ":".join([str(Path(aoe.__file__).parents[1]), *filter(None, path)])
    return f"env PYTHONHOME={sys.base_prefix} PYTHONPATH={where} {interpreter}"


def _compiled(source: Path) -> bytes:
    cached = Path(importlib.util.cache_from_source(str(source)))
    if cached.exists() and cached.stat().st_mtime >= source.stat().st_mtime:
        return cached.read_bytes()
    with tempfile.NamedTemporaryFile(suffix=".pyc") as made:
        py_compile.compile(str(source), cfile=made.name, doraise=True)
        return Path(made.name).read_bytes()
