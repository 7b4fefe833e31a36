"""Targets start at memory speed here, too."""

from tests.serve.conftest import at_once

__all__ = ["at_once"]
