"""Whether an id can be one disk's own: thousands of devices share those that no vendor ever set."""

import re

from aoe import limits

_MOST_OF_IT = 0.75

_COUNTED = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789ABCDEF",
    "0123456789",
)
_KIND = re.compile(r"(part\d+-)?(mpath-)?(naa\.|eui\.|uuid\.|t10\.)?", re.IGNORECASE)
_MAKER_FIRST = re.compile(r"(part\d+-)?mpath-|t10\.", re.IGNORECASE)
"""Maker and model come before the serial, parted by blanks (`mpath-` by underscores, too)."""
_NVME = re.compile(r"nvme\.[0-9a-f]+-((?:[0-9a-f]{2})+)-", re.IGNORECASE)
"""Vendor, serial (hexadecimal), model and namespace, for an NVMe disk without an id of its own."""
_NAMED_ONLY = re.compile(r"CRYPT-(?!.*[0-9a-f]{32})", re.IGNORECASE)
"""dm-crypt without a header has the name of the mapping for its UUID."""
_DEFAULT = re.compile(
    r"QM\d{5}"  # QEMU, counted from 1 in every machine
    r"|DRIVE(SCSI|IDE|SATA|VIRTIO|UA|MIRROR|EFIDISK|TPMSTATE)\w*"  # libvirt, Proxmox
    r"|BEAF\d+|IET\d+"  # tgt
    r"|[A-Z]*0{3,}\d{1,3}"  # a name and a small number
    r"|(DEADBEEF|CAFEBABE|BADF00D|DEFAULT|UNKNOWN|SERIAL|INVALID|NOTSET|CHANGEME|EXAMPLE)\w*"
)


def plausible(text: str) -> bool:
    """Whether `text`, an id as the kernel shows it, can be taken for one disk's alone."""
    core = _core(text)
    return not (
        len(core) < limits.SERIAL_LENGTH_MIN
        or len(set(core)) < limits.SERIAL_VARIETY_MIN
        or max(core.count(letter) for letter in set(core)) >= _MOST_OF_IT * len(core)
        or (core.isalpha() and len(core) < limits.SERIAL_WORDS_MAX)
        or re.fullmatch(r"(.+?)\1+", core)
        or _counted(core)
        or _DEFAULT.fullmatch(core)
        or _NAMED_ONLY.match(text)
    )


def _core(text: str) -> str:
    """What tells the disk from others of its make: letters and digits, in capitals."""
    nvme = _NVME.match(text)
    if nvme:
        serial = bytes.fromhex(nvme[1]).decode("latin-1")
    elif _MAKER_FIRST.match(text):
        serial = re.split(r"[\s_]+", _KIND.sub("", text, 1).strip())[-1]
    else:
        serial = _KIND.sub("", text, 1)
    return re.sub(r"[^0-9A-Z]", "", serial.upper())


def _counted(core: str) -> bool:
    """Whether it is the digits or letters in their order, either way round, from anywhere and over again."""
    return any(core in row or core in row[::-1] for row in (order * 3 for order in _COUNTED))
