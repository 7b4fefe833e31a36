"""What the tools have in common (tools/common.sh), and what the demo has besides."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def bash(script: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run it behind both files, as the tools begin."""
    sourced = f'set -euo pipefail; . "{TOOLS}/common.sh"; . "{TOOLS}/diskless.sh"; {script}'
    return subprocess.run(
        ["bash", "-c", sourced], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory with a package, and an environment that was made of it by way of `test` and `lint`."""
    for name in ("pyproject.toml", "setup.py", "csrc"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*" >>called\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / ".made-test,lint").touch()
    return tmp_path


@pytest.mark.parametrize("extras", ["", "test", "lint,test", "test,lint"])
def test_an_environment_that_has_more_than_is_needed_is_taken(made: Path, extras: str) -> None:
    done = bash(f"make_venv {extras}", made)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert "pip" not in (made / "called").read_text()


@pytest.mark.parametrize("extras", ["bench", "test,bench", "tes"])
def test_one_that_has_less_is_not(made: Path, extras: str) -> None:
    done = bash(f"make_venv {extras}", made)
    assert done.stdout == "making the virtual environment .venv\n", done
    assert f"--editable .[{extras}]" in (made / "called").read_text()
    assert (made / ".venv" / f".made-{extras}").exists()


def test_one_that_was_not_made_to_its_end_is_not(made: Path) -> None:
    (made / ".venv" / ".made-test,lint").rename(made / ".venv" / ".begun")
    assert bash("make_venv", made).stdout == "making the virtual environment .venv\n"


def test_what_takes_long_says_that_it_still_runs(tmp_path: Path) -> None:
    wait = "BEAT_S=0.05; patiently eval 'until [ -s said ]; do sleep 0.05; done; echo over' >said"
    done = bash(wait, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = (tmp_path / "said").read_text().splitlines()
    beats = [it for it in said if it != "over"]
    assert beats
    assert all(it.startswith("... ") for it in beats)
    assert len(said) == len(beats) + 1


# The time is what the demo waits for, and nothing else.
WAITING = """\
unset SECONDS; SECONDS=0; work=.; machine=$$; PATIENCE_S=60
sleep() { SECONDS=$((SECONDS + 1)); [ $SECONDS -lt 60 ] || command echo "e1.0: is served" >>log1; }
readme() { command echo aoe-target; }
typed() { exec tail -f /dev/null; }
command echo "it does this" | tee console log1 >/dev/null
mkdir storage1
"""


@pytest.mark.parametrize("what", ["goes_on 1", "start 1; kill ${serving[1]}"])
def test_there_is_a_line_at_least_each_ten_seconds(tmp_path: Path, what: str) -> None:
    """Whatever the machine and the servers do."""
    said = bash(f"{WAITING}{what}", tmp_path).stdout
    times = [int(it) for it in re.findall(r"^\.\.\. (\d+) s: \S.+$", said, re.MULTILINE)]
    assert len(times) > 1, said
    assert max(b - a for a, b in itertools.pairwise([0, *times, 60])) <= 10


def test_what_fails_patiently_fails(tmp_path: Path) -> None:
    assert bash("patiently eval 'exit 3'", tmp_path).returncode == 3
    assert bash("patiently false", tmp_path).returncode == 1
