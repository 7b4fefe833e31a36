"""What `aoe --json` prints: the same keys everywhere, and errors as objects."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.client import over, refused, run, said, surveyed
from tests.cli.mute import mute
from tests.support.labs.served import SECTORS, Served

SIZE = SECTORS * 512
PATH = {
    "address",
    "interface",
    "mac",
    "state",
    "state_us",
    "reason",
    "owner",
    "rtt_us",
    "payload_bytes",
    "payload_max_bytes",
    "narrow",
    "unsettled",
    "fate",
    "proof",
    "draining",
}
DISK = {"address", "bytes", "serial"}
KEYS = {
    "discover": PATH | DISK,
    "stat": PATH | DISK | {"retransmits"},
    "identify e1.2": DISK | {"block_bytes", "trim", "paths"},
    "config e1.2": {"address", "config"},
    "mask e1.2": {"address", "macs"},
    "reserve e1.2": {"address", "macs"},
    "bench e1.2 --runtime 0.1": {
        *("address", "rw", "block_bytes", "iodepth", "took_us", "requests_per_s", "bytes_per_s"),
        *("p50_us", "p99_us", "p999_us", "retransmits", "errors"),
    },
    "copy e1.2 COPY": {
        *("address", "source", "destination", "bytes", "left_bytes", "took_us", "bytes_per_s", "verified"),
    },
    "write e1.2": {"address", "lba", "bytes"},
}
UNITS = ("_us", "_bytes", "_per_s", "_percent")
WITHOUT_UNIT = {"bytes", "lba", "seq", "sent", "received", "retransmits", "errors", "iodepth", "unsettled"}


def objects(value: Any) -> list[dict[str, Any]]:
    """An object, and those inside it."""
    if isinstance(value, list):
        return [it for each in value for it in objects(each)]
    if isinstance(value, dict):
        return [value, *(it for each in value.values() for it in objects(each))]
    return []


@pytest.mark.parametrize("words", KEYS)
def test_keys(words: str, served: Served, tmp_path: Path) -> None:
    arguments = words.replace("COPY", str(tmp_path / "copy")).split()
    (found,) = surveyed(served, words) if words in ("discover", "stat") else said(served, *arguments)
    assert set(found) == KEYS[words]
    for it in objects(found):
        for key, value in it.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert key in WITHOUT_UNIT or key.endswith(UNITS), key
    for path in found.get("paths", []):
        assert set(path) == PATH


def test_ping(served: Served) -> None:
    answer, summary = said(served, "ping", "e1.2", "-c", "1", patient=True)
    assert set(answer) == {"address", "bytes", "seq", "rtt_us"}
    assert set(summary) == {
        *("address", "sent", "received", "loss_percent", "min_us", "avg_us", "max_us", "retransmits"),
    }


def test_a_disk_is_the_same_in_every_command(served: Served) -> None:
    (found,), (stat,) = surveyed(served, "discover"), surveyed(served, "stat")
    (identified,) = said(served, "identify", "e1.2")
    (path,) = identified["paths"]
    for key in ("address", "mac", "state", "payload_bytes", "owner", "reason"):
        assert found[key] == stat[key] == path[key], key
    assert found["state"] == "usable"
    assert found["bytes"] == stat["bytes"] == identified["bytes"] == SIZE


def failure(served: Served, *words: str, status: int) -> dict[str, Any]:
    done = run(served, *words, "--json")
    assert (done.returncode, done.stderr) == (status, b"")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("identify e1.x", 2, "usage"),
        ("ping e1.2 -c 0", 2, "usage"),
        ("copy e1.2 /dev/typo", 2, "usage"),
        ("identify e9.9", 1, "unreachable"),
        ("config e1.2 --test no", 1, "request"),
        ("copy /dev/zero e1.2", 2, "usage"),
    ],
)
def test_errors_are_objects(words: str, status: int, kind: str, served: Served) -> None:
    error = failure(served, *words.split(), status=status)["error"]
    assert error["kind"] == kind
    assert "\n" not in error["message"]


def test_an_aoe_error_has_words_and_its_number(served: Served) -> None:
    said(served, "config", "e1.2", "--set", "one")
    found = failure(served, "config", "e1.2", "--set", "two", status=1)
    assert found["address"] == "e1.2"
    assert (found["error"]["kind"], found["error"]["aoe_error"]) == ("refused", 4)
    text = refused(served, "config", "e1.2", "--set", "two", status=1)
    assert text == "e1.2 refused: there is another config string already (AoE error 4)"


def test_where_the_bytes_go_out_an_object_goes_to_standard_error(served: Served, image: Path) -> None:
    done = run(served, "read", "e1.2", "--json")
    assert done.stdout == image.read_bytes()
    assert json.loads(done.stderr) == {"address": "e1.2", "lba": 0, "bytes": SIZE}
    past = run(served, "read", "e1.2", "--sectors", str(SECTORS + 1), "--json")
    assert (past.returncode, past.stdout) == (1, b"")
    assert json.loads(past.stderr)["error"]["kind"] == "request"


def test_the_manual_names_every_key(served: Served) -> None:
    manual = (Path(__file__).parents[2] / "man" / "aoe.1.md").read_text()
    for key in set().union(*KEYS.values(), {"seq", "sent", "received", "loss_percent", "error", "kind"}):
        assert f"`{key}`" in manual, key


def test_a_mute_target_is_an_object(served: Served) -> None:
    with mute((0, 7)) as other:
        both = ("--link", f"{over(served)[1]},peer={other.remote[0]}:{other.remote[1]}")
        done = run(None, "stat", "--json", *both)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [line["address"] for line in lines] == ["e0.7", "e1.2"]
    assert lines[0]["state"] == "checking"
    assert "IDENTIFY is not answered" in lines[0]["error"]["message"]
    assert set(lines[1]) == KEYS["stat"]
