"""What was typed behind `aoe-target serve`, taken together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aoe import timing
from aoe.cli.paths import Wanted, plan
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.image.formats import KEYED, format_of
from aoe.target.accelerator import EngineOptions
from aoe.target.offer import check_image_id
from aoe.target.rates import LIMITS, Limits, limits_of
from aoe.target.server import TargetOptions
from aoe.wire import protocol


class Serve(NamedTuple):
    """What `aoe-target serve` is to do.

    `wanted` is what is opened (as `opening` says) and served where; `mask` replaces the persisted list.
    `engine` is the code that moves the sectors: `auto`, `c` or `python`; `threads` is for the compiled one.
    """

    wanted: list[Wanted]
    opening: Opening
    interfaces: Sequence[str]
    links: Sequence[str]
    options: TargetOptions
    engine: str
    threads: EngineOptions
    durability: str
    limits: Limits
    copy_of: str | None
    mask: tuple[bytes, ...] | None
    state_dir: Path | None
    reset_state: bool
    force: bool


def meaning(
    *,
    paths: list[str],
    shelf: int,
    slot: int,
    serial: str | None,
    interface: list[str],
    link: list[str],
    cpus: tuple[int, ...],
    spin_us: int,
    **said: Any,
) -> Serve:
    """What the words mean together; ConfigurationError if that is nothing."""
    copy_of = said["copy_of"]
    if copy_of is not None:
        check_image_id(copy_of)
        said["read_only"] = True
    opening = _opening(**_taken(said, "read_only", "direct", "buffered", "shared", "offset", "length"))
    opening = opening._replace(format=said.pop("format"), key_file=said.pop("key_file"))
    wanted = plan(paths, shelf, slot, serial)
    if opening.key_file is not None:
        _check_keyed(wanted, opening.format)
    return Serve(
        wanted=wanted,
        opening=opening,
        interfaces=interface,
        links=link,
        options=_options(
            len(paths), **_taken(said, "frame_age_s", "buffer_count", "remote_admin", "remote_masks")
        ),
        limits=limits_of(**_taken(said, *LIMITS)),
        threads=EngineOptions(len(cpus) or 1, cpus, spin_us),
        **said,
    )


def _taken(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: said.pop(name) for name in names}


def _opening(
    *, read_only: bool, direct: bool, buffered: bool, shared: bool, offset: int, length: int | None
) -> Opening:
    if direct and buffered:
        raise ConfigurationError("--direct and --buffered exclude each other; choose one")
    if shared and buffered:
        raise ConfigurationError("--shared forces direct I/O (a page cache is one host's); drop --buffered")
    if offset < 0 or (length is not None and length < 1):
        raise ConfigurationError("--offset and --length are sectors, and --length is at least 1")
    how = True if direct else False if buffered else None
    return Opening(read_only, how, shared, offset, length)


def _check_keyed(wanted: list[Wanted], form: str) -> None:
    if not any(format_of(str(one.path), form) in KEYED for one in wanted):
        raise ConfigurationError(
            f"--key-file is of an image in {' or '.join(KEYED)}, and none is served; leave it out"
        )


def _options(
    count: int, *, frame_age_s: float, buffer_count: int | None, remote_admin: bool, remote_masks: bool
) -> TargetOptions:
    if buffer_count is not None and not (
        protocol.BUFFER_COUNT_MIN <= buffer_count <= protocol.BUFFER_COUNT_MAX
    ):
        raise ConfigurationError(f"--buffer-count {buffer_count} is not 2 to 65535")
    least, most = timing.FRAME_AGE_MIN_S, timing.FRAME_AGE_MAX_S
    if not least <= frame_age_s <= most:
        raise ConfigurationError(f"--max-frame-age {frame_age_s} is not {least} to {most:g}")
    return TargetOptions(frame_age_s, buffer_count, remote_admin, remote_masks, exports_max=count)
