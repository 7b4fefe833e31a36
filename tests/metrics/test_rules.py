"""The alert rules and the dashboard that come with the package: promtool tries each rule on series for which
it is to fire and on ones for which it is not, and nothing is named that we do not tell."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aoe.metrics.about import ABOUT
from aoe.metrics.table import EXPORT, TARGET, Type
from aoe.metrics.text import OF_CLIENT, OF_EXPORT, OF_LINK, OF_TARGET, OF_THREAD
from aoe.node.status import ExportStatus
from tests.support.labs.building import ROOT
from tests.support.tools import need

EXAMPLES = ROOT / "examples" / "prometheus"
RULES = EXAMPLES / "rules.yml"
NAME = re.compile(r"\b(?:aoe|process)_\w+")
JOB = 'job="aoe-target",instance="a"'
BAD = f'{JOB},export="e1.0"'
WELL = f'{JOB},export="e1.1"'
INFO = {f'aoe_export_info{{{of},path="/p"}}': "1x120" for of in (BAD, WELL)}

QUIET = {
    f"up{{{JOB}}}": "1x120",
    f'aoe_export_state{{{WELL},state="serving"}}': "1x120",
    f'aoe_export_errors_total{{{WELL},reason="address_claimed"}}': "3x120",
    f'aoe_export_errors_total{{{WELL},reason="disk_errors"}}': "5x120",
    f'aoe_export_errors_total{{{WELL},reason="refused_ata"}}': "0+99x120",
    f'aoe_export_dropped_total{{{WELL},reason="expired"}}': "0+30x120",
    f'aoe_export_dropped_total{{{WELL},reason="masked"}}': "0+9000x120",
    f'aoe_export_dropped_total{{{WELL},reason="limited"}}': "0+9000x120",
    f'aoe_target_dropped_total{{{JOB},reason="other_host"}}': "0+9000x120",
    f'aoe_export_disk_seconds_bucket{{{WELL},le="0.033554432"}}': "0+600x120",
    f'aoe_export_disk_seconds_bucket{{{WELL},le="+Inf"}}': "0+600x120",
    f"aoe_export_filesystem_free_bytes{{{WELL}}}": "6x120",
    f"aoe_export_filesystem_size_bytes{{{WELL}}}": "100x120",
    f'aoe_pool_free_bytes{{{JOB},pool="slow"}}': "10x120",
    f'aoe_pool_reserve_bytes{{{JOB},pool="slow"}}': "10x120",
    f'aoe_pool_free_bytes{{{JOB},pool="promised"}}': "500x120",
    f'aoe_pool_growth_bytes{{{JOB},pool="promised"}}': "9000x120",
    f'aoe_pool_free_bytes{{{JOB},pool="taken"}}': "500-1x120",
    f'aoe_pool_growth_bytes{{{JOB},pool="taken"}}': "300x120",
    f'aoe_link_up{{{JOB},link="eth0"}}': "1x120",
    **INFO,
}
"""Of a target that is well, or is asked for what it does not give."""

# What is wrong, by alert: the series that tell so, and when it is not yet, and is, to fire.
WRONG: dict[str, tuple[dict[str, str], str, str]] = {
    "AoeTargetDown": ({'up{job="aoe-target",instance="b"}': "1x9 0x110"}, "10m", "12m"),
    "AoeForeignServer": (
        {f'aoe_export_errors_total{{{BAD},reason="address_claimed"}}': "0x9 1x110"},
        *("9m", "10m"),
    ),
    "AoeDiskFailed": ({f'aoe_export_state{{{BAD},state="failed"}}': "_x9 1x110"}, "8m", "10m"),
    "AoeDiskErrors": (
        {f'aoe_export_errors_total{{{BAD},reason="disk_errors"}}': "0x9 1x110"},
        *("9m", "10m"),
    ),
    "AoeRequestsDropped": (
        {f'aoe_export_dropped_total{{{BAD},reason="queue_full"}}': "0x9 0+600x110"},
        *("11m", "25m"),
    ),
    "AoeDiskSlow": (
        {
            f'aoe_export_disk_seconds_bucket{{{BAD},le="0.033554432"}}': "0+590x120",
            f'aoe_export_disk_seconds_bucket{{{BAD},le="0.134217728"}}': "0+590x120",
            f'aoe_export_disk_seconds_bucket{{{BAD},le="0.536870912"}}': "0+600x120",
            f'aoe_export_disk_seconds_bucket{{{BAD},le="+Inf"}}': "0+600x120",
        },
        *("3m", "12m"),
    ),
    "AoeStoreNearlyFull": (
        {
            f"aoe_export_filesystem_free_bytes{{{BAD}}}": "6x9 4x110",
            f"aoe_export_filesystem_size_bytes{{{BAD}}}": "100x120",
        },
        *("12m", "16m"),
    ),
    "AoePoolNearlyFull": (
        {
            f'aoe_pool_free_bytes{{{JOB},pool="fast"}}': "11x9 9x110",
            f'aoe_pool_reserve_bytes{{{JOB},pool="fast"}}': "10x120",
        },
        *("12m", "16m"),
    ),
    "AoePoolFilling": (
        {
            f'aoe_pool_free_bytes{{{JOB},pool="fast"}}': "500-1x120",
            f'aoe_pool_growth_bytes{{{JOB},pool="fast"}}': "600-1x120",
        },
        *("60m", "62m"),
    ),
    "AoeExportWaiting": ({f'aoe_export_state{{{BAD},state="waiting"}}': "1x120"}, "8m", "11m"),
    "AoeExportDrained": ({f'aoe_export_state{{{BAD},state="draining"}}': "1x120"}, "50m", "61m"),
    "AoeInterfaceDown": ({f'aoe_link_up{{{JOB},link="eth1"}}': "1x9 0x110"}, "10m", "12m"),
}


def promtool(*words: str | Path, text: str = "") -> str:
    need("promtool")
    done = subprocess.run(
        ["promtool", *map(str, words)], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[str]:
    return re.findall(r"alert: (\w+)", RULES.read_text())


def alert_test(series: dict[str, str], expressions: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """Which alerts fire, by time: of each, their exports or links."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"}) > 0',
                "eval_time": at,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": len(them)} for name, them in names.items()
                ],
            }
            for at, names in expressions.items()
        ],
    }


def checked(work: Path, *tests: dict[str, Any]) -> None:
    file = work / "test.yml"  # JSON is YAML
    whole = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(json.dumps(whole))
    promtool("test", "rules", file)


def test_rules_and_configuration_are_understood() -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in promtool("check", "rules", RULES)


def test_the_configuration_names_the_rules(tmp_path: Path) -> None:
    text = (EXAMPLES / "prometheus.yml").read_text()
    there = "/usr/share/doc/aoe-target/examples/prometheus/rules.yml"
    assert there in text
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace(there, str(RULES)))
    promtool("check", "config", file)


def test_nothing_fires_where_nothing_is_wrong(tmp_path: Path) -> None:
    checked(tmp_path, alert_test(QUIET, {f"{minute}m": {} for minute in (1, 5, 20, 60, 110)}))


def test_each_alert_has_a_case() -> None:
    assert set(alerts()) == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_it_fires_when_it_is_to(name: str, tmp_path: Path) -> None:
    series, before, after = WRONG[name]
    checked(tmp_path, alert_test(QUIET | series, {before: {}, after: {name: ["it"]}}))


def words_test(
    name: str, series: dict[str, str], labels: dict[str, str], *words: str, at: str = "20m"
) -> dict[str, Any]:
    """What an alert says at a time: its summary and description."""
    said = dict(zip(("summary", "description"), words, strict=True))
    alert = {"exp_labels": {"job": "aoe-target", "instance": "a", **labels}, "exp_annotations": said}
    tested = {"eval_time": at, "alertname": name, "exp_alerts": [alert]}
    return {**alert_test(QUIET | series, {}), "alert_rule_test": [tested]}


def test_what_the_ring_drops_is_told_without_an_export(tmp_path: Path) -> None:
    series = {f'aoe_target_dropped_total{{{JOB},reason="ring_full"}}': "0+600x120"}
    labels = {"reason": "ring_full", "severity": "warning"}
    words = (
        "a drops 10 requests a second (ring_full)",
        "man aoe-target, COUNTERS, has what ring_full means.",
    )
    checked(tmp_path, words_test("AoeRequestsDropped", series, labels, *words))


def test_a_disk_that_failed_is_told_by_its_path(tmp_path: Path) -> None:
    series = {f'aoe_export_state{{{BAD},state="failed"}}': "1x120"}
    labels = {"export": "e1.0", "path": "/p", "state": "failed", "severity": "critical"}
    remedy = "aoe-target status says why. Look at the disk, then aoe-target reopen e1.0."
    checked(tmp_path, words_test("AoeDiskFailed", series, labels, "e1.0 of a has failed (/p)", remedy))


def test_a_pool_that_fills_is_told_with_what_is_free_what_snapshots_hold_and_the_remedy(
    tmp_path: Path,
) -> None:
    gib = 1 << 30
    fast, kept = f'{{{JOB},pool="fast"}}', f'aoe_pool_snapshot_bytes{{{JOB},pool="fast"}}'
    others = {f'aoe_pool_snapshot_bytes{{{JOB},pool="slow"}}': f"{7 * gib}x120"}
    series = {
        f"aoe_pool_free_bytes{fast}": f"{200 * gib}-{gib}x120",
        f"aoe_pool_growth_bytes{fast}": f"{900 * gib}x120",
        f"aoe_pool_reserve_bytes{fast}": f"{101 * gib}x120",
    }
    held = {kept: f"{30 * gib}x120"}
    labels = {"pool": "fast", "severity": "warning"}
    filling, free = "pool fast of a will be full within a day", "100GiB are free"
    fails = f"{free}, and writes may take more: they fail once nothing is left. "
    remedy = "Delete snapshots or volumes (aoe-target volume list fast has what each holds), or give it room."
    said = "Snapshots hold 30GiB or more. "
    low = (
        "pool fast of a is below its reserve",
        f"94GiB are free. {said}Until there is more, nothing is created, cloned or kept there: delete "
        "snapshots or volumes, or give it room.",
    )
    checked(
        tmp_path,
        words_test("AoePoolFilling", series | others, labels, filling, fails + remedy, at="100m"),
        words_test("AoePoolFilling", series | held, labels, filling, fails + said + remedy, at="100m"),
        words_test("AoePoolNearlyFull", series | held | others, labels, *low, at="106m"),
    )


# Names


def told() -> set[str]:
    """Every name that a scrape may have."""
    names = {it.name for it in ABOUT}
    for told_ in (*OF_TARGET, *OF_LINK, *OF_EXPORT, *OF_CLIENT, *OF_THREAD):
        histogram = told_.rows[0].type is Type.HISTOGRAM
        names |= {
            told_.family.name + suffix for suffix in (("_bucket", "_sum", "_count") if histogram else ("",))
        }
    return names


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / "dashboard.json").read_text())
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_only_what_we_tell_is_asked_for() -> None:
    named = set(NAME.findall(RULES.read_text() + json.dumps(dashboard())))
    assert len(named) > 15
    assert named <= told()


def test_only_reasons_and_states_that_there_are_are_asked_for() -> None:
    text = RULES.read_text() + json.dumps(dashboard()).replace('\\"', '"')
    reasons = set("|".join(re.findall(r'reason=~?"([\w|]+)"', text)).split("|"))
    assert reasons <= {row.name for row in (*EXPORT, *TARGET)}
    states = set(re.findall(r'state="(\w+)"', text))
    assert states
    assert states <= set(re.findall(r"`(\w+)`", (ExportStatus.__doc__ or "").partition("with")[0]))


def test_the_dashboard_can_be_drawn(tmp_path: Path) -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 8
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
    assert len(expressions()) >= len(panels)
    file = tmp_path / "rules.yml"  # promtool parses what stands in rules
    rules = [
        {"record": f"x{at}", "expr": it.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for at, it in enumerate(expressions())
    ]
    file.write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", file)
