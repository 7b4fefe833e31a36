"""The fuzzers find nothing in the engine and in the initiator, and find what is planted."""

import ast
import base64
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from csrc.fuzz import make_seeds
from csrc.fuzz.make_seeds import SEEDS, seeds
from tests.support.checkers import fuzzers
from tests.support.tools import need, unavailable

pytestmark = [pytest.mark.one_at_a_time, pytest.mark.timeout(900)]

SAME = "same"
"""Runs that depend on the code alone; tools/soak has long ones that begin elsewhere each time."""
FEW = "500"
PLANTED_SECONDS = "60"
"""At most: a fuzzer ends with its first finding."""
PASSING = re.compile(r"exec/s: \d+|rss: \d+Mb|0x\w+|\d+ second\(s\)")
"""What two logs of the same runs may differ by: time, memory and addresses."""


def fuzz(kept: Path, how: str, *names: str, **settings: str) -> tuple[int, str]:
    """Where they can be built."""
    need("clang")
    status, said = fuzzers.fuzz(kept, how, *names, **settings)
    if status == fuzzers.CANNOT_BUILD:
        unavailable(said)
    return status, said


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """CI's runs: what is kept of them, what they ended with, and said."""
    kept = tmp_path_factory.mktemp("ci")
    return kept, *fuzz(kept, SAME)


def test_no_finding(ci: tuple[Path, int, str]) -> None:
    _, status, said = ci
    assert status == 0, said
    assert "parse: no finding" in said
    assert "loop: no finding" in said
    assert "core: no finding" in said


def course(log: Path) -> list[str]:
    """What the first of the runs came to that begin at the seeds, each that reached something new."""
    said = log.read_text(errors="replace").splitlines()
    steps = [line for line in said if line.startswith("#") and not re.search(r"\t(DONE|pulse)", line)]
    return [PASSING.sub("", step) for step in steps if int(step[1:].split()[0]) <= int(FEW)]


def test_ci_runs_depend_on_the_code_alone(ci: tuple[Path, int, str], tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, SAME, runs=FEW)
    assert status == 0, said
    for name in ("parse", "loop", "core"):
        first, again = (course(kept / f"{name}.log") for kept in (ci[0], tmp_path))
        assert first == again
        assert len(first) > 20


def test_no_word_of_a_seed_means_two_things() -> None:
    """Of the commands of two fuzzers, say."""
    body = ast.parse(Path(make_seeds.__file__).read_text()).body
    names = [
        name.id
        for statement in body
        if isinstance(statement, ast.Assign)
        for name in ast.walk(statement)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]
    assert len(names) > 50
    assert [name for name, times in Counter(names).items() if times > 1] == []


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
    (found,) = tmp_path.glob("findings/loop-crash-*")
    assert f"base64 -d: {base64.b64encode(found.read_bytes()).decode()}\n" in said


def test_a_range_of_which_a_snapshot_lacks_a_half_is_found(tmp_path: Path) -> None:
    status, said = fuzz(tmp_path, PLANTED_SECONDS, "loop", plant="8")
    assert status == 1
    assert "s->expected, s->found" in said, said


def test_two_changes_of_the_same_sectors_at_once_are_found(tmp_path: Path) -> None:
    """Beside another change, or beside what servers are compared by: chance finds one first."""
    status, said = fuzz(tmp_path, PLANTED_SECONDS, "core", plant="4")
    assert status == 1
    compared = "overlap(&f->echo.piece->lock, s)", "overlap(&OWNER_OF(l, struct sample, where)->lock, s)"
    assert any(check in said for check in ("|| agree(s, other)", *compared)), said
    assert list(tmp_path.glob("findings/core-crash-*"))


def test_a_clock_that_is_read_past_the_world_is_refused(tmp_path: Path) -> None:
    """By the kernel's, every frame of a script is years old, and no run is like another."""
    need("gcc")
    before = ["-include", "target/clocks.h"]
    ran = subprocess.run(
        ["csrc/fuzz/build", "replay", str(tmp_path), *before],
        cwd=fuzzers.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "thread.o: U clock_gettime" in " ".join(ran.stderr.split()), ran.stderr
    assert "this calls the kernel" in ran.stderr


def test_the_seeds_are_small_and_up_to_date() -> None:
    found = {str(path.relative_to(SEEDS)): path.read_bytes() for path in SEEDS.glob("*/*")}
    assert found == seeds(), "run python -m csrc.fuzz.make_seeds"
    assert sum(map(len, found.values())) < 200_000
