"""How cffi compiles the engine: csrc/engine.h is the border, the other files what is behind it."""

import os
import re
from pathlib import Path

from cffi import FFI

from csrc.flags import FLAGS, TOGETHER

HERE = Path(__file__).parent
ROOMS = ("shared", "target", "initiator")
SOURCES = sorted(path for room in ROOMS for path in (HERE / room).glob("*.c"))
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
    extra_compile_args=[*FLAGS, *TOGETHER],
    extra_link_args=["-O2", *TOGETHER],
    py_limited_api=True,
)
