"""What the command line means, before anything is opened."""

import time
from pathlib import Path

import pytest

from aoe import timing
from aoe.cli.paths import Wanted, check_stores, names_a_disk, quoted, read
from aoe.cli.serve import Words
from aoe.cli.target import main
from aoe.cli.target_parser import command_of
from aoe.errors import ConfigurationError
from tests.support.waiting import PROMPT_S


def planned(*arguments: str) -> list[Wanted]:
    said = command_of(["serve", *arguments])
    assert isinstance(said, Words)
    return said.meaning().wanted


def addresses(*arguments: str) -> list[tuple[int, int]]:
    return [(one.shelf, one.slot) for one in planned(*arguments)]


def test_default_address_and_consecutive_slots() -> None:
    assert addresses("a") == [(0, 0)]
    assert addresses("a", "b", "c") == [(0, 0), (0, 1), (0, 2)]
    assert addresses("a", "b", "--shelf", "7", "--slot", "3") == [(7, 3), (7, 4)]


def test_after_slot_254_comes_the_next_shelf() -> None:
    assert addresses("a", "b", "c", "--slot", "253") == [(0, 253), (0, 254), (1, 0)]


def test_the_shelf_that_linux_refuses_is_left_out() -> None:
    assert addresses("a", "b", "--shelf", "4094", "--slot", "254") == [(4094, 254), (4096, 0)]


def test_a_path_may_name_its_address_and_others_go_on_from_there() -> None:
    assert addresses("a=3.7", "b", "c=1.0") == [(3, 7), (3, 8), (1, 0)]


def test_path_with_equal_signs_address_and_serial() -> None:
    first, second = planned("/x/a=b=1.2,serial=S 1", "/x/c=d")
    assert (str(first.path), first.shelf, first.slot, first.serial) == ("/x/a=b", 1, 2, "S 1")
    assert (str(second.path), second.shelf, second.slot, second.serial) == ("/x/c=d", 1, 3, None)


def test_serial_without_address() -> None:
    (only,) = planned("a,serial=X")
    assert (str(only.path), only.serial) == ("a", "X")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a", "--shelf", "4095"], "shelf 4095"),
        (["a", "--shelf", "65535"], "shelf 65535"),
        (["a=65535.0"], "shelf 65535"),
        (["a", "--slot", "255"], "slot 255"),
        (["a=0.255"], "slot 255"),
        (["a=1.1", "b=1.1"], "address 1.1"),
        (["a", "b", "--serial", "X"], "--serial"),
        (["a", "--serial", "x" * 21], "serial"),
        (["a", "--serial", "ä"], "serial"),
    ],
)
def test_refused_plans(arguments: list[str], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        addresses(*arguments)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--direct", "--buffered"], "--direct and --buffered"),
        (["--shared", "--buffered"], "--shared"),
        (["--buffer-count", "1"], "--buffer-count 1"),
        (["--buffer-count", "65536"], "--buffer-count 65536"),
        (["--max-frame-age", "0.1"], f"{timing.FRAME_AGE_MIN_S} to 3600"),
        (["--max-frame-age", "nan"], "--max-frame-age"),
        (["--offset", "-1"], "--offset"),
        (["--length", "0"], "--length"),
        (["--engine", "c"], "--engine c"),
        (["--mask", "02:00"], "02:00"),
        (["--mask", "01:00:00:00:00:00"], "group address"),
        (["--link", "udp:0.0.0.0:0"], "open to everyone"),
        (["--link", "udp:127.0.0.1:0", "--link", "udp:127.0.0.1:0"], "given twice"),
    ],
)
def test_refused_options_are_one_line_and_status_2(
    arguments: list[str], names: str, tmp_path, capsys
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    state = tmp_path / "state"
    link = [] if "--link" in arguments else ["--link", "udp:127.0.0.1:0"]
    assert main(["serve", str(disk), "--state-dir", str(state), *link, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert names in line
    assert not state.exists()


# Files whose names look like options


@pytest.mark.parametrize(
    ("text", "there", "meant"),
    [
        ("P,serial=ABC=1.0", "P", ("P", (1, 0), "ABC")),
        ("P=1.0,serial=ABC", "P", ("P", (1, 0), "ABC")),
        ("P=1.0", "P=1.0", ("P=1.0", None, None)),
        ("P=1.0=2.3", "P=1.0", ("P=1.0", (2, 3), None)),
        ("P=1.0=2.3", "P=1.0=2.3", ("P=1.0=2.3", None, None)),
        ("P,serial=A", "P,serial=A", ("P,serial=A", None, None)),
        ("P,serial=A=1.0", "P,serial=A", ("P,serial=A", (1, 0), None)),
        ("P,serial=A,serial=B", "P,serial=A", ("P,serial=A", None, "B")),
        ("P=1.0,serial=A", "P=1.0", ("P=1.0", None, "A")),
        ("P\n=1.0", "P\n", ("P\n", (1, 0), None)),
        ("P/=1.0", "P", ("P/", (1, 0), None)),
        ("P,serial=A/", "P", ("P", None, "A/")),
        ("P=1.0/", "P=1.0", ("P=1.0/", None, None)),
        ("P=1.0/=2.0,serial=X", "P=1.0", ("P=1.0/", (2, 0), "X")),
        ("P=" + "9" * 5000 + ".0", "P", ("P=" + "9" * 5000 + ".0", None, None)),
    ],
)
def test_the_reading_that_exists_is_taken(text: str, there: str, meant: tuple[object, ...]) -> None:
    assert read(text, lambda path: path.rstrip("/") == there) == meant


@pytest.mark.parametrize("text", ["P=1.0", "P,serial=A", "P=1.0,serial=A", "P,serial=A=1.0", "P/=1.0"])
def test_where_nothing_exists_the_options_are_options(text: str) -> None:
    path, _, _ = read(text, lambda _: False)
    assert path.rstrip("/") == "P"


@pytest.mark.parametrize(
    ("names", "text", "spellings"),
    [
        (["P", "P=1.0"], "P=1.0", {"P=1.0/": "P=1.0", "P/=1.0": "P"}),
        (["P", "P,serial=A"], "P,serial=A", {"P,serial=A/": "P,serial=A", "P/,serial=A": "P"}),
        (["P", "P,serial=A"], "P,serial=A=1.0", {"P,serial=A/=1.0": "P,serial=A", "P/=1.0,serial=A": "P"}),
        (["P", "P=1.0"], "P=1.0,serial=A", {"P=1.0/,serial=A": "P=1.0", "P/=1.0,serial=A": "P"}),
        (
            ["P", "P,serial=A", "P,serial=A=1.0"],
            "P,serial=A=1.0",
            {"P,serial=A=1.0/": "P,serial=A=1.0", "P,serial=A/=1.0": "P,serial=A", "P/=1.0,serial=A": "P"},
        ),
    ],
)
def test_where_several_exist_each_is_quoted_with_a_spelling_that_works(
    names: list[str], text: str, spellings: dict[str, str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(bytes(512))
    with pytest.raises(ConfigurationError) as refused:
        planned(text)
    message = str(refused.value)
    assert message.startswith(quoted(text))
    for spelling, meant in spellings.items():
        assert quoted(meant) in message
        assert quoted(spelling) in message
        (one,) = planned(spelling)
        assert str(one.path) == meant


def test_a_directory_is_no_reading(tmp_path) -> None:
    (tmp_path / "P").mkdir()
    (tmp_path / "P=1.0").write_bytes(bytes(512))
    assert not names_a_disk(str(tmp_path / "P"))
    (one,) = planned(str(tmp_path / "P=1.0"))
    assert one.path == tmp_path / "P=1.0"
    (tmp_path / "P" / "=1.0").write_bytes(bytes(512))
    (one,) = planned(str(tmp_path / "P" / "=1.0"))
    assert one.path == tmp_path / "P" / "=1.0"


@pytest.mark.parametrize(
    "text", ["P=1.300", "P=4095.0", "P,serial=123456789012345678901", "P=7.0,serial=\u00e4"]
)
def test_a_refusal_quotes_what_was_typed(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        planned(text)
    assert str(refused.value).startswith(f"{quoted(text)}: s")


@pytest.mark.parametrize("options", ["=1.0", ",serial=ABC=1.0", "=1.x"])
def test_a_file_that_is_not_there_is_named_as_it_was_typed(options: str, tmp_path, capsys) -> None:
    text = f"{tmp_path}/missing{options}"
    assert main(["serve", text, "--link", "udp:127.0.0.1:0", "--state-dir", str(tmp_path / "s")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A file by two names and a link, and another one."""
    for name in ("file", "other"):
        (tmp_path / name).write_bytes(bytes(512))
    (tmp_path / "second").hardlink_to(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    return tmp_path


@pytest.mark.parametrize("second", ["file", "second", "link=3.3", "../{}/file"])
def test_one_disk_under_two_names_is_refused_before_anything_is_opened(stores: Path, second: str) -> None:
    """Its own lock would be waited for, and its own process be named as the one to stop."""
    wanted = planned(str(stores / "other"), str(stores / "file"), str(stores / second.format(stores.name)))
    with pytest.raises(ConfigurationError, match=r"file' and '.* are one disk; name it once, or"):
        check_stores(wanted)


def test_other_disks_and_names_that_lead_nowhere_are_no_matter_here(stores: Path) -> None:
    check_stores(planned(str(stores / "file"), str(stores / "other"), "nosuch", "nosuch/either"))


def test_serving_a_disk_twice_is_refused_at_once(
    stores: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "LOCK_WAIT_S", 2 * PROMPT_S)
    before = time.monotonic()
    assert main(["serve", str(stores / "file"), str(stores / "second")]) == 2
    assert "are one disk" in capsys.readouterr().err
    assert time.monotonic() - before < PROMPT_S
