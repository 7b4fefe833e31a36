"""What is written down of an image: its parts, each with its digest, and how a machine starts from it."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from aoe.cloud import identity
from aoe.errors import ConfigurationError

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An image. `kernel` is its version; the digests are SHA-256 of the whole part. `root` is the name of a
    file beside the record, or of a volume where `in_pool`; `root_bytes` is its size."""

    id: str
    release: str
    kernel: str
    packages: tuple[str, ...]
    root: str
    in_pool: bool
    root_bytes: int
    root_sha256: str
    kernel_sha256: str
    initramfs_bytes: int
    initramfs_sha256: str

    @property
    def command_line(self) -> str:
        """For the kernel; what leads to the disk comes besides."""
        return identity.command_line(self.id)

    def facts(self) -> dict[str, Any]:
        """As an object."""
        return {**asdict(self), "packages": list(self.packages), "command_line": self.command_line}


def written(record: Record) -> bytes:
    """As a file: the same for the same image."""
    return (json.dumps({"version": VERSION, **record.facts()}, indent=1) + "\n").encode()


def read(data: bytes, said: str) -> Record:
    """What a file says. ConfigurationError where that is no record."""
    try:
        found = json.loads(data)
        if found["version"] != VERSION or not identity.is_id(found["id"]):
            raise ValueError
        known = {it.name: found[it.name] for it in fields(Record)}
        return Record(**{**known, "packages": tuple(known["packages"])})
    except (ValueError, KeyError, TypeError) as error:
        remedy = "build the image again, or remove the file"
        raise ConfigurationError(f"{said} is no record of an image; {remedy}") from error
