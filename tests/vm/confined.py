"""What the service can do in its unit: nothing but serve. And what becomes of it without its opener."""

import json
from pathlib import Path

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S
from tests.support.waiting import wait_for
from tests.vm import told
from tests.vm.unit import UNIT, again, drop_in, exposure

TESTS = Path(__file__).parents[1]
FORBIDDEN = (TESTS / "node" / "forbidden.py", TESTS / "support" / "labs" / "ring.py")
"""Files that the guest needs in /root."""
EXPOSURE_MAX = 0.5
"""Of `systemd-analyze security`, 0 to 10."""
OPENER_EXPOSURE_MAX = 3.5
"""It has the rights that the service is without."""
OPENER = "aoe-target-opener.service"
_TRIED = "/var/lib/aoe-target/tried"
_HOME = "/opt"


def check(guest: DebianGuest, count: int) -> None:
    """While it serves so many disks, everything else is refused. What is wrong with this unit is seen. It has
    to be restarted then, as the package has it."""
    assert exposure(guest) <= EXPOSURE_MAX
    assert exposure(guest, OPENER) <= OPENER_EXPOSURE_MAX
    for path in FORBIDDEN:
        place = f"{_HOME}/{path.relative_to(TESTS.parent).parent}"
        guest.check(f"mkdir -p {place} && cp /root/{path.name} {place}")
    (started,) = guest.check(f"grep -h ^ExecStart= /lib/systemd/system/{UNIT}").splitlines()
    words = started.split(maxsplit=1)[1]
    command = f"/usr/bin/python3 -m tests.node.forbidden {_TRIED} unit -- {words}"
    before = guest.pid(UNIT)
    lines = (f"Environment=PYTHONPATH={_HOME}", "ExecStart=", f"ExecStart={command}", told.NO_STORE)
    with drop_in(guest, *lines):
        guest.check(f"systemctl restart {UNIT}")
        again(guest, before, count)
        done = f"test -e {_TRIED}.done"
        wait_for(lambda: guest.run(done).status == 0, PATIENCE_S, lambda: trying(guest), every_s=0.2)
        found = json.loads(guest.check(f"cat {_TRIED}.done && rm {_TRIED}.done"))
        told.check_doctor_of_faults(guest)
    assert len(found) >= 20
    assert {name: it for name, it in found.items() if it} == {}


def trying(guest: DebianGuest) -> str:
    """What it does not come to the end of."""
    return guest.run(f"cat {_TRIED}").output


def check_without_opener(guest: DebianGuest, count: int) -> None:
    """It is killed, and there again when it is needed; what is served is served all the time."""
    before, serving = guest.pid(OPENER), guest.pid(UNIT)
    guest.check(f"kill -KILL {before}")
    guest.check(f"systemctl reload {UNIT}")
    assert guest.pid(OPENER) not in (0, before)
    guest.check(f"systemctl restart {OPENER} && systemctl reload {UNIT}")
    assert guest.pid(UNIT) == serving
    assert guest.property(UNIT, "StatusText").startswith(f"{count} serving;")
