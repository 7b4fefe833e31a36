"""Builds the engine where it can be built. Everything else is in pyproject.toml."""

import os
import sys

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildEngine(build_ext):
    """Without a compiler or liburing the package is pure Python; AOE_ENGINE=require makes that an error."""

    def run(self) -> None:
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


setup(
    cffi_modules=["csrc/build.py:ffi"],
    cmdclass={"build_ext": BuildEngine},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # the engine serves every later Python too
)
