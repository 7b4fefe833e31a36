"""How families are written, whatever is in their labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aoe.metrics.exposition import Family, Part, Sheet, labels, of_histogram

FAMILY = Family("aoe_x_total", "counter", 'All of it: 100 % of "it", \\ and\nmore.')


def one(text: bytes) -> tuple[dict[str, str], float]:
    (family,) = text_string_to_metric_families(text.decode())
    (sample,) = family.samples
    return sample.labels, sample.value


@given(st.dictionaries(st.sampled_from(["export", "path"]), st.text()))
def test_labels_come_back_as_they_were(said: dict[str, str]) -> None:
    (piece,) = Sheet().write(FAMILY, [labels(said)], [5])
    assert len(piece.decode().split("\n")) == 4, "a line has no other line in it"
    if "\r" in "".join(said.values()) or "\x85" in "".join(said.values()):
        return  # the parser of prometheus-client splits there, Prometheus does not
    assert one(piece) == (said, 5)


@pytest.mark.parametrize("path", ["/a%s%d%", "/\udcff", 'x",y="', "\\", "\\n", "\n# TYPE", ""])
def test_a_path_makes_no_other_series(path: str) -> None:
    (piece,) = Sheet().write(FAMILY, [labels({"path": path})], [1.5])
    assert one(piece) == ({"path": path.encode("utf-8", "replace").decode()}, 1.5)


def test_the_help_is_one_line() -> None:
    (piece,) = Sheet().write(FAMILY, [""], [1])
    (family,) = text_string_to_metric_families(piece.decode())
    assert family.documentation == FAMILY.help
    assert piece.endswith(b"aoe_x_total 1\n")


def test_nothing_is_said_of_what_nothing_has() -> None:
    assert [*Sheet().write(FAMILY, [], [])] == []


@pytest.mark.parametrize("values", [[1], [1, 2, 3]])
def test_each_owner_has_one_value_for_each_part(values: list[int]) -> None:
    with pytest.raises((TypeError, AssertionError)):
        list(Sheet().write(FAMILY, ['a="b"'], values, [Part("", 'c="d"'), Part("", 'c="e"')]))


def test_a_writing_that_is_given_up_leaves_nothing_half() -> None:
    sheet, owners = Sheet(), [f'a="{at}"' for at in range(3000)]
    assert next(sheet.write(FAMILY, owners, range(3000)))
    whole = b"".join(sheet.write(FAMILY, owners, range(3000)))
    assert whole == b"".join(Sheet().write(FAMILY, owners, range(3000)))


def test_a_histogram_has_its_bounds() -> None:
    family = Family("aoe_h_seconds", "histogram", "H.")
    (piece,) = Sheet().write(family, ['a="b"'], [1, 3, 6, 0.25, 6], of_histogram([0.5, 2]))
    assert piece.decode().splitlines()[2:] == [
        'aoe_h_seconds_bucket{a="b",le="0.5"} 1',
        'aoe_h_seconds_bucket{a="b",le="2"} 3',
        'aoe_h_seconds_bucket{a="b",le="+Inf"} 6',
        'aoe_h_seconds_sum{a="b"} 0.25',
        'aoe_h_seconds_count{a="b"} 6',
    ]
