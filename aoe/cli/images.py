"""`aoe-target images`: has the images of a target served, as a service itself."""

import os
import socket
from importlib import metadata
from typing import NamedTuple

import aoe
from aoe.cli.report import Report
from aoe.errors import ConfigurationError
from aoe.image import carried, serving
from aoe.image.service import Service
from aoe.image.user import reader
from aoe.node.notify import given


class Images(NamedTuple):
    """The words behind `images`."""

    def run(self, report: Report) -> int:
        """Until nothing is served and no opener asks. ConfigurationError where no manager started it."""
        del report
        release = aoe.__version__
        found = carried.found() or carried.Found(_given(), None)
        listener = socket.socket(fileno=found.listener)
        them = serving.Images(reader())
        Service(listener, them, release, lambda: metadata.version("aoe-target"), found.facts).run()
        return 0


def _given() -> int:
    found = given(os.environ)
    if len(found) != 1:
        raise ConfigurationError("its socket starts it: systemctl start aoe-target-images.socket")
    return found[0][1]
