"""The fuzzers find nothing in the engine and in the initiator, and find what is planted."""

import os
import subprocess
from pathlib import Path

import pytest

from csrc.fuzz.make_seeds import SEEDS, seeds
from tests.support.tools import need, unavailable

pytestmark = pytest.mark.one_at_a_time

ROOT = Path(__file__).parent.parent.parent
SECONDS = os.environ.get("AOE_FUZZ_SECONDS", "5")
PLANTED_SECONDS = "60"
"""At most: a fuzzer ends with its first finding."""
CANNOT_BUILD = 2


def fuzz(kept: Path, seconds: str, *names: str, plant: str = "") -> tuple[int, str]:
    """What tools/fuzz ended with, and said."""
    need("clang")
    environment = {**os.environ, "AOE_FUZZ_DIR": str(kept), "AOE_FUZZ_PLANT": plant}
    ran = subprocess.run(
        ["tools/fuzz", seconds, *names],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode == CANNOT_BUILD:
        unavailable(ran.stdout)
    return ran.returncode, ran.stdout


def test_no_finding(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, SECONDS)
    assert status == 0, said
    assert "parse: no finding" in said
    assert "loop: no finding" in said
    assert "core: no finding" in said


def test_a_frame_read_beyond_its_end_is_found(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, PLANTED_SECONDS, "parse", "loop", plant="1")
    assert status == 1
    assert said.count("AddressSanitizer: heap-buffer-overflow") == 2, said
    assert "parse: a finding" in said
    assert "loop: a finding" in said


def test_a_write_that_never_reached_the_disk_is_found(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, PLANTED_SECONDS, "loop", plant="2")
    assert status == 1
    assert "not so: !memcmp(" in said, said
    assert list(tmp_path.glob("findings/loop-crash-*"))


def test_two_changes_of_the_same_sectors_at_once_are_found(tmp_path: Path) -> None:
    """Beside another change, or beside a write that servers are compared by: chance finds one first."""
    status, said = fuzz(tmp_path, PLANTED_SECONDS, "core", plant="4")
    assert status == 1
    assert "|| agree(s, other)" in said or "overlap(&f->echo.piece->lock, s)" in said, said
    assert list(tmp_path.glob("findings/core-crash-*"))


def test_the_seeds_are_small_and_up_to_date() -> None:
    found = {str(path.relative_to(SEEDS)): path.read_bytes() for path in SEEDS.glob("*/*")}
    assert found == seeds(), "run python -m csrc.fuzz.make_seeds"
    assert sum(map(len, found.values())) < 200_000
