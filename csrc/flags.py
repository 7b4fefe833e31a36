"""How everything here is compiled: the engine (`build.py`), and the NBD plugin (setup.py at the top)."""

import os
import sysconfig

COMPILER = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
FLAGS = [
    *("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-pthread"),
    "-UNDEBUG",  # Python's own flags would switch the asserts off
]
TOGETHER = ["-fvisibility=hidden", *([] if "clang" in COMPILER else ["-flto=auto"])]
"""What is called from one file to another is made as if it were in one: a tenth of a request's time. A linker
may not know what clang leaves for that."""
