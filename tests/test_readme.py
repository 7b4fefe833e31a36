"""The README says nothing that does not hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aoe.config.read import read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_run(code: str) -> None:
    """What needs two interfaces is a function there; tests/net/test_failover.py runs its like."""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


def test_the_files_are_right() -> None:
    files = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    whole, of_a_pool = (read(text, "README.md") for text in files)
    assert whole.interfaces == ("eth1",)
    assert [it.address for it in whole.exports] == ["e1.0"]
    assert [it.name for it in of_a_pool.pools] == ["fast"]
    assert [(it.address, it.path) for it in of_a_pool.exports] == [("e2.1", "fast/web1")]


def test_every_test_that_carries_a_promise_exists() -> None:
    promises = README.split("## What is promised")[1].split("Never promised")[0]
    named = re.findall(r"`(tests/[\w/.]+)`", promises)
    for path in named:
        assert (ROOT / path).exists(), path
    rows = re.findall(r"^\| (P\d) \|.*\| (.*) \|$", promises, re.MULTILINE)
    assert [name for name, _ in rows] == [f"P{number}" for number in range(1, 8)]
    assert all("`tests/" in carried for _, carried in rows)
