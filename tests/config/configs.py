"""Random configurations that are right."""

from typing import Any

from hypothesis import strategies as st

from aoe.config.values import Config, ExportConfig, PoolConfig, TargetConfig, is_link, place_of
from aoe.wire import protocol

_words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_names = st.from_regex(r"[A-Za-z0-9_.*?\[\]@-]{1,15}", fullmatch=True).filter(
    lambda it: it not in (".", "..")
)
_macs = st.binary(min_size=6, max_size=6).map(lambda it: bytes([it[0] & 0xFE]) + it[1:])
_interfaces = _names | _macs.map(lambda it: it.hex(":"))
_links = st.integers(1, 65535).map(lambda port: f"udp:127.0.0.1:{port}")
_serials = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
_bandwidths = st.just(0) | st.integers(1 << 16, 1 << 40) | st.integers(1, 1 << 20).map(lambda it: it << 20)
_shelves = st.integers(0, protocol.SHELF_MAX).filter(lambda it: it != protocol.SHELF_REFUSED_BY_LINUX)
_paths = _words.map(lambda it: f"/{it}") | st.sampled_from(["LABEL", "UUID"]).flatmap(
    lambda tag: _words.filter(bool).map(lambda it: f"{tag}={it}")
)


def _some(items: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=least, max_size=3, unique=True).map(tuple)


@st.composite
def targets(draw: st.DrawFn) -> TargetConfig:
    cpus = draw(_some(st.integers(0, 8191)))
    links = draw(_some(_links))
    return TargetConfig(
        engine=draw(st.sampled_from(["auto", "python"] if links else ["auto", "c", "python"])),
        threads=1 if cpus else draw(st.integers(1, 256)),
        cpus=cpus,
        spin=draw(st.booleans()),
        interfaces=draw(_some(_interfaces)),
        links=links,
        max_frame_age=draw(st.floats(0.5, 3600)),
        buffer_count=draw(st.none() | st.integers(2, 65535)),
        remote_admin=draw(st.booleans()),
        remote_masks=draw(st.booleans()),
        state_dir=draw(st.none() | _words.map(lambda it: f"/{it}")),
        control_group=draw(st.none() | st.sampled_from(["disk", "_a-b", "x$"])),
        control_readers=draw(st.sampled_from(["group", "all"])),
        metrics=draw(st.none() | st.sampled_from(["127.0.0.1:9882", "[::1]:1", "0.0.0.0:65535"])),
        metrics_clients=draw(st.booleans()),
        log_level=draw(st.sampled_from(["debug", "info", "warning", "error"])),
        json=draw(st.booleans()),
    )


@st.composite
def exports(draw: st.DrawFn, links: tuple[str, ...] = ()) -> ExportConfig:
    named = _interfaces | st.sampled_from(links) if links else _interfaces
    shared = draw(st.booleans())
    copy_of = draw(st.none() | _serials)
    return ExportConfig(
        path=draw(_paths),
        shelf=draw(_shelves),
        slot=draw(st.integers(0, protocol.SLOT_MAX)),
        serial=draw(st.none() | _serials),
        offset=draw(st.integers(0, 100)),
        length=draw(st.none() | st.integers(1, 100)),
        durability=draw(st.sampled_from(["write-through", "write-back"])),
        direct=draw(st.sampled_from([None, True]) if shared else st.sampled_from([None, True, False])),
        shared=shared,
        read_only=copy_of is not None or draw(st.booleans()),
        copy_of=copy_of,
        mask=draw(st.none() | _some(_macs)),
        interfaces=draw(st.none() | _some(named, 1)),
        limit_iops=draw(st.just(0) | st.integers(10, 10**9)),
        limit_bandwidth=draw(_bandwidths),
        limit_client_iops=draw(st.just(0) | st.integers(10, 10**9)),
        limit_client_bandwidth=draw(_bandwidths),
        limit_burst=draw(st.floats(0, 60)),
        force=draw(st.booleans()),
        reset_state=draw(st.booleans()),
    )


@st.composite
def configs(draw: st.DrawFn, least: int = 0) -> Config:
    """At least so many exports, and at most 4."""
    target = draw(targets())
    found: list[ExportConfig] = []
    for _ in range(draw(st.integers(least, 4))):
        one = draw(exports(target.links).filter(lambda it: _is_new(it, found)))
        found.append(one)
    assert not any(map(is_link, target.interfaces))
    return Config(target, tuple(found), tuple(draw(pools)))  # schedules have their own test


_NAMED = {"name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)}
_LVM = st.from_regex(r"[A-Za-z0-9+_][A-Za-z0-9+_.-]{0,20}", fullmatch=True)
_RESERVE = {"reserve": st.integers(0, 90)}
pools = st.lists(
    st.builds(PoolConfig, **_NAMED, **_RESERVE, path=_words.map(lambda it: f"/{it}"))
    | st.builds(PoolConfig, **_NAMED, **_RESERVE, kind=st.just("lvm-thin"), vg=_LVM, thin_pool=_LVM),
    max_size=2,
    unique_by=(lambda it: it.name.casefold(), lambda it: place_of(it.place)),
)


def _is_new(one: ExportConfig, others: list[ExportConfig]) -> bool:
    return not any(
        one.key == it.key or one.place == it.place or (one.serial is not None and one.serial == it.serial)
        for it in others
    )
