"""A file that is read each time it changes: it means what it would if it were read for the first time."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoe.config import again
from aoe.config.again import Tables, parts_of
from aoe.config.document import document
from aoe.config.faults import ConfigErrors
from aoe.config.read import Reader, read
from aoe.config.values import Config
from aoe.config.write import dump
from tests.config.configs import configs

BEGIN = "[[export]]"
PIECES = (
    *(BEGIN, BEGIN, BEGIN, f" {BEGIN}", f"{BEGIN} # one", "[[ export ]]", "[export]", "[[pool]]"),
    *("[target]", "[defaults]", "[groups]", "[export.limits]", "[export.path]", "export = []"),
    *('"""', "'''", 'a = """', "b = '''", "path = [", "]", 'x = "', '"', "{", "c = {d = 1}", "# it", ""),
    *('path = "/a"', "path = '/b'", "shelf = 1", "shelf = 2", "slot = 0", "slot = 1", "mask = 'some'"),
    *('some = ["02:00:00:00:00:01"]', 'some = ["02:00:00:00:00:02"]', "read-only = true", "\r", "= 1"),
)
TEXTS = st.lists(
    st.tuples(st.sampled_from(PIECES), st.sampled_from(("\n", "\n", "\n", "\r\n", " "))), max_size=14
).map(lambda them: "".join(f"{piece}{end}" for piece, end in them))


def told(call: object, *arguments: str) -> object:
    """What it returns, or says."""
    assert callable(call)
    try:
        return call(*arguments)
    except ConfigErrors as error:
        return error.lines


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_parts_say_together_what_the_whole_says(texts: list[str]) -> None:
    tables = Tables()
    for text in texts:
        assert "".join(parts_of(text)) == text
        assert told(tables.of, text, "f") == told(document, text, "f")


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_changed_file_means_what_a_new_one_means(texts: list[str]) -> None:
    reader = Reader()
    for text in texts:
        assert told(reader.read, text, "f") == told(read, text, "f")


@settings(max_examples=20)
@given(st.lists(configs(), min_size=2, max_size=2))
def test_a_changed_configuration_is_read_as_a_new_one(them: list[Config]) -> None:
    reader = Reader()
    for config in them:
        assert reader.read(dump(config), "f") == config


HEAD = '[defaults]\ndurability = "write-back"\n[groups]\nsome = ["02:00:00:00:00:01"]\n'


def file(head: str = HEAD) -> str:
    keys = "shelf = 1\nslot = {0}\nmask = ['some']\n"
    return head + "".join(f'[[export]]\npath = "/{it}"\n{keys.format(it)}' for it in range(20))


def test_only_what_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, parsed = Reader(), list[str]()
    first = reader.read(file(), "f")
    whole = document

    def counted(text: str, name: str) -> dict[str, object]:
        parsed.append(text)
        return whole(text, name)

    monkeypatch.setattr(again, "document", counted)
    more = '[[export]]\npath = "/more"\nshelf = 2\nslot = 0\n'
    second = reader.read(file() + more, "f")
    assert parsed == [HEAD, more]
    assert [it is was for it, was in zip(second.exports, first.exports, strict=False)] == [True] * 20
    parsed.clear()
    fewer = file().replace('[[export]]\npath = "/0"\n', '[[export]]\npath = "/other"\n')
    third = reader.read(fewer, "f")
    assert len(parsed) == 2
    assert third.exports[0].path == "/other"
    assert third.exports[1:] == first.exports[1:]


def test_what_exports_stand_under_is_not_forgotten() -> None:
    reader = Reader()
    for head in (HEAD, HEAD.replace(":01", ":02"), HEAD.replace("write-back", "write-through"), HEAD):
        assert reader.read(file(head), "f") == read(file(head), "f")


def test_a_fault_is_said_by_the_lines_of_the_whole_file() -> None:
    reader = Reader()
    reader.read(file(), "f")
    with pytest.raises(ConfigErrors) as caught:
        reader.read(file() + "[[export]]\npath = /a\n", "f")
    assert caught.value.lines[0].startswith("f:106: not TOML")
    assert reader.read(file(), "f") == read(file(), "f")


def test_what_looks_like_an_export_in_a_text_is_none() -> None:
    text = f'serial = """\n{BEGIN}\n"""\n'
    assert Tables().of(text, "f") == tomllib.loads(text)
