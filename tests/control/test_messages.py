"""Messages: what one side writes the other reads, and nothing that comes in is a surprise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.control.messages import (
    NO_DAEMON,
    REFUSED,
    VERSION,
    Answer,
    Failure,
    Lines,
    Request,
    TooLong,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
facts = st.dictionaries(st.text(), values, max_size=4)


@given(st.integers(), st.text(), facts)
def test_a_request_arrives_as_it_was_sent(number: int, verb: str, arguments: dict[str, Any]) -> None:
    request = Request(number, verb, arguments)
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


@given(
    st.none() | st.integers(),
    facts | st.builds(Failure, st.text(alphabet="ab"), st.just("x y"), st.integers(1, 3)),
)
def test_an_answer_arrives_as_it_was_sent(number: int | None, result: "dict[str, Any] | Failure") -> None:
    line = encode_answer(Answer(number, result))
    assert line.count(b"\n") == 1
    assert decode_answer(line) == Answer(number, result)


@given(st.binary())
def test_garbage_is_answered(line: bytes) -> None:
    found = decode_request(line)
    assert isinstance(found, Answer)
    assert isinstance(found.result, Failure)
    assert isinstance(decode_answer(line).result, Failure)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"version": 1, "id": NaN, "verb": "status"}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", 'no "version"'),
        (b'{"version": "1", "id": 1, "verb": "status"}', 'no "version"'),
        (b'{"version": true, "id": 1, "verb": "status"}', 'no "version"'),
        (b'{"version": 2, "id": 1, "verb": "status"}', "the daemon is older than the command: restart it"),
        (b'{"version": 0, "id": 1, "verb": "status"}', "the command is older"),
        (b'{"version": 1, "verb": "status"}', 'write {"version"'),
        (b'{"version": 1, "id": "1", "verb": "status"}', 'write {"version"'),
        (b'{"version": 1, "id": 1.5, "verb": "status"}', 'write {"version"'),
        (b'{"version": 1, "id": 1, "verb": 7}', 'write {"version"'),
        (b'{"version": 1, "id": 1, "verb": "status", "arguments": []}', 'write {"version"'),
    ],
)
def test_what_is_no_request_is_told_why(line: bytes, told: str) -> None:
    found = decode_request(line)
    assert isinstance(found, Answer)
    assert isinstance(found.result, Failure)
    assert told in found.result.message
    assert found.result.exit == REFUSED


def test_the_id_is_told_back_where_it_is_known() -> None:
    found = decode_request(b'{"version": 9, "id": 41, "verb": "status"}')
    assert isinstance(found, Answer)
    assert found.id == 41


def test_unknown_fields_are_ignored() -> None:
    line = json.dumps({"version": VERSION, "id": 1, "verb": "status", "since": 3, "arguments": {"new": 1}})
    assert decode_request(line.encode()) == Request(1, "status", {"new": 1})
    assert decode_answer(b'{"version": 1, "id": 1, "ok": {"a": 1}, "new": 2}') == Answer(1, {"a": 1})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"\x00", "is no message"),
        (b'{"version": 1, "id": 1}', "restart the daemon"),
        (b'{"version": 7, "id": 1, "done": {}}', "older than the daemon"),
        (b'{"version": 1, "id": 1, "error": {"kind": 1, "message": "x"}}', "cannot be understood"),
    ],
)
def test_what_is_no_answer_is_a_failure(line: bytes, told: str) -> None:
    found = decode_answer(line).result
    assert isinstance(found, Failure)
    assert told in found.message


def test_a_failure_keeps_to_one_line_and_to_the_statuses() -> None:
    found = decode_answer(
        b'{"version": 1, "id": 1, "error": {"kind": "k", "message": "a\\nb", "exit": 99}}'
    ).result
    assert found == Failure("k", "a b", NO_DAEMON)


# Lines


@given(st.lists(st.binary(max_size=9).filter(lambda it: b"\n" not in it)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_they_are_cut(lines: list[bytes], size: int) -> None:
    raw = b"".join(line + b"\n" for line in lines)
    taker = Lines(9)
    assert [line for at in range(0, len(raw), size) for line in taker.feed(raw[at : at + size])] == lines
    assert not taker.is_cut


def test_a_line_without_an_end_is_bounded() -> None:
    taker = Lines(100)
    assert taker.feed(b"x" * 100) == []
    assert taker.is_cut
    with pytest.raises(TooLong):
        taker.feed(b"x")


def test_a_long_line_is_too_long_also_with_its_end() -> None:
    with pytest.raises(TooLong):
        Lines(5).feed(b"123456\n")
