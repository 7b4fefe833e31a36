"""The configured group of a daemon changes what it may, as processes of other users."""

import grp
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.wire import ata as ata_wire
from aoe.wire import frame
from tests.net.service import Service, export
from tests.pool.pools import fresh
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import READ_EXT, ata_request
from tests.support.tools import need_users
from tests.support.waiting import wait_for

MEMBER = 1234
ASK = """
import json, os, socket, sys
path, uid, gid, line = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([gid])
os.setgid(uid)
os.setuid(uid)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(path)
connection.sendall(line.encode() + b"\\n")
print(connection.makefile().readline().strip())
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users reach. The service's opener may still remove the socket there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        made = Path(name)
        made.chmod(0o755)
        yield made


def ask(service: Service, gid: int, verb: str, **arguments: Any) -> dict[str, Any]:
    """What a process of another user is answered."""
    line = json.dumps({"version": 1, "id": 1, "verb": verb, "arguments": arguments})
    words = [sys.executable, "-c", ASK, str(service.socket), str(MEMBER), str(gid), line]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def serves(service: Service) -> bool:
    """Whether it does again."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        return bool(service.ask("status")["exports"])
    return False


def shown(service: Service) -> tuple[list[str], dict[str, float]]:
    """Patches and limits."""
    status = service.ask("status")
    patches = [it["sentence"].split(" at ")[0] for it in status["patches"]]
    return patches, {
        name: it for name, it in status["exports"][0]["limits"].items() if it and name != "limit-burst"
    }


def test_it_sets_limits_that_are_kept_counted_saved_and_ended(lab: Lab, place: Path) -> None:
    need_users()
    group = next(it for it in grp.getgrall() if it.gr_gid)
    with Service(lab, place, [export(place / "a", "1.1")], control_group=group.gr_name) as service:
        for verb, keys in (("set", {"path": "/dev/null"}), ("add", {"path": "/dev/null"}), ("remove", {})):
            refused = ask(service, group.gr_gid, verb, address="e1.1", keys=keys)
            assert refused["error"]["kind"] == "rights"
        assert ask(service, 4321, "set", address="e1.1", keys={"limit-iops": 10})["error"]["kind"] == "rights"
        done = ask(service, group.gr_gid, "set", address="e1.1", keys={"limit-iops": 10, "limit-burst": 0.05})
        assert done["ok"]["said"] == ["e1.1: change limit-iops to 10, limit-burst to 0.05"]
        patch = [f"set e1.1 limit-iops = 10, limit-burst = 0.05 (by uid {MEMBER}"]
        assert shown(service) == (patch, {"limit-iops": 10})
        _load(lab)
        wait_for(lambda: "limited=" in service.command("status"), 20, "nothing was dropped")
        assert re.search(r"limit-iops 10, .*[0-9]+ requests over limits", service.command("status"))
        service.restart()
        wait_for(lambda: serves(service), 20, "it does not serve")
        assert shown(service) == (patch, {"limit-iops": 10})
        service.reload()
        wait_for(lambda: "aoe-target apply ends it" in service.output, 20, "the signal says nothing")
        assert shown(service) == (patch, {"limit-iops": 10})
        assert f"ends: {patch[0]}" in service.apply("--plan")
        service.command("set", "e1.1", "--save", "--config", service.file)
        assert shown(service) == ([], {"limit-iops": 10})
        assert service.file.read_text().endswith("limit-iops = 10\nlimit-burst = 0.05\n")
        ask(service, group.gr_gid, "set", address="e1.1", keys={"limit-iops": 20})
        service.apply()
        assert shown(service) == ([], {"limit-iops": 10})


def _load(lab: Lab) -> None:
    """More than that."""
    with lab.client(1, 1) as client:
        for lba in range(40):
            client.send(client.request(frame.Command.ATA, ata_wire.encode(ata_request(READ_EXT, lba, 1))))


def test_the_admins_of_a_pool_do_all_with_its_volumes_and_others_look(lab: Lab, place: Path) -> None:
    need_users()
    group = next(it for it in grp.getgrall() if it.gr_gid)
    tables = [
        f'[[pool]]\nname = "{name}"\npath = "{fresh(place)}"\nreserve = 0\n{more}'
        for name, more in (("fast", f'admins = "{group.gr_name}"\n'), ("slow", ""))
    ]
    create = {"verb": "create", "volume": "web1", "size": 1 << 20, "format": "raw"}
    with Service(lab, place, tables, control_readers="all").launch().ready() as service:
        for gid, pool in ((4321, "fast"), (group.gr_gid, "slow"), (group.gr_gid, "none")):
            refused = ask(service, gid, "volume", pool=pool, request=create)
            assert refused["error"]["kind"] == "rights"
        assert ask(service, group.gr_gid, "apply")["error"]["kind"] == "rights"
        done = ask(service, group.gr_gid, "volume", pool="fast", request=create)
        assert done["ok"]["said"][0] == "fast/web1: 1048576 bytes, raw"
        wait_for(lambda: [it["volumes"] for it in status(service)["pools"]] == [1, 0])
        told = ask(service, 4321, "volumes", pool="fast")["ok"]
        assert [(it["volume"], it["bytes"]) for it in told["volumes"]] == [("fast/web1", 1 << 20)]
        assert (told["more"], told["leftovers"]) == (False, [])
        wrong = ask(
            service, group.gr_gid, "volume", pool="fast", request={"verb": "create", "volume": "../a"}
        )
        assert wrong["error"]["kind"] == "usage"
        delete = {"verb": "delete", "volume": "web1"}
        assert ask(service, group.gr_gid, "volume", pool="fast", request=delete)["ok"]["exit"] == 0
        service.write([tables[0].replace("admins", "#admins"), tables[1]])
        service.apply()
        assert ask(service, group.gr_gid, "volume", pool="fast", request=create)["error"]["kind"] == "rights"


def status(service: Service) -> dict[str, Any]:
    """As any user sees it."""
    found: dict[str, Any] = ask(service, 4321, "status")["ok"]
    return found
