"""Reading a configuration file: what it means, and all that is wrong with it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aoe import limits
from aoe.config.faults import ConfigErrors
from aoe.config.read import read
from aoe.config.values import Config, ExportConfig, PoolConfig, TargetConfig
from aoe.errors import ConfigurationError

A = '[[export]]\npath = "/a"\nshelf = 1\nslot = 0\n'
B = '[[export]]\npath = "/b"\nshelf = 1\nslot = 1\n'
HOST = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")

WRONG = [
    case.split("\n====\n")
    for case in re.sub("\n\n#.*", "", (Path(__file__).parent / "wrong.txt").read_text()).split("\n----\n")[1:]
]


def said(text: bytes | str, name: str = "f.toml") -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(text, name)
    return caught.value.lines


def only(text: str) -> ExportConfig:
    (export,) = read(text, "f.toml").exports
    return export


def test_pools_are_read() -> None:
    pool = '[[pool]]\nname = "fast"\npath = "/srv/fast"\n'
    (found,) = read(pool, "f.toml").pools
    assert found == PoolConfig(name="fast", path="/srv/fast", kind="directory", reserve=10)
    assert read(f'{pool}kind = "directory"\nreserve = 0\n', "f.toml").pools[0].reserve == 0
    thin = '[[pool]]\nname = "fast"\nkind = "lvm-thin"\nvg = "vg0"\nthin-pool = "a+b_c.d-e"\n'
    (of_lvm,) = read(thin, "f.toml").pools
    assert of_lvm == PoolConfig(name="fast", kind="lvm-thin", vg="vg0", thin_pool="a+b_c.d-e")
    assert (found.place, of_lvm.place) == ("/srv/fast", "vg0/a+b_c.d-e")
    many = "".join(f'[[pool]]\nname = "p{it}"\npath = "/p{it}"\n' for it in range(limits.POOLS_MAX + 1))
    assert said(many) == ["f.toml:193: 65 pools; name 64 at most"]


@pytest.mark.parametrize(("text", "messages"), WRONG, ids=range(len(WRONG)))
def test_all_that_is_wrong_is_said(text: str, messages: str) -> None:
    assert said(f"{text}\n") == messages.strip().split("\n")


def test_the_table_is_long() -> None:
    assert len(WRONG) >= 120
    assert len({text for text, _ in WRONG}) == len(WRONG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe[\x00t\x00", "f.toml:1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"# a\n[target]\n#\xe9\n", "f.toml:3: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (
            b"\xef\xbb\xbf[target]\n",
            "f.toml:1: begins with a byte order mark; save the file as UTF-8 without one",
        ),
        (
            b"\0" * 512,
            "f.toml:1: not TOML: Invalid statement at column 1; write KEY = VALUE, or [TABLE], or # before a "
            "comment",
        ),
        (
            '[target]\nengine = "c\x00"\n',
            "f.toml:2: not TOML: Illegal character '\\x00' at column 12; mend or remove it",
        ),
        (
            "[target]\n\nmax-frame-age = " + "9" * 5000,
            "f.toml:3: a number of more digits than can be read; write a smaller one",
        ),
        ("[target]\ncpus = " + "[" * 20000, "f.toml:1: lists within lists without end; write plain lists"),
        (
            "[target]\rengine = 'c'\r",
            "f.toml:1: not TOML: Expected newline or end of document after a statement at column 9; write "
            "one key in each line",
        ),
        (
            (A + "engine = 1\n").replace("\n", "\r\n"),
            "f.toml:5: e1.0: engine is no key of [[export]]; put it into [target]",
        ),
        (
            A + 'mask = """\n02:00\n"""\nslots = 1\n',
            "f.toml:8: e1.0: slots is no key of [[export]]; is slot meant?",
        ),
    ],
    ids=range(10),
)
def test_bytes_that_no_editor_leaves(text: bytes | str, message: str) -> None:
    assert message in said(text)


@pytest.mark.parametrize("part", ["a", '"a"', "'a'", " a\t"])
@pytest.mark.parametrize(
    ("before", "behind"), [("", " = 1"), ("[", "]"), ("x = {", " = 1}"), ("y = 1\n[[", "]]")]
)
def test_a_key_without_end_does_not_take_all_memory(part: str, before: str, behind: str) -> None:
    text = f"# {'a.' * 99}\n{before}{'.'.join([part] * 100_000)}{behind}\n"
    (line,) = said(text)
    assert line.endswith(": a key of many parts; write [TABLE] and KEY = VALUE")
    assert line.startswith(f"f.toml:{text.count(chr(10))}:")


def test_names_with_many_dots_are_no_keys() -> None:
    path = "/" + "a." * 40
    assert only(A.replace("/a", path)).path == path


@pytest.mark.parametrize("text", ["x" * (4 << 20), "[[x]]\n" * 50_000, '"' * (4 << 20), "a.b=1\n" * 50_000])
def test_large_files_are_judged_in_time(text: str) -> None:
    assert said(text)


@pytest.mark.parametrize("filler", [b"\n", b"[", b"a", b"\xff"])
def test_ten_mebibytes_are_refused_before_they_are_read(filler: bytes) -> None:
    message = f"f.toml:1: larger than {limits.CONFIG_BYTES_MAX} bytes; this is no configuration file"
    assert said(filler * (10 << 20)) == [message]


def test_a_file_that_is_cut_anywhere_is_wrong_or_means_less() -> None:
    """A cut file is never another file: each export that it has is one of the whole."""
    text = '[target]\nengine = "c"\n[defaults]\nread-only = true\n' + A + 'mask = ["02:00:00:00:00:01"]\n' + B
    whole = {it.key: it for it in read(text, "f.toml").exports}
    parts = [part for end in range(len(text)) if (part := told(text[:end])) is not None]
    assert 0 < len(parts) < len(text) / 2
    for part in parts:
        assert all(replace(whole[it.key], mask=None) == replace(it, mask=None) for it in part.exports)


def told(text: str) -> Config | None:
    """What it means; None where all is said that is wrong, each in a line."""
    try:
        return read(text, "f.toml")
    except ConfigErrors as error:
        lines = error.lines
    assert all(re.match(r"f\.toml:\d+: ", line) for line in lines)
    return None


def test_faults_are_bounded() -> None:
    lines = said("[target]\n" + "".join(f"k{n} = 1\n" for n in range(5000)))
    assert len(lines) == limits.CONFIG_FAULTS_MAX + 1
    assert lines[-1] == "f.toml:101: 100 faults are listed; there may be more"


def test_too_many_exports() -> None:
    text = "".join(
        f'[[export]]\npath = "/{n}"\nshelf = {n // 255}\nslot = {n % 255}\n'
        for n in range(limits.EXPORTS_MAX + 1)
    )
    assert said(text) == [f"f.toml:{limits.EXPORTS_MAX * 4 + 1}: 4097 exports; serve 4096 at most"]


def test_the_error_is_one_line_and_has_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("a = 1\nb = 2\n", "/etc/a\nb.toml")
    assert isinstance(caught.value, ConfigErrors)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("/etc/a\\u000ab.toml:1: a is outside of a table")
    assert str(caught.value).endswith(" (1 more; see aoe-target check)")
    assert [(fault.line, fault.where) for fault in caught.value.faults] == [(1, ""), (2, "")]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_nothing_is_a_configuration(ending: str) -> None:
    assert read(ending, "f.toml") == Config()
    assert read(b"# nothing yet" + ending.encode(), "f.toml") == Config()


def test_every_key_has_its_value() -> None:
    text = """
[target]
interfaces = ["eth1", "enx*", "02:00:00:00:00:AA", "02-00-00-00-00-BB"]
links = ["udp:127.0.0.1:7000,peer=h:1,mtu=9000"]
engine = "python"
cpus = [1, 0]
spin = false
max-frame-age = 2
buffer-count = 16
remote-admin = false
remote-masks = false
state-dir = "/s"
control-group = "disk"
control-readers = "all"
metrics = "[::1]:9882"
metrics-clients = true
log-level = "debug"
json = true
[[export]]
path = "UUID=a-b"
shelf = 65534
slot = 254
serial = "S 1"
offset = 8
length = 16
durability = "write-back"
direct = true
shared = true
read-only = true
mask = ["02-00-00-00-00-01", "020000000001"]
interfaces = ["eth2", "udp:127.0.0.1:7000,peer=h:1,mtu=9000"]
force = true
reset-state = true
"""
    link = "udp:127.0.0.1:7000,peer=h:1,mtu=9000"
    target = TargetConfig(
        interfaces=("eth1", "enx*", "02:00:00:00:00:aa", "02:00:00:00:00:bb"),
        links=(link,),
        engine="python",
        cpus=(1, 0),
        spin=False,
        max_frame_age=2.0,
        buffer_count=16,
        remote_admin=False,
        remote_masks=False,
        state_dir="/s",
        control_group="disk",
        control_readers="all",
        metrics="[::1]:9882",
        metrics_clients=True,
        log_level="debug",
        json=True,
    )
    export = ExportConfig(
        path="UUID=a-b",
        shelf=65534,
        slot=254,
        serial="S 1",
        offset=8,
        length=16,
        durability="write-back",
        direct=True,
        shared=True,
        read_only=True,
        mask=(HOST,),
        interfaces=("eth2", link),
        force=True,
        reset_state=True,
    )
    assert read(text, "f.toml") == Config(target, (export,))
    assert isinstance(read(text, "f.toml").target.max_frame_age, float)


def test_defaults_are_for_exports_that_say_nothing() -> None:
    text = '[defaults]\nread-only = true\ndurability = "write-back"\n' + A + B + "read-only = false\n"
    first, second = read(text, "f.toml").exports
    assert (first.read_only, second.read_only) == (True, False)
    assert first.durability == second.durability == "write-back"


def test_groups_are_their_hosts() -> None:
    groups = '[groups]\nops = ["02:00:00:00:00:01", "02:00:00:00:00:02"]\n'
    assert only(groups + A + 'mask = ["ops"]\n').mask == (HOST, OTHER)
    assert only(groups + A + 'mask = ["02:00:00:00:00:02", "ops"]\n').mask == (OTHER, HOST)
    assert only(groups + '[defaults]\nmask = ["ops"]\n' + A).mask == (HOST, OTHER)


def test_a_mask_that_is_not_stated_is_not_an_open_one() -> None:
    assert only(A).mask is None
    assert only(A + 'mask = "any"\n').mask == ()
    assert only('[defaults]\nmask = ["02:00:00:00:00:01"]\n' + A + 'mask = "any"\n').mask == ()


def test_parts_of_a_store_that_do_not_touch() -> None:
    first, second = A + "length = 8\n", B.replace("/b", "/a") + "offset = 8\n"
    assert len(read(first + second, "f.toml").exports) == 2


def test_a_store_that_is_only_read_may_be_served_twice() -> None:
    both = A + B.replace("/b", "/a")
    assert len(read("[defaults]\nread-only = true\n" + both, "f.toml").exports) == 2
    three = both + "read-only = true\n" + both.replace("shelf = 1", "shelf = 2")
    assert len(said(three)) == 3


def test_a_writer_overlaps_an_earlier_reader_behind_another() -> None:
    """The part that reaches furthest counts, not the one before."""
    parts = [
        "read-only = true\nlength = 100",
        "offset = 10\nlength = 1\nread-only = true",
        "offset = 50\nlength = 1",
    ]
    text = "".join(
        f'[[export]]\npath = "/a"\nshelf = 1\nslot = {n}\n{part}\n' for n, part in enumerate(parts)
    )
    (line,) = said(text)
    assert "e1.2" in line
    assert "e1.0 serves" in line


def test_a_thousand_faulty_exports_are_read_in_time() -> None:
    """The places are found in one pass; a search for each would take minutes."""
    many = "".join(f'[[export]]\npath = "/{n}"\nshelf = {n // 255}\nslot = {n % 255}\n' for n in range(2000))
    assert len(said(many + 'mask = ["x"]\n')) == 1
