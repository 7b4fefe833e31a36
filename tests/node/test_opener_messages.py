"""What the opener and the other side say: all of it comes through, and nothing else is taken for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aoe import limits
from aoe.disk.open import Opening, disk_of, open_store
from aoe.node.opener_messages import (
    Answer,
    Misunderstood,
    Request,
    decode_answer,
    decode_request,
    encode,
    store_facts,
    store_of,
)
from aoe.node.opener_portions import places_in
from aoe.target.naming import key_of
from tests.disk.helpers import sparse

REQUEST = {"version": 1, "id": 3, "verb": "store", "arguments": {}}
ANSWER = {"version": 1, "id": 3, "ok": {}, "descriptors": 1, "said": []}


@pytest.mark.parametrize(
    "request_",
    [
        Request(0, "", {}),
        Request(1 << 60, "store", {"address": [1, 2], "path": "/with\nlines and \udcff no text"}),
    ],
)
def test_a_request_comes_through(request_: Request) -> None:
    assert decode_request(encode(request_)) == request_


@pytest.mark.parametrize(
    "answer",
    [
        Answer(1, {"a": [1, None, "é"]}, 2, ("said", "so")),
        Answer(2, {}),
        Answer(3, {}, said=("before",), error="it is not there"),
    ],
)
def test_an_answer_comes_through(answer: Answer) -> None:
    assert decode_answer(encode(answer)) == answer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b"{}", "version None, and this side speaks 1"),
        (b" " * (limits.OPENER_MESSAGE_BYTES_MAX + 1), "too long"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, says: str) -> None:
    for decode in (decode_request, decode_answer):
        with pytest.raises(Misunderstood, match=says):
            decode(data)


@pytest.mark.parametrize("version", [0, 2, -1, True, 1.0, "1", None, [1], "x" * 1000])
def test_another_version_is_refused(version: Any) -> None:
    for whole, decode in ((REQUEST, decode_request), (ANSWER, decode_answer)):
        with pytest.raises(Misunderstood, match="this side speaks 1") as caught:
            decode(json.dumps({**whole, "version": version}).encode())
        assert len(str(caught.value)) < 100


@pytest.mark.parametrize("name", ["id", "verb", "arguments"])
@pytest.mark.parametrize("value", [None, True, 1.5, "", [], {}, 1])
def test_a_field_of_a_request_has_its_type(name: str, value: Any) -> None:
    if type(value) is type(REQUEST[name]):
        return
    with pytest.raises(Misunderstood, match=f"{name} is missing"):
        decode_request(json.dumps({**REQUEST, name: value}).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": True},
        {"ok": []},
        {"ok": None},
        {"descriptors": -1},
        {"descriptors": limits.OPENER_DESCRIPTORS_MAX + 1},
        {"descriptors": True},
        {"said": "x"},
        {"said": [1]},
        {"error": None},
        {"error": ["x"]},
    ],
)
def test_a_field_of_an_answer_has_its_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misunderstood):
        decode_answer(json.dumps({**ANSWER, **wrong}).encode())


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(Misunderstood, match="too long"):
        encode(Request(1, "find", {"places": ["x" * limits.OPENER_MESSAGE_BYTES_MAX]}))


def test_the_longest_paths_fit() -> None:
    worst = "\udcff" * 4096
    for places in ([worst] * 3, ["/dev/disk/by-id/usual-0123456789"] * 3000):
        for some in places_in(places):
            assert decode_request(encode(Request(1, "find", {"places": some})))
            stores = {f"{at}{place}"[: len(place)]: [1 << 63, 1 << 63] for at, place in enumerate(some)}
            assert decode_answer(encode(Answer(1, {"stores": stores})))


@pytest.mark.parametrize("how", [Opening(), Opening(read_only=True, offset=8, length=16)])
def test_a_store_comes_through(how: Opening, tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 64)
    opened = open_store(path, how)
    key = key_of(path, opened, how)
    told = json.loads(json.dumps(store_facts(opened, key, (1, 2))))
    assert "-1" in json.dumps(told["store"])
    assert store_of(told, opened.store.fd) == (opened, key, (1, 2))
    disk_of(opened).close()


@pytest.mark.parametrize("name", ["store", "beneath", "facts", "name", "key", "token"])
@pytest.mark.parametrize("wrong", [None, [], [1], ["x"] * 40, [{}] * 8, "x", [[]] * 3])
def test_damaged_facts_are_refused(name: str, wrong: Any, tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 64)
    opened = open_store(path)
    told = store_facts(opened, key_of(path, opened, Opening()), (1, 2))
    disk_of(opened).close()
    if name == "token" and isinstance(wrong, list) and wrong in ([], [1], ["x"] * 40):
        return  # what tells one store from another has no form
    with pytest.raises(Misunderstood):
        store_of({**told, name: wrong}, 0)
