"""Completion for a shell, by shtab from a parser: python3 debian/completion.py PROGRAM SHELL"""

import argparse
import importlib
import sys
from pathlib import Path

import shtab

PARSERS = {
    "aoe": "aoe.cli.parser",
    "aoe-target": "aoe.cli.target_parser",
    "aoe-cloud": "aoe.cli.cloud_parser",
}
INTERFACE = {"bash": "_aoe_interfaces", "zsh": "_net_interfaces"}
PREAMBLE = {"bash": '_aoe_interfaces() { compgen -W "$(ls /sys/class/net)" -- "$1"; }', "zsh": ""}
MENDED = {
    'current_action_choices_var="${current_action}_choices"': (
        'current_action_choices_var="${current_action}_choices[@]"'
    ),
    'compgen -W "${current_action_choices}"': 'IFS=" "; compgen -W "${current_action_choices}"',
}
"""shtab 1.5.5, which Debian 12 has, offers only the first of several words in bash."""
NAMES_A_FILE = ("PATH", "FILE", "DIR", "SOURCE", "DESTINATION")


def parser(program: str) -> argparse.ArgumentParser:
    """Its command line, with what each argument is completed by."""
    top: argparse.ArgumentParser = importlib.import_module(PARSERS[program]).parser()
    for command in _commands(top):
        for action in command._actions:
            _complete(action)
    return top


def _commands(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    below = [it for it in top._actions if isinstance(it, argparse._SubParsersAction)]
    return [top, *(found for it in below for one in it.choices.values() for found in _commands(one))]


def _complete(action: argparse.Action) -> None:
    if action.metavar == "IF":
        action.complete = INTERFACE  # type: ignore[attr-defined]
    elif action.type is Path or str(action.metavar).startswith(NAMES_A_FILE):
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def completion(program: str, shell: str) -> str:
    """What the shell is to source."""
    prefix = program.replace("-", "_")  # else the functions of one program would replace the other's
    text: str = shtab.complete(parser(program), shell, root_prefix=prefix, preamble=PREAMBLE)
    for wrong, right in MENDED.items() if shtab.__version__ == "1.5.5" and shell == "bash" else ():
        assert wrong in text
        text = text.replace(wrong, right)
    return text


if __name__ == "__main__":
    print(completion(*sys.argv[1:]))
