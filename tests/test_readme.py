"""The README says nothing that does not hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aoe.cli.target import parser
from aoe.drive.command import Kind
from aoe.wire.frame import Fault

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_run(code: str) -> None:
    """What needs two interfaces is a function there; tests/net/test_failover.py runs its like."""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=20)


def test_every_option_is_explained_and_every_explained_option_exists() -> None:
    usage = "".join(it.format_help() for it in parser()._subparsers._group_actions[0].choices.values())
    real = set(re.findall(r"--[a-z-]+", usage)) - {"--help"}
    table = README.split("### Options")[1].split("### Coming")[0]
    assert set(re.findall(r"--[a-z][a-z-]+", table)) == real


def counted() -> set[str]:
    """What a target counts, by the words in its source."""
    sources = [path for room in ("target", "link", "engine") for path in (ROOT / "aoe" / room).glob("*.py")]
    text = "\n".join(path.read_text() for path in sources if path.name not in ("faulty.py", "memory.py"))
    named = re.findall(r'(?:counters\[|_drop\(|"AOE_\w+": |: )"([a-z_]+)"[\]),}]', text)
    either = re.findall(r'counters\["([a-z_]+)" if .* else "([a-z_]+)"\]', text)
    return {*named, *sum(either, ()), *Kind, *Fault}


def test_every_counter_is_explained_and_every_explained_counter_exists() -> None:
    table = README.split("### Counters")[1].split("### Coming")[0]
    explained = set(re.findall(r"`(?:IF\.)?([a-z_]+)`", table))
    assert explained == counted()


def test_every_test_that_carries_a_promise_exists() -> None:
    promises = README.split("## What is promised")[1].split("Never promised")[0]
    named = re.findall(r"`(tests/[\w/.]+)`", promises)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
