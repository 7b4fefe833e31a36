"""The command `aoe` as a process, over UDP to a target of ours."""

import random
from pathlib import Path

import pytest

from tests.cli.client import refused, run, said, surveyed
from tests.support.labs.served import SECTORS, Served, serving
from tests.support.waiting import PATIENCE_S, wait_for

SIZE = SECTORS * 512


def test_discover_identify_and_stat_agree(served: Served) -> None:
    (found,) = surveyed(served, "discover")
    (identified,) = said(served, "identify", "e1.2")
    (listed,) = surveyed(served, "stat")
    assert found["address"] == identified["address"] == listed["address"] == "e1.2"
    assert found["bytes"] == identified["bytes"] == listed["bytes"] == SIZE
    assert identified["serial"] == listed["serial"] == "S1"
    assert listed["rtt_us"] >= 0
    assert [path["owner"] for path in identified["paths"]] == [True]
    text = wait_for(lambda: run(served, "stat").stdout)
    assert text.split()[:2] == [b"e1.2", b"0.001GB"]


def test_read_and_write(served: Served, image: Path) -> None:
    before = image.read_bytes()
    assert run(served, "read", "e1.2").stdout == before
    assert run(served, "read", "e1.2", "--lba", "7", "--sectors", "3").stdout == before[7 * 512 : 10 * 512]
    assert run(served, "write", "e1.2", "--lba", "9", stdin=b"w" * 1024).returncode == 0
    assert image.read_bytes() == before[: 9 * 512] + b"w" * 1024 + before[11 * 512 :]


def test_ping(served: Served) -> None:
    *answers, summary = said(served, "ping", "e1.2", "-c", "3", "-i", "0.01", patient=True)
    assert [answer["seq"] for answer in answers] == [1, 2, 3]
    assert all(0 < answer["rtt_us"] < PATIENCE_S * 1e6 for answer in answers)
    assert (summary["sent"], summary["received"], summary["loss_percent"]) == (3, 3, 0)
    assert 0 < summary["min_us"] <= summary["avg_us"] <= summary["max_us"] < PATIENCE_S * 1e6


def test_copy_there_and_back(served: Served, image: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(2).randbytes(SIZE // 2))
    (done,) = said(served, "copy", source, "e1.2", "--verify")
    assert (done["bytes"], done["verified"]) == (SIZE // 2, True)
    assert image.read_bytes()[: SIZE // 2] == source.read_bytes()
    said(served, "copy", "e1.2", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == image.read_bytes()


def test_what_is_zero_takes_no_room_in_a_new_file(tmp_path: Path) -> None:
    image = tmp_path / "image"
    size = 32 << 20
    with image.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(size)
    with serving(image, "--link", "udp:127.0.0.1:0", "--state-dir", tmp_path / "state") as served:
        said(served, "copy", "e0.0", tmp_path / "copy")
    copied = tmp_path / "copy"
    assert copied.read_bytes() == image.read_bytes()
    assert copied.stat().st_blocks * 512 < size // 4


@pytest.mark.parametrize("rw", ["randread", "randwrite", "read", "write", "randrw"])
def test_bench_speaks_as_fio_does(served: Served, rw: str) -> None:
    shape = ("--rw", rw, "--bs", "8k", "--iodepth", "8", "--runtime", "0.3", "--overwrite")
    (found,) = said(served, "bench", "e1.2", *shape)
    assert found["requests_per_s"] > 0
    assert found["bytes_per_s"] == pytest.approx(found["requests_per_s"] * 8192)
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["p999_us"]
    assert found["errors"] == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["identify", "e1.x"], 2, "not an address"),
        (["identify", "e9.9"], 1, "does not answer"),
        (["read", "e1.2", "--lba", str(SECTORS)], 1, "--lba"),
        (["write", "e1.2", "--lba", str(SECTORS - 1)], 1, "does not end at a sector"),
        (["copy", "nowhere", "e1.2"], 2, "nowhere"),
        (["copy", "e1.2", "no/such/place"], 2, "no/such/place"),
        (["copy", "e1.2", "e1.3"], 2, "one target"),
        (["bench", "e1.2", "--bs", "1g"], 2, "not a size"),
        (["bench", "e1.2", "--bs", "64m"], 1, "no room"),
        (["bench", "e1.2", "--iodepth", "0"], 2, "1 to 4096"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    served: Served, words: list[str], status: int, says: str
) -> None:
    done = run(served, *words, stdin=b"x" * 1024)
    assert done.returncode == status, done
    assert says in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_a_destination_that_is_too_small(served: Served, tmp_path: Path) -> None:
    large, odd = tmp_path / "large", tmp_path / "odd"
    large.write_bytes(bytes(SIZE + 512))
    odd.write_bytes(bytes(1000))
    assert "enlarge" in refused(served, "copy", large, "e1.2", status=1)
    assert "does not end at a sector" in refused(served, "copy", odd, "e1.2", status=2)


def test_config_string(served: Served) -> None:
    assert said(served, "config", "e1.2") == [{"address": "e1.2", "config": ""}]
    assert said(served, "config", "e1.2", "--set", "rack 3")[0]["config"] == "rack 3"
    kept = run(served, "config", "e1.2", "--set", "rack 4")
    assert (kept.returncode, b"AoE error 4" in kept.stderr) == (1, True)
    assert said(served, "config", "e1.2", "--force-set", "rack 4")[0]["config"] == "rack 4"
    assert run(served, "config", "e1.2").stdout == b"rack 4\n"


def test_config_string_is_tested_by_the_target(served: Served) -> None:
    said(served, "config", "e1.2", "--set", "rack 3")
    for right in (["--test", "rack 3"], ["--prefix", "rack"], ["--prefix", ""]):
        assert said(served, "config", "e1.2", *right, patient=True)[0]["config"] == "rack 3"
    for wrong, says in (
        (["--test", "rack"], "is not 'rack'"),
        (["--test", ""], "is not ''"),
        (["--prefix", "ack"], "does not begin with 'ack'"),
    ):
        done = run(served, "config", "e1.2", *wrong)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == f"aoe: e1.2: the config string {says}\n"


def test_one_config_verb_at_a_time(served: Served) -> None:
    assert run(served, "config", "e1.2", "--test", "x", "--set", "y").returncode == 2
    assert said(served, "config", "e1.2")[0]["config"] == ""


def test_reservation(served: Served) -> None:
    """The UDP link has the same MAC every time that the same address is bound; here it has another one."""
    assert said(served, "reserve", "e1.2") == [{"address": "e1.2", "macs": []}]
    (mine,) = said(served, "reserve", "e1.2", "--set")[0]["macs"]
    assert said(served, "reserve", "e1.2")[0]["macs"] == [mine]
    assert said(served, "reserve", "e1.2", "--release", "--force")[0]["macs"] == []
    assert b"exclude" in run(served, "reserve", "e1.2", "--set", "--release").stderr


def test_nobody_locks_himself_out(served: Served) -> None:
    outside = run(served, "mask", "e1.2", "--add", "02:00:00:00:00:77")
    assert (outside.returncode, b"lock this host out" in outside.stderr) == (1, True)
    assert said(served, "mask", "e1.2") == [{"address": "e1.2", "macs": []}]
    assert run(served, "mask", "e1.2", "--add", "x").returncode == 2
