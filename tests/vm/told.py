"""What a service in its unit tells an administrator: numbers, the journal, and what `doctor` finds."""

import json

from tests.support.labs.guests.debian import DebianGuest
from tests.support.labs.guests.machine import PATIENCE_S
from tests.support.waiting import wait_for
from tests.vm.unit import UNIT, metrics, succeeds, write

METRICS = "aoe-target-metrics.socket"
_OPENER = "aoe-target-opener.socket"
_STATE = "/var/lib/aoe-target"
_CHANGED = f"/run/systemd/system/{UNIT}.d/later.conf"
NO_STORE = "FileDescriptorStoreMax=0"
"""A fault for a drop-in."""
_FAULTS = {
    "unit-store": f"systemctl edit {UNIT}: FileDescriptorStoreMax=4096",
    "unit-disabled": f"systemctl enable {UNIT}",
    "unit-changed": "systemctl daemon-reload",
    "opener": f"systemctl start {_OPENER}",
    "state-dir": f"chown -R UID {_STATE}",
}
"""What is planted, by what it is called, with its remedy."""


def check_metrics(guest: DebianGuest) -> None:
    """They are asked of a service that is confined, on a socket that came with it."""
    assert 'aoe_export_state{export="e1.0",state="serving"} 1' in metrics(guest).output
    assert guest.property(METRICS, "ActiveState") == "active"


def check_metrics_stopped(guest: DebianGuest) -> None:
    """Who asks is refused at once, and starts nothing."""
    asked = metrics(guest)
    assert asked.status
    assert "Connection refused" in asked.output
    found = {unit: guest.property(unit, "ActiveState") for unit in (UNIT, METRICS)}
    assert found == {UNIT: "inactive", METRICS: "inactive"}


def check_journal(guest: DebianGuest, address: str) -> None:
    """Export and peer are fields of a message of them."""
    fields = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,AOE_EXPORT,AOE_PEER"
    how = f"--boot --unit={UNIT} --output=json --output-fields={fields} --no-pager"
    contacts = f"journalctl {how} AOE_EXPORT={address} | grep contact"
    succeeds(guest, contacts)
    said = json.loads(guest.check(contacts).splitlines()[0])
    assert (said["PRIORITY"], said["SYSLOG_IDENTIFIER"]) == ("6", "aoe-target")
    assert said["MESSAGE"] == f"{address}: first contact of {said['AOE_PEER']} on eth0"


def check_doctor(guest: DebianGuest) -> None:
    """It finds nothing on a good host."""
    finds(guest, {})


def check_doctor_of_faults(guest: DebianGuest) -> None:
    """Each is found and named, and nothing else is; its remedy is done. `NO_STORE` is there already."""
    uid = guest.check("id -u aoe-target").strip()
    guest.check(f"systemctl disable {UNIT} && systemctl stop {_OPENER} && chown root {_STATE}")
    write(guest, _CHANGED, "[Unit]\n")
    remedies = {name: it.replace("UID", uid) for name, it in _FAULTS.items()}
    finds(guest, remedies)
    guest.check(" && ".join(it for name, it in remedies.items() if name != "unit-store"))


def finds(guest: DebianGuest, faults: dict[str, str]) -> None:
    """These it finds wrong, and no others. It looks at each thing for some seconds only, which an emulated
    processor may take longer for: so it may look again."""
    said: list[object] = []

    def found() -> bool:
        said.append(doctor(guest))
        return said[-1] == sorted(faults.items())

    wait_for(found, PATIENCE_S, lambda: f"{said} instead of {faults}")


def doctor(guest: DebianGuest) -> list[tuple[str, str]]:
    """What it finds wrong, with the remedy; its status says whether that is anything. That frames were too
    old is no fault of the guest's: this machine may stand still for so long."""
    done = guest.run("aoe-target doctor --json")
    found = [json.loads(line) for line in done.output.splitlines()]
    faults = [it for it in found if it.get("severity") in ("error", "warning")]
    assert (done.status, found[-1]["faults"]) == (bool(faults), len(faults)), done.output
    return sorted((it["id"], it["remedy"]) for it in faults if it["id"] != "frames-dropped")
