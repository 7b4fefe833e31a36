"""Pictures are well-formed, and everything in them is where its numbers are."""

import re
from random import Random
from xml.etree import ElementTree

import pytest

from aoe.cli.svg import Frame, Panel, Scale, duration, picture, plainly

FRAME = Frame(100, 50, 200, 100)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(panel: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(picture(400, 300, [panel]))


def test_a_line_is_where_its_points_are() -> None:
    panel = Panel(FRAME, Scale(0, 10), Scale(0, 5))
    panel.line([(0, 0), (5, 2.5), (10, 5), None, (10, 99)], "#123456", "it")
    first, second = drawn(panel).iter(f"{SVG}polyline")
    assert first.get("points") == "100.0,150.0 200.0,100.0 300.0,50.0"
    assert second.get("points") == "300.0,50.0 300.0,50.0", "a point alone is seen, and stays inside"


def test_a_box_is_between_its_corners() -> None:
    panel = Panel(FRAME, Scale(0, 10), Scale(0, 5))
    panel.box((2, 0), (4, 5), "#123456")
    panel.band(8, 10, "#654321")
    boxes = [it for it in drawn(panel).iter(f"{SVG}rect") if it.get("fill") in ("#123456", "#654321")]
    places = [[float(it.get(name, "")) for name in ("x", "y", "width", "height")] for it in boxes]
    assert places == [[140, 50, 40, 100], [260, 50, 40, 100]]


def test_a_mark_and_a_legend_are_there_once() -> None:
    panel = Panel(FRAME, Scale(0, 10), Scale(0, 5), "a title")
    panel.mark(5, "#111111")
    for _ in range(3):
        panel.line([(0, 0), (1, 1)], "#222222", "said once")
    root = drawn(panel)
    assert [it.get("x1") for it in root.iter(f"{SVG}line") if it.get("stroke-dasharray")] == ["200.0"]
    texts = [it.text for it in root.iter(f"{SVG}text")]
    assert texts.count("said once") == 1
    assert "a title" in texts


@pytest.mark.parametrize("words", ["<a> & b", '"x"', "\x1b[2J", "]]>", "\u202e"])
def test_whatever_is_in_a_title(words: str) -> None:
    texts = [it.text for it in drawn(Panel(FRAME, Scale(0, 1), Scale(0, 1), words)).iter(f"{SVG}text")]
    assert any(text is not None and text.isprintable() for text in texts)


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_few_and_within(seed: int) -> None:
    rng = Random(seed)
    for log in (False, True):
        least = 10 ** rng.uniform(-9, 3)
        scale = Scale(least, least * 10 ** rng.uniform(1, 6), log=log)
        places = [scale.place(value) for value, _ in scale.ticks()]
        assert 1 <= len(places) <= 12
        assert places == sorted(places)
        assert all(0 <= it <= 1 for it in places)


def test_scales_without_width_can_be_drawn() -> None:
    for scale in (Scale(0, 0), Scale(5, 5), Scale(1, 1, log=True)):
        panel = Panel(FRAME, scale, scale)
        panel.line([(scale.least, scale.least)], "#333333")
        assert not re.search("nan|inf", ElementTree.tostring(drawn(panel)).decode())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2, "2 s"),
        (0.05, "50 ms"),
        (1e-3, "1 ms"),
        (2.5e-4, "250 us"),
        (1e-6, "1 us"),
        (1e-9, "1 ns"),
        (9.996e-4, "1 ms"),
        (9.99e-4, "999 us"),
    ],
)
def test_times_are_said_in_their_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_are_said_shortly() -> None:
    assert [plainly(it) for it in (0, 0.5, 999, 1500, 2e6, 3e9)] == ["0", "0.5", "999", "1.5k", "2M", "3G"]
