"""What Prometheus is told is what was counted, and writing it costs little."""

import subprocess
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aoe import limits
from aoe.metrics import exposition
from aoe.metrics.exposition import Sheet
from aoe.metrics.snapshot import Snapshot
from aoe.metrics.table import BUCKETS, CLIENT, EXPORT, LINK, TARGET, THREAD, Row, Type, Unit
from aoe.metrics.text import Text, name_of
from tests.metrics.numbers import NOW_NS, counted, snapshot
from tests.support.tools import need

Labels = frozenset[tuple[str, str]]
Found = dict[tuple[str, Labels], float]
REAL_NS = 1_700_000_000_000_000_000
CPU_S = 0.05
NS = 10**9


def written(found: Snapshot, text: Text | None = None, *, clients: bool = True) -> str:
    pieces = (text or Text(Sheet())).pieces(found, clients=clients, real_ns=REAL_NS)
    return b"".join(pieces).decode()


def parsed(text: str) -> Found:
    found: Found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def expected(
    row: Row, numbers: list[int], **owner: str
) -> Iterator[tuple[str, frozenset[tuple[str, str]], float]]:
    """The series of one row, worked out by itself."""
    name = name_of(row)
    said = owner | ({row.label: row.name} if row.label else {})
    if row.type is Type.HISTOGRAM:
        buckets, total = counted(numbers, row.at)
        bounds = [repr(bound / NS) for bound in BUCKETS] + ["+Inf"]
        for at, bound in enumerate(bounds):
            yield f"{name}_bucket", frozenset({**said, "le": bound}.items()), sum(buckets[: at + 1])
        yield f"{name}_sum", frozenset(said.items()), total / NS
        yield f"{name}_count", frozenset(said.items()), sum(buckets)
        return
    value: float = numbers[row.at]
    if row in CLIENT and row.name == "heard":
        value = (value + REAL_NS - NOW_NS) / NS
    elif row.unit is Unit.NANOSECONDS:
        value /= NS
    yield name, frozenset(said.items()), value


def all_expected(found: Snapshot) -> Found:
    series = []
    for row in TARGET:
        series.append((name_of(row), frozenset({(row.label, row.name)}), found.target.get(row.name, 0)))
    for link, numbers in found.links.items():
        for row in LINK:
            labels = frozenset({("link", link), (row.label, row.name)})
            series.append((name_of(row), labels, numbers.get(row.name, 0)))
    for thread in found.threads:
        for row in THREAD:
            series += expected(row, list(thread.numbers), thread=thread.name)
    for export in found.exports:
        for row in EXPORT:
            series += expected(row, list(export.numbers), export=export.address)
        clients = [(it.mac.hex(":"), it.numbers) for it in export.clients] + [("other", export.other)]
        for client, numbers in clients:
            for row in CLIENT:
                series += expected(row, list(numbers), export=export.address, client=client)
    return {(name, labels): value for name, labels, value in series}


@pytest.mark.parametrize(("exports", "clients"), [(0, 0), (1, 0), (3, 2), (300, 1)])
def test_every_number_is_told_once_and_nothing_else(exports: int, clients: int) -> None:
    found = snapshot(seed=exports, exports=exports, clients=clients)
    told, meant = parsed(written(found)), all_expected(found)
    assert told.keys() == meant.keys()
    assert told == pytest.approx(meant, rel=1e-12)


def test_it_is_the_same_when_templates_are_used_again() -> None:
    text = Text(Sheet())
    for seed, exports in ((1, 3), (2, 3), (3, 2), (4, 500), (5, 0), (6, 1)):
        found = snapshot(seed, exports, clients=1)
        assert written(found, text) == written(found)


def test_clients_are_told_only_when_that_is_wanted() -> None:
    found = snapshot(exports=2, clients=3)
    assert "aoe_client_" not in written(found, clients=False)
    assert 'client="02:00:00:00:00:02"' in written(found)


def test_a_client_that_was_never_heard_has_no_date() -> None:
    found = snapshot(exports=1)
    heard = next(row.at for row in CLIENT if row.name == "heard")
    found.exports[0].other[heard] = 0  # type: ignore[index]
    labels = frozenset({("export", "e0.0"), ("client", "other")})
    assert parsed(written(found))["aoe_client_heard_timestamp_seconds", labels] == 0


def test_families_have_names_of_their_own_and_a_meaning() -> None:
    metrics = list(text_string_to_metric_families(written(snapshot(exports=1, clients=1))))
    assert len({it.name for it in metrics}) == len(metrics)
    for row in (*TARGET, *LINK, *EXPORT, *CLIENT, *THREAD):
        (family,) = [it for it in metrics if name_of(row) in (it.name, it.name + "_total")]
        assert row.help in family.documentation
        assert family.type == row.type.value


def test_promtool_has_nothing_to_find_fault_with() -> None:
    need("promtool")
    text = written(snapshot(exports=3, clients=2))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_piece_is_long() -> None:
    found = snapshot(exports=1000, clients=1)
    pieces = list(Text(Sheet()).pieces(found, clients=True, real_ns=REAL_NS))
    lines = [sum(not line.startswith(b"#") for line in piece.splitlines()) for piece in pieces]
    assert max(lines) <= limits.EXPOSED_AT_ONCE
    assert all(piece.endswith(b"\n") for piece in pieces)


def test_a_thousand_exports_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    found, text = snapshot(exports=1000), Text(Sheet())
    before = written(found, text, clients=False)
    assert len(before.splitlines()) > 30 * 1000
    made = []
    monkeypatch.setattr(exposition, "_templates", lambda *_: made.append(1) or iter(()))
    costs_s = []
    for _ in range(7):
        began_s = time.thread_time()
        assert written(found, text, clients=False) == before
        costs_s.append(time.thread_time() - began_s)
    assert not made, "templates are made once"
    assert min(costs_s) < CPU_S, costs_s
