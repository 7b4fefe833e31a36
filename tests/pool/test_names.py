"""What a pool, a volume and a snapshot may be called."""

import pytest

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.names import VolumeName, parse

LONGEST = "a" * limits.POOL_NAME_MAX
ODD = [
    "",
    ".",
    "..",
    ".hidden",
    "-rf",
    "_x",
    "a/b",
    "a@b",
    "a b",
    "a\n",
    "a\0",
    "a\x1b[31m",
    "Bücher",
    "\u0430",
    "a:b",
    "a\\b",
    "a*",
    "$(a)",
    "\udcff",
    LONGEST + "a",
]


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a.b_c", "A", LONGEST, "a.json", "a.json.new"])
def test_a_name_is_letters_and_digits(name: str) -> None:
    assert names.is_name(name)
    assert names.check(name, "volume") == name
    assert parse(f"{name}/{name}@{name}") == VolumeName(name, name, name)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused_in_one_line(name: str) -> None:
    assert not names.is_name(name)
    for what in ("volume", "snapshot", "pool"):
        with pytest.raises(ConfigurationError, match=f"cannot name a {what}; use 1 to 64 letters") as caught:
            names.check(name, what)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
    assert not names.is_volume_name(f"{name}/a")
    assert not names.is_volume_name(f"a/a@{name}")


@pytest.mark.parametrize("text", ["a", "a/", "/a", "a/b/c", "a/b@", "a/@b", "a/b@c@d", "a@b", "/srv/a", ""])
def test_what_names_no_volume_is_told_the_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"POOL/VOLUME|cannot name"):
        parse(text)


def test_names_are_written_as_they_are_read() -> None:
    for text in ("fast/web1", "fast/web1@golden"):
        assert str(parse(text)) == text
    assert names.said("", "web1", "a") == "web1@a"


def test_names_that_differ_by_case_are_one() -> None:
    with pytest.raises(ConfigurationError, match="there is a volume web; choose another name"):
        names.check_free("web", "volume", ["db", "web"])
    with pytest.raises(ConfigurationError, match="volume Web, which differs from web only by case"):
        names.check_free("web", "volume", ["Web"])
    assert names.check_free("web", "volume", ["web1", "we"]) == "web"


def test_a_fresh_name_fits() -> None:
    assert names.fresh("a", []) == "a"
    assert names.fresh("a", ["A", "a-2"]) == "a-3"
    long = names.fresh(LONGEST + "b", [LONGEST])
    assert long == LONGEST[:-2] + "-2"
    assert names.is_name(long)
