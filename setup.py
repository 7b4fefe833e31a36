"""Builds the engine and the NBD plugin where they can be built. Everything else is in pyproject.toml."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # a build's front end has no modules of this directory
from csrc.flags import COMPILER, FLAGS, TOGETHER

PLUGIN = "aoe/nbd/aoe_nbd_plugin.so"
DOOR = "aoe/nbd/aoe-door"
PLUGIN_FLAGS = [
    *("-shared", "-fPIC"),
    "-Wl,-z,nodelete",  # a thread that a lost server keeps may outlast nbdkit's use of the plugin
]


def sources(*rooms: str) -> list[str]:
    """What is compiled of some rooms."""
    return [str(path) for room in rooms for path in sorted(Path("csrc", room).glob("*.c"))]


class BuildEngine(build_ext):
    """Without a compiler or liburing the package is pure Python; AOE_ENGINE=require makes that an error, and
    AOE_NBD=require one that the NBD plugin cannot be built."""

    def run(self) -> None:
        self._build(PLUGIN, *PLUGIN_FLAGS, *sources("shared", "initiator", "nbd"))
        self._build(DOOR, *sources("door"))
        try:
            super().run()
        except Exception as error:
            advice = (
                "the engine needs a C compiler and liburing: apt-get install gcc python3-dev liburing-dev"
            )
            if os.environ.get("AOE_ENGINE") == "require":
                raise SystemExit(f"aoe-target: {advice}") from error
            print(f"aoe-target: installing without the compiled engine ({error}); {advice}", file=sys.stderr)
            self.extensions = []

    def _build(self, name: str, *words: str) -> None:
        version = f'-DAOE_VERSION="{self.distribution.get_version()}"'
        output = Path("." if self.inplace else self.build_lib, name)
        output.parent.mkdir(parents=True, exist_ok=True)
        flags = shlex.split(" ".join(os.environ.get(name, "") for name in ("CPPFLAGS", "CFLAGS", "LDFLAGS")))
        ours = (*FLAGS, "-Icsrc", *TOGETHER, version)
        command = [*shlex.split(COMPILER), *flags, *ours, *words, "-o", str(output)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            advice = "`aoe nbd` needs a C compiler and nbdkit's header: apt-get install gcc nbdkit-plugin-dev"
            if os.environ.get("AOE_NBD") == "require":
                raise SystemExit(f"aoe-target: {advice}\n{getattr(error, 'stderr', '')}") from error
            print(f"aoe-target: installing without the NBD plugin; {advice}", file=sys.stderr)


setup(
    cffi_modules=["csrc/build.py:ffi"],
    cmdclass={"build_ext": BuildEngine},
    data_files=[
        ("share/man/man1", ["man/aoe.1", "man/aoe-cloud.1"]),
        ("share/man/man5", ["man/aoe-target.toml.5"]),
        ("share/man/man8", ["man/aoe-door.8", "man/aoe-target.8"]),
        ("share/doc/aoe-target", ["examples/aoe-target.toml"]),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # the engine serves every later Python too
)
