"""Nothing in the tutorial is left out by the test that executes it (tests/vm/test_tutorial.py)."""

import re

import pytest

from tests.support.checkers.tutorial import TUTORIAL, Block, Part, Unexecuted, parts

HEAD = "# Title\n\nWords.\n\n"
DONE = "## Server\n\n```sh\ntrue\n```\n"
LEFT_OUT = {
    "another language": f"{HEAD}{DONE}\n```bash\nfalse\n```\n",
    "no language": f"{HEAD}{DONE}\n```\nfalse\n```\n",
    "words behind the language": f"{HEAD}{DONE}\n```sh twice\nfalse\n```\n",
    "tildes": f"{HEAD}{DONE}\n~~~sh\nfalse\n~~~\n",
    "indented": f"{HEAD}{DONE}\n    false\n",
    "a tab": f"{HEAD}{DONE}\n\tfalse\n",
    "in a list": f"{HEAD}{DONE}\n- ```sh\n  false\n  ```\n",
    "in a quotation": f"{HEAD}{DONE}\n> ```sh\n> false\n> ```\n",
    "before the first machine": f"{HEAD}```sh\nfalse\n```\n\n{DONE}",
    "below a heading of no machine": f"{HEAD}{DONE}\n## Later\n\n```sh\nfalse\n```\n",
    "without an end": f"{HEAD}{DONE}\n```sh\nfalse\n",
    "shown by nothing": f"{HEAD}## Server\n\n```text\nshown\n```\n\n```sh\ntrue\n```\n",
    "shown twice": f"{HEAD}{DONE}\n```text\none\n```\n\n```text\nother\n```\n",
    "nothing done": f"{HEAD}## Client\n\nWords.\n\n{DONE}",
}


@pytest.mark.parametrize("text", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_would_not_be_executed_is_refused(text: str) -> None:
    with pytest.raises(Unexecuted):
        parts(text)


def test_commands_belong_to_the_machine_above_them() -> None:
    more = "### More\n\n```sh\n## no heading\n```\n\n## Client: on\n\n```sh\na\nb\n```\n"
    text = f"{HEAD}{DONE}\n```text\nout ...\n```\n\n{more}"
    assert parts(text) == [
        Part("Server", [Block("server", "true\n", "out ...\n"), Block("server", "## no heading\n")]),
        Part("Client: on", [Block("client", "a\nb\n")]),
    ]


def test_every_line_between_two_fences_of_the_tutorial_is_in_it() -> None:
    """Counted in another manner than it is read."""
    text = TUTORIAL.read_text()
    fenced = "".join(re.findall(r"(?ms)^```\w+\n(.*?)^```$", text))
    read = [block for part in parts(text) for block in part.blocks]
    assert "".join(block.commands + (block.shown or "") for block in read) == fenced
    assert text.count("```") == 2 * (len(read) + sum(block.shown is not None for block in read))


def test_no_command_stands_in_a_sentence_alone() -> None:
    """But for what is looked up elsewhere: a manual page, or the number that a reader puts in."""
    text = re.sub(r"(?ms)^```.*?^```$", "", TUTORIAL.read_text())
    spans = [span for span in re.findall(r"`([^`]+)`", text) if " " in span]
    assert [span for span in spans if not span.startswith(("man ", "aoe nbd"))] == []
