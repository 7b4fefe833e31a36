"""What reads the file is loaded by the commands that read one, and by no other."""

import subprocess
import sys

import pytest

WORDS = ["aoe.config", "aoe.config.meanings"]
"""Texts that options have, too."""
VALUES = ["aoe.config", "aoe.config.text", "aoe.config.values"]
"""What the words behind `serve` become for the process that opens its disks."""


@pytest.mark.parametrize(
    ("module", "most"),
    [("aoe", []), ("aoe.cli.target_parser", WORDS), ("aoe.cli.serve", VALUES), ("aoe.cli.client", [])],
)
def test_who_reads_no_file_loads_no_reader(module: str, most: list[str]) -> None:
    code = (
        f"import sys, {module}; "
        "print(sorted(it for it in sys.modules if it.startswith(('tomllib', 'aoe.config'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"{most}\n"


def test_a_file_that_is_right_needs_no_search_for_names() -> None:
    code = (
        "import sys\nfrom aoe.config.read import read\n"
        "read('[target]\\nspin = false\\n', 'f')\nprint('difflib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
