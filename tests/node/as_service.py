"""Starts `aoe-target` on a host that knows the user it is to become."""

import pwd
import sys

from aoe.cli.target import main

if __name__ == "__main__":
    _users = {"aoe-target": pwd.getpwuid(65534)}
    if sys.argv[1] == "unknown":
        del sys.argv[1], _users["aoe-target"]
    pwd.getpwnam = _users.__getitem__
    sys.exit(main(sys.argv[1:]))
