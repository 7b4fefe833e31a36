"""The fuzzers' seeds under valgrind: no error, no leak; a planted leak is noticed."""

import subprocess
from pathlib import Path

import pytest

from csrc.fuzz.make_seeds import SEEDS
from tests.support.tools import need, unavailable, which

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parent.parent.parent
FAULTY = 99
PLANT_LEAK = "-DAOE_FUZZ_PLANT=3"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs `parse`, `loop` and `core` are, which run their arguments once each."""
    return build(tmp_path_factory.mktemp("replay"))


def build(to: Path, *flags: str) -> Path:
    need("gcc", "valgrind")
    if not Path("/usr/include/liburing.h").exists():
        unavailable("liburing.h missing: apt-get install liburing-dev")
    ran = subprocess.run(
        ["csrc/fuzz/build", "replay", str(to), *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return to


def replay(program: Path) -> tuple[int, str]:
    """All seeds of a program: what valgrind ended with, and said."""
    found = sorted(map(str, (SEEDS / program.name).iterdir()))
    valgrind = [which("valgrind") or "valgrind", f"--error-exitcode={FAULTY}", "--leak-check=full"]
    ran = subprocess.run(
        [*valgrind, str(program), *found],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("name", ["parse", "loop", "core"])
def test_clean(built: Path, name: str) -> None:
    status, said = replay(built / name)
    assert status == 0, said
    assert "inputs replayed" in said
    assert "ERROR SUMMARY: 0 errors" in said


def test_a_leak_is_noticed(tmp_path: Path) -> None:
    status, said = replay(build(tmp_path, PLANT_LEAK) / "loop")
    assert status == FAULTY
    assert "definitely lost" in said
