"""What a file is an image in: as it is said, or as its name ends. Never as its content looks, which a client
of a raw disk writes."""

from aoe.errors import ConfigurationError

AUTO, RAW = "auto", "raw"
"""As the name ends; and in no format at all."""
FORMATS = ("qcow2", "vhdx", "vmdk", "vdi", "luks")
"""Those that another process is needed for."""
KEYED = ("qcow2", "luks")
"""Those that may need a key."""
LAYERED = ("qcow2", "vmdk")
"""Those that may lie over another image."""


def format_of(path: str, said: str) -> str:
    """The format of what is at a path: what is said, or for AUTO what its name ends with."""
    if said != AUTO:
        return said
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    return ending.lower() if stem and dot and ending.lower() in FORMATS else RAW


def key_of(path: str, said: str, key_file: str | None) -> str | None:
    """The key file for what is at a path, where one is named for several: what has no key gets none."""
    return key_file if format_of(path, said) in KEYED else None


def check_key(path: str, form: str, key_file: str | None) -> None:
    """ConfigurationError for a key of what takes none, and where one is missing."""
    if key_file is not None and form not in KEYED:
        raise ConfigurationError(f"{path}: an image in {form} has no key; leave the key file out")
    if key_file is None and form == "luks":
        raise ConfigurationError(f"{path}: an image in luks has a key; name the file with it (key-file)")
