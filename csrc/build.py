"""How cffi compiles the engine: csrc/engine.h is the border, the other files what is behind it."""

import os
import re
import sysconfig
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOMS = ("shared", "target", "initiator")
SOURCES = sorted(path for room in ROOMS for path in (HERE / room).glob("*.c"))
COMPILER = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
TOGETHER = ["-fvisibility=hidden", *([] if "clang" in COMPILER else ["-flto=auto"])]
"""What is called from one file to another is made as if it were in one: a tenth of a request's time. A linker
may not know what clang leaves for that."""
DECLARATION = re.compile(r"^(?:enum|typedef struct) \{.*?^\}[^;]*;$", re.MULTILINE | re.DOTALL)

ffi = FFI()
ffi.cdef("\n".join(DECLARATION.findall((HERE / "shared" / "generated.h").read_text())))
ffi.cdef((HERE / "engine.h").read_text())
ffi.set_source(
    "aoe.engine._engine",
    '#include "abi.h"',
    sources=[os.path.relpath(path, HERE.parent) for path in SOURCES],
    include_dirs=[os.path.relpath(HERE, HERE.parent)],
    libraries=["uring"],
    extra_compile_args=[
        *("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-pthread"),
        "-UNDEBUG",  # Python's own flags would switch the asserts off
        *TOGETHER,
    ],
    extra_link_args=["-O2", *TOGETHER],
    py_limited_api=True,
)
