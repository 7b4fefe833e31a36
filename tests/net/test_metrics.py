"""A real Prometheus asks a daemon that is under load and confined, and its rules fire."""

import json
import re
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.net.service import Service, export
from tests.support.labs.building import ROOT
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import Vblade, image
from tests.support.tools import need
from tests.support.waiting import wait_for

METRICS, PROMETHEUS = ("127.0.0.1", 9882), ("127.0.0.1", 9090)
ADDRESS = "127.0.0.1:9882"
MTU = 9000
ENGINES = ("c",)
OFTEN = "500ms"
PATIENCE_S = 60.0
DEPTH = 64
EXAMPLES = ROOT / "examples" / "prometheus"


def got(lab: Lab, place: tuple[str, int], path: str) -> tuple[int, bytes]:
    """Status and body of what a server on the target's host says; 0 where it is refused or not there."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    def ask() -> bytes:
        with suppress(ConnectionError), socket.create_connection(place, timeout=PATIENCE_S) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
        return b""

    head, _, body = in_namespace(lab.namespace("target"), ask).partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def metrics(lab: Lab) -> dict[str, dict[str, float]]:
    """Of each name, the values by the last of their labels."""
    status, body = got(lab, METRICS, "/metrics")
    assert status == 200
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name != "export"]
            key = f"{sample.labels.get('export', '')}/{'/'.join(labels)}"
            found.setdefault(sample.name, {})[key] = sample.value
    return found


def asked(lab: Lab, path: str) -> Any:
    """What Prometheus says; None as long as it is not there."""
    status, body = got(lab, PROMETHEUS, f"/api/v1/{path}")
    return json.loads(body)["data"] if status == 200 else None


def query(lab: Lab, expression: str) -> list[float]:
    data = asked(lab, "query?" + urllib.parse.urlencode({"query": expression}))
    return [float(it["value"][1]) for it in data["result"]] if data else []


def firing(lab: Lab) -> dict[str, set[str]]:
    """The exports of each alert that fires, or what else it is about."""
    data = asked(lab, "alerts") or {"alerts": []}
    found: dict[str, set[str]] = {}
    for alert in data["alerts"]:
        if alert["state"] == "firing":
            labels = alert["labels"]
            found.setdefault(labels["alertname"], set()).add(labels.get("export", ""))
    return found


@contextmanager
def prometheus(lab: Lab, work: Path) -> Iterator[None]:
    """With the rules of the package, but at once."""
    need("prometheus")
    rules = re.sub(r"(?m)^ +for: .*\n", "", (EXAMPLES / "rules.yml").read_text())
    (work / "rules.yml").write_text(re.sub(r"\[\d+m\]", "[10s]", rules))
    text = (EXAMPLES / "prometheus.yml").read_text()
    text = text.replace("/usr/share/doc/aoe-target/examples/prometheus/rules.yml", str(work / "rules.yml"))
    often = f"global: {{scrape_interval: {OFTEN}, evaluation_interval: {OFTEN}, scrape_timeout: {OFTEN}}}\n"
    (work / "prometheus.yml").write_text(
        often.replace(f"scrape_timeout: {OFTEN}", "scrape_timeout: 200ms") + text
    )
    words = (
        f"--config.file={work / 'prometheus.yml'}",
        f"--storage.tsdb.path={work / 'tsdb'}",
        "--web.listen-address={}:{}".format(*PROMETHEUS),
        "--log.level=error",
    )
    with (work / "prometheus.log").open("wb") as log:
        process = lab.popen("target", "prometheus", *words, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def test_prometheus_sees_the_load_and_calls_for_what_is_wrong(
    engine: str, load: Path, lab: Lab, tmp_path: Path
) -> None:
    need("vblade")
    exports = [export(tmp_path / "a", "1.1"), export(tmp_path / "b", "1.2")]
    absent = f'[[export]]\npath = "{tmp_path}/absent"\nshelf = 1\nslot = 3\n'
    settings = {"metrics": ADDRESS, "metrics_clients": True}
    with Service(lab, tmp_path, [*exports, absent], **settings), prometheus(lab, tmp_path):
        wait_for(lambda: query(lab, 'up{job="aoe-target"}') == [1.0], PATIENCE_S, "nothing asks")
        words = ("v0", "1", "1", "--rw", "randread", "--sectors", "8", "--range", "2048", "--seconds", "5")
        generator = lab.popen(
            "client", load, *words, "--depth", str(DEPTH), stdout=subprocess.PIPE, text=True
        )
        rate = 'max_over_time(rate(aoe_export_requests_total{export="e1.1",kind="reads"}[10s])[2m:1s])'
        wait_for(lambda: any(it > 100 for it in query(lab, rate)), PATIENCE_S, "no load is seen")
        said = json.loads(generator.communicate(timeout=PATIENCE_S)[0])
        answered = said["answered"]
        found = metrics(lab)
        reads = found["aoe_export_requests_total"]["e1.1/reads"]
        assert answered <= reads <= answered + DEPTH + said["lost"]
        assert found["aoe_export_reply_seconds_count"]["e1.1/"] == reads
        assert found["aoe_export_requests_total"]["e1.2/reads"] == 0
        clients = found["aoe_client_requests_total"]
        assert clients[f"e1.1/{lab.cables[0].b.mac.hex(':')}"] >= reads
        wait_for(lambda: query(lab, f'aoe_export_requests_total{{export="e1.1",kind="reads"}} == {reads}'))
        wait_for(lambda: firing(lab).get("AoeExportWaiting") == {"e1.3"}, PATIENCE_S, "it is not called for")
        assert set(firing(lab)) <= {"AoeExportWaiting", "AoeStoreNearlyFull"}, "nothing else is wrong"
        foreign = Vblade(lab, image(tmp_path / "foreign"), slot=2, side="client")
        with foreign.launch():
            wait_for(lambda: firing(lab).get("AoeForeignServer") == {"e1.2"}, PATIENCE_S, "nor this")


def test_what_is_no_question_is_refused(engine: str, lab: Lab, tmp_path: Path) -> None:
    """Also by a process that may not open a socket any more."""
    rng = Random(1)
    badly = [b"", rng.randbytes(3000) + b"\n", b"GET /metrics HTTP/1.1\r\n"]

    def ask_badly() -> list[socket.socket]:
        kept = [socket.create_connection(METRICS, timeout=PATIENCE_S) for _ in range(40)]
        for connection in kept:
            with suppress(OSError):  # it may be refused before that
                connection.sendall(rng.choice(badly))
        return kept

    with Service(lab, tmp_path, [export(tmp_path / "a", "1.1")], metrics=ADDRESS) as service:
        for connection in in_namespace(lab.namespace("target"), ask_badly):
            wait_for(lambda: got(lab, METRICS, "/metrics")[0] == 200, PATIENCE_S, "others are kept out")
            connection.close()
        assert got(lab, METRICS, "/other")[0] == 404
        assert metrics(lab)["aoe_build_info"]
        assert service.alive
