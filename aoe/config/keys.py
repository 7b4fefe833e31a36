"""Every key of the configuration file, once: what it takes, what it means, which option of `serve` it is.

Reading, writing, editing and the manual go by these tables; tests compare them with the parser of `serve` and
with the fields of the values.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from aoe import limits, timing
from aoe.config import kinds, meanings
from aoe.config.kinds import Bandwidth, Choice, Flag, Interface, Kind, Limit, Many, Mask, Seconds, Text, Whole
from aoe.drive.identify import is_image_id, is_serial
from aoe.image.formats import AUTO, FORMATS, RAW
from aoe.link.spec import is_spelled
from aoe.pool import names
from aoe.wire import protocol


class Key(NamedTuple):
    """One key. `options` are those of `serve`, and what is written instead of each. One that is
    `everywhere` may also stand in [defaults]. `example` is what is written where there is no option."""

    name: str
    kind: Kind
    help: str
    options: Mapping[str, str] = {}
    everywhere: bool = False
    example: str = ""

    @property
    def written(self) -> str:
        """An example of it."""
        return self.example or next(iter(self.options.values()))

    @property
    def field(self) -> str:
        """The name of the field that has its value."""
        return self.name.replace("-", "_")


_SECTORS = protocol.LBA48_SECTORS

TARGET = (
    Key(
        "interfaces",
        Many(Interface(), "interfaces, each by name, alternative name, MAC or glob", limits.LINKS_MAX),
        "Ethernet interfaces or bridges that every export is served on which names none of its own. Without "
        "any, and without `links`, it is the only Ethernet interface that is up",
        {"--interface": 'interfaces = ["eth1"]'},
    ),
    Key(
        "links",
        Many(
            Text("udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]", is_spelled),
            "UDP links, each udp:BIND:PORT[,peer=HOST:PORT...][,mtu=N]",
            limits.LINKS_MAX,
        ),
        "Ethernet frames in UDP datagrams, as QEMU carries them. Only loopback may be bound unless peers are "
        "named",
        {"--link": 'links = ["udp:127.0.0.1:7000"]'},
    ),
    Key(
        "engine",
        Choice("auto", "c", "python"),
        meanings.ENGINE,
        {"--engine": 'engine = "auto"'},
    ),
    Key("threads", Whole(1, limits.ENGINE_THREADS_MAX), "threads of the engine (1)"),
    Key(
        "cpus",
        Many(Whole(0, limits.CPU_NUMBER_MAX), "CPU numbers", limits.ENGINE_THREADS_MAX),
        "one engine thread on each of these CPUs, instead of `threads`",
        {"--cpus": "cpus = [0, 1]"},
    ),
    Key(
        "spin",
        Flag(),
        "whether the engine waits busily for a moment before it sleeps (true)",
        {"--no-spin": "spin = false"},
    ),
    Key(
        "max-frame-age",
        Seconds(timing.FRAME_AGE_MIN_S, timing.FRAME_AGE_MAX_S),
        meanings.MAX_FRAME_AGE,
        {"--max-frame-age": "max-frame-age = 1"},
    ),
    Key(
        "buffer-count",
        Whole(protocol.BUFFER_COUNT_MIN, protocol.BUFFER_COUNT_MAX),
        meanings.BUFFER_COUNT,
        {"--buffer-count": "buffer-count = 64"},
    ),
    Key(
        "remote-admin",
        Flag(),
        "false refuses every change of config string, mask list and reservation that comes over the network "
        "(true)",
        {"--no-remote-admin": "remote-admin = false"},
    ),
    Key(
        "remote-masks",
        Flag(),
        "false refuses every change of the mask list that comes over the network (true)",
        {"--no-remote-masks": "remote-masks = false"},
    ),
    Key(
        "state-dir",
        Text("an absolute path", kinds.is_directory),
        meanings.STATE_DIR,
        {"--state-dir": 'state-dir = "/var/lib/aoe-target"'},
    ),
    Key(
        "control-group",
        Text("the name of a group of users", kinds.is_control_group),
        "its members may change over the control socket what names neither a store nor an interface; without "
        "it root alone may",
    ),
    Key(
        "control-readers",
        Choice("group", "all"),
        "which users besides root may look at the status: the control group (default), or all",
    ),
    Key(
        "metrics",
        Text("HOST:PORT, where the host is an address", kinds.is_endpoint),
        "where Prometheus may ask for metrics, with HTTP at /metrics; any host that gets there may ask. By "
        "default only where the service manager listens for it (aoe-target-metrics.socket: 127.0.0.1:9882)",
    ),
    Key(
        "metrics-clients",
        Flag(),
        "whether metrics tell what each client did, too: up to 64 of an export, and 1,024 in all (false)",
    ),
    Key(
        "log-level",
        Choice("debug", "info", "warning", "error"),
        'the least that is logged ("info")',
        {"--verbose": 'log-level = "debug"'},
    ),
    Key("json", Flag(), "print JSON, one object a line (false)", {"--json": "json = true"}),
)

EXPORT = (
    Key(
        "path",
        Text(
            "an absolute path, or LABEL=, UUID=, PARTLABEL= or PARTUUID= with a value, or POOL/VOLUME",
            kinds.is_path,
        ),
        "file or block device. `UUID=` and `LABEL=` name a file system, `PARTUUID=` and `PARTLABEL=` a "
        "partition. `POOL/VOLUME` is a volume of a pool of this file, and `POOL/VOLUME@SNAPSHOT` a snapshot "
        "of it, which is read-only",
        {"PATH": 'path = "/dev/md0"'},
    ),
    Key(
        "shelf",
        Whole(0, protocol.SHELF_MAX, protocol.SHELF_REFUSED_BY_LINUX),
        "shelf of its address; Linux refuses 4095",
        {"--shelf": "shelf = 0"},
    ),
    Key("slot", Whole(0, protocol.SLOT_MAX), "slot of its address", {"--slot": "slot = 0"}),
    Key(
        "serial",
        Text(f"1 to {protocol.SERIAL_MAX} printable ASCII characters without blanks around", is_serial),
        "serial number. By default it is made of the id of the store; a store without an id gets a random "
        "one, which is kept",
        {"--serial": 'serial = "TEXT"'},
    ),
    Key(
        "offset",
        Whole(0, _SECTORS - 1),
        "serve from this sector of 512 bytes on (0)",
        {"--offset": "offset = 0"},
    ),
    Key("length", Whole(1, _SECTORS), meanings.LENGTH, {"--length": "length = 2048"}),
    Key(
        "durability",
        Choice("write-through", "write-back"),
        meanings.DURABILITY,
        {"--durability": 'durability = "write-back"'},
        everywhere=True,
    ),
    Key(
        "direct",
        Flag(),
        "true bypasses the page cache (default for block devices), false uses it (default for files)",
        {"--direct": "direct = true", "--buffered": "direct = false"},
        everywhere=True,
    ),
    Key(
        "shared",
        Flag(),
        "another host serves the same store: take no lock, bypass the page cache, and write nothing smaller "
        "than a block of the store (false)",
        {"--shared": "shared = true"},
        everywhere=True,
    ),
    Key(
        "read-only",
        Flag(),
        "answer writes with an ATA error (false)",
        {"--read-only": "read-only = true"},
        everywhere=True,
    ),
    Key(
        "copy-of",
        Text(f"1 to {limits.IMAGE_ID_MAX} printable ASCII characters without blanks", is_image_id),
        meanings.COPY_OF,
        {"--copy-of": 'copy-of = "IMAGE"'},
    ),
    Key(
        "format",
        Choice(AUTO, RAW, *FORMATS),
        "what the file is an image in. By default (auto) what its name ends with (`.qcow2`, `.vhdx`, "
        "`.vmdk`, `.vdi` or `.luks`), else raw: what stands in the file is never asked",
        {"--format": 'format = "qcow2"'},
    ),
    Key(
        "key-file",
        Text("an absolute path", kinds.is_directory),
        "file with the key of an image in luks, or of an encrypted one in qcow2; a newline at its end counts",
        {"--key-file": 'key-file = "/etc/aoe/disk.key"'},
    ),
    Key(
        "mask",
        Mask(),
        'serve only these hosts; "any" serves every host. What is said here replaces the mask list that was '
        "kept; without this key the list stays as it was",
        {"--mask": 'mask = ["02:00:00:00:00:01"]'},
        everywhere=True,
    ),
    Key(
        "interfaces",
        Many(
            Interface(links=True),
            "interfaces, each by name, alternative name, MAC or glob, and of UDP links of [target]",
            limits.LINKS_MAX,
        ),
        "serve only on these, instead of all in [target]. An interface that [target] does not name is "
        "opened, too",
    ),
    Key(
        "limit-iops",
        Limit(limits.LIMIT_IOPS_MIN, limits.LIMIT_IOPS_MAX),
        "requests a second that all hosts together may make of the disk (0: no limit). What is over a limit "
        "is delayed by up to 0.25 s, or a quarter of `max-frame-age` where that is less; what would wait "
        "longer is dropped, and the client asks again. A FLUSH is not limited, and a TRIM or VERIFY is one "
        "request",
        {"--limit-iops": "limit-iops = 5000"},
        everywhere=True,
    ),
    Key(
        "limit-bandwidth",
        Bandwidth(),
        "bytes a second that all hosts together may read and write (0: no limit); k, M and G are 1024, "
        "1024 k and 1024 M",
        {"--limit-bandwidth": 'limit-bandwidth = "100M"'},
        everywhere=True,
    ),
    Key(
        "limit-client-iops",
        Limit(limits.LIMIT_IOPS_MIN, limits.LIMIT_IOPS_MAX),
        "requests a second that each host may make of the disk (0: no limit)",
        {"--limit-client-iops": "limit-client-iops = 1000"},
        everywhere=True,
    ),
    Key(
        "limit-client-bandwidth",
        Bandwidth(),
        meanings.LIMIT_CLIENT_BANDWIDTH,
        {"--limit-client-bandwidth": 'limit-client-bandwidth = "20M"'},
        everywhere=True,
    ),
    Key(
        "limit-burst",
        Seconds(0, timing.LIMIT_BURST_MAX_S),
        meanings.LIMIT_BURST,
        {"--limit-burst": "limit-burst = 0.1"},
        everywhere=True,
    ),
    Key(
        "force",
        Flag(),
        "serve the address although another target answers for it, or another process here serves it (false)",
        {"--force": "force = true"},
        everywhere=True,
    ),
    Key(
        "reset-state",
        Flag(),
        "forget the config string, mask list and reservation of an earlier run whenever the export begins to "
        "be served (false)",
        {"--reset-state": "reset-state = true"},
        everywhere=True,
    ),
)

_LVM_NAME = Text("a name as LVM has them", names.is_lvm_name)
POOL = (
    Key(
        "name",
        Text(names.RULE, names.is_name),
        "what volumes are named by: `name/volume`",
        example='name = "fast"',
    ),
    Key(
        "path",
        Text("an absolute path", kinds.is_directory),
        "directory that `aoe-target pool init` has marked, best the top of a file system of its own, XFS or "
        "btrfs",
        example='path = "/srv/fast"',
    ),
    Key(
        "kind",
        Choice("directory", "lvm-thin"),
        "how volumes are kept: as files of a directory (the default), or as thin volumes of LVM, with `vg` "
        "and `thin-pool` instead of `path`",
        example='kind = "lvm-thin"',
    ),
    Key("vg", _LVM_NAME, "volume group of a pool of LVM", example='vg = "vg0"'),
    Key(
        "thin-pool",
        _LVM_NAME,
        "thin pool in that volume group which `aoe-target pool init` has marked",
        example='thin-pool = "thin"',
    ),
    Key(
        "reserve",
        Whole(0, limits.POOL_RESERVE_MAX),
        "percent of the store: with less of it free, no volume, clone or snapshot is made, as those that are "
        f"there need room to be written ({limits.POOL_RESERVE_DEFAULT})",
    ),
    Key(
        "admins",
        Text("the name of a group of users", kinds.is_control_group),
        "its members may make, change and delete volumes of this pool through a daemon; without it root "
        "alone may",
    ),
)

_KEPT = Whole(0, limits.SCHEDULE_KEPT_MAX)
SCHEDULE = (
    Key(
        "name",
        Text(names.RULE, names.is_name),
        "what its snapshots are named by, with the time in UTC: `name-20261129T000000Z`",
        example='name = "auto"',
    ),
    Key(
        "volumes",
        Many(Text("POOL/VOLUME, with * and ? in the volume", names.is_pattern), "volumes", limits.POOLS_MAX),
        "of which volumes it makes snapshots: `POOL/VOLUME`, in which `*` and `?` stand for any characters "
        "of the volume, and `[ab]` for one of these",
        example='volumes = ["fast/*"]',
    ),
    Key("keep-hourly", _KEPT, "snapshots that are kept of the last hours, one of each (0)"),
    Key("keep-daily", _KEPT, "the same of the last days (0)"),
    Key("keep-weekly", _KEPT, "the same of the last weeks, which begin on Monday (0)"),
    Key("keep-monthly", _KEPT, "the same of the last months (0)"),
    Key(
        "timezone",
        Text('a time zone, such as "Europe/Berlin"', kinds.is_zone),
        "where a day begins (UTC)",
    ),
)

DEFAULTS = tuple(key for key in EXPORT if key.everywhere)
TABLES = {
    table: {key.name: key for key in keys}
    for table, keys in {
        "target": TARGET,
        "defaults": DEFAULTS,
        "export": EXPORT,
        "pool": POOL,
        "schedule": SCHEDULE,
    }.items()
}
"""Keys by name, by the table that has them; the keys of [groups] are the names of groups."""
HEADS = {
    "target": "[target]",
    "defaults": "[defaults]",
    "groups": "[groups]",
    "export": "[[export]]",
    "pool": "[[pool]]",
    "schedule": "[[schedule]]",
}
"""How tables begin."""
NEEDED = {"export": EXPORT[:3], "pool": POOL[:1], "schedule": SCHEDULE[:2]}
"""What no export is without: path, shelf and slot; no pool: name; no schedule: name and volumes."""
WHERE = {
    "directory": (TABLES["pool"]["path"],),
    "lvm-thin": (TABLES["pool"]["vg"], TABLES["pool"]["thin-pool"]),
}
"""What a pool of some kind needs besides, and no other kind has."""

_KEYS = {option: key for key in (*TARGET, *EXPORT) for option in key.options}
_OPTION = re.compile(r"(--[a-z][a-z-]+)( NAME)?")


def as_key(option: str) -> str:
    """What a file has instead of an option of `serve`; empty where there is none of that name."""
    return _KEYS[option].options[option] if option in _KEYS else ""


def in_words_of_a_file(message: str) -> str:
    """A message about options of `serve` as one about keys: `say --shared` as `say shared = true`."""
    return _OPTION.sub(_said_as_key, message)


def _said_as_key(match: re.Match[str]) -> str:
    key = _KEYS.get(match[1])
    if key is None:
        return match[0]
    if match[2]:
        return f'{key.name} = ["NAME"]'
    return key.options[match[1]] if isinstance(key.kind, Flag) else key.name
