"""A service with a thousand exports: its start, its memory, its sleep, what its metrics cost, and one export
more."""

import os
import time
from contextlib import suppress
from pathlib import Path

from aoe.limits import PACE_BURST
from tests.net.service import Service, export
from tests.net.test_metrics import ADDRESS, METRICS, got
from tests.support.labs.network import Lab
from tests.support.waiting import ran_s, wait_for

ENGINES = ("c",)
"""It has one thread more to wake up than the Python path."""
EXPORTS = [(1 + number // 250, number % 250) for number in range(1000)]
START_CPU_S, RESIDENT_KIB = 4.0, 150 << 10
"""Alone on a machine it is under 2 s."""
IDLE_S = 10
ADVERTS = 2
"""Rounds of advertisements in that time, in the first two minutes; later there is one a minute."""
SCRAPE_CPU_S, SCRAPES = 0.1, 7
"""Alone it is under 0.05 s. The first makes what all later ones use again."""
APPLY_S = 1.0
"""On a machine that does other things too; alone it takes less than a tenth of that."""


def test_a_thousand_exports(lab: Lab, tmp_path: Path) -> None:
    exports = [export(tmp_path / f"{a}.{b}", f"{a}.{b}") for a, b in EXPORTS]
    more, another = export(tmp_path / "more", "9.9"), export(tmp_path / "another", "9.8")
    with Service(lab, tmp_path, exports, metrics=ADDRESS) as service:
        print(f"start: {cpu_s(service.pid):.2f} s of CPU, {resident_kib(service.pid)} KiB")
        assert cpu_s(service.pid) < START_CPU_S
        assert resident_kib(service.pid) < RESIDENT_KIB
        took_s = []
        for wanted in ([*exports, more], exports, [*exports, another]):
            service.write(wanted)
            began = time.monotonic()
            assert service.ask("apply")["exit"] == 0
            took_s.append(time.monotonic() - began)
        print(f"apply: {min(took_s):.3f} s")
        assert min(took_s) < APPLY_S, took_s
        scraped_s = [scrape_s(service) for _ in range(SCRAPES)]
        print(f"scrape: {min(scraped_s):.4f} s of CPU")
        assert min(scraped_s) < SCRAPE_CPU_S, scraped_s
        wait_for(lambda: wakes(service.pid, 1) < 5, what="the service goes to sleep")
        woken = wakes(service.pid, IDLE_S)
        print(f"idle: {woken} in {IDLE_S} s")
        assert woken <= IDLE_S + ADVERTS * (len(EXPORTS) // PACE_BURST + 1)


def scrape_s(service: Service) -> float:
    """What one costs its threads, of CPU, for the numbers of all exports."""
    before_s = ran_s(service.pid)
    status, body = got(service.lab, METRICS, "/metrics")
    assert status == 200
    assert body.count(b"aoe_export_info{") == len(EXPORTS) + 1
    return ran_s(service.pid) - before_s


def cpu_s(pid: int) -> float:
    """Used since its start."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    """At most, so far."""
    return field(Path(f"/proc/{pid}/status"), "VmHWM")


def wakes(pid: int, seconds: float) -> int:
    """How often its threads went to sleep in that time; those that end meanwhile do nothing any more."""
    before = slept(pid)
    time.sleep(seconds)
    after = slept(pid)
    return sum(after[thread] - before.get(thread, 0) for thread in after)


def slept(pid: int) -> dict[str, int]:
    """How often each of its threads has gone to sleep."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found[thread.name] = field(thread / "status", "voluntary_ctxt_switches")
    return found


def field(status: Path, name: str) -> int:
    """A number of proc(5)."""
    (line,) = (it for it in status.read_text().splitlines() if it.startswith(name))
    return int(line.split()[1])
