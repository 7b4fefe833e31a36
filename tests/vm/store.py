"""What systemd does with descriptors, compared with its stand-in."""

from pathlib import Path

from tests.node.store_scenes import HOLDS, SCENES, Scene
from tests.support.labs.guests.debian import DebianGuest
from tests.vm.unit import write

STORING = Path(__file__).parents[1] / "node" / "storing.py"
_UNIT = "storing"
_FILE = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/python3 /root/{STORING.name} /run
StandardInput=file:/run/words
FileDescriptorStoreMax={HOLDS}
Restart=always
RestartSec=0
"""
_ENDS = {
    "kill": f"systemctl kill --kill-whom=main --signal=KILL {_UNIT}",
    "restart": f"systemctl restart {_UNIT}",
    "stop": f"systemctl stop {_UNIT} && systemctl start {_UNIT}",
}


def check_against_the_stand_in(guest: DebianGuest) -> None:
    """Every scene ends here as it does there (tests/node/test_manager.py)."""
    write(guest, f"/run/systemd/system/{_UNIT}.service", _FILE)
    guest.check("mkfifo /run/words && exec 7<>/run/words && systemctl daemon-reload")
    differing = {name: found for name, scene in SCENES.items() if (found := _played(guest, scene))}
    guest.check(f"systemctl stop {_UNIT} && exec 7>&-")
    assert not differing


def _played(guest: DebianGuest, scene: Scene) -> str:
    """What it came to, if that is another thing than it should."""
    guest.check(f"systemctl restart {_UNIT}")
    guest.check(f"systemctl stop {_UNIT} && systemctl start {_UNIT}")
    lines = "\\n".join(scene.words)
    guest.check(f"printf '{lines}\\n' >&7")
    _until(guest, "StatusText", f"did {scene.words[-1]}")
    _until(guest, "NFileDescriptorStore", str(scene.held))
    guest.check(_ENDS[scene.end])
    _until(guest, "StatusText", "given *")
    names = sorted(guest.property(_UNIT, "StatusText").split()[1:])
    return "" if names == sorted(scene.returned) else " ".join(names)


def _until(guest: DebianGuest, name: str, pattern: str) -> None:
    escaped = pattern.replace(" ", "\\ ")
    shown = f"$(systemctl show --property={name} --value {_UNIT})"
    guest.check(f"until case {shown} in {escaped}) ;; *) false ;; esac; do sleep .05; done")
