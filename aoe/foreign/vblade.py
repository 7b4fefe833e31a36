"""vblade: its command line (vblade(8)) and Debian's /etc/vblade.conf.d (vblade-persistence(5))."""

import getopt
import re
import shlex

from aoe.config.values import ExportConfig
from aoe.errors import ConfigurationError
from aoe.foreign.found import Disk, Found, Line, Remark, Setting, left_out
from aoe.foreign.shell import Command, is_unknown, variables

PROGRAMS = frozenset({"vblade", "vbladed"})
_OPTIONS = "b:dsrm:o:l:"
_ARGUMENTS = ("shelf", "slot", "netif", "filename")
_NUMBER = re.compile(r"[0-9]{1,19}")
_HEX = re.compile(r"[0-9a-f]{12}")
_IONICE = "ionice is not kept: set IOSchedulingClass= with systemctl edit aoe-target"


def of_command(command: Command) -> Found:
    """The disk that a command line serves."""
    if command.unknown:
        return left_out(command.origin, f"what {command.unknown} stands for is not known here")
    try:
        return _disk(command.origin, command.words)
    except ConfigurationError as error:
        return left_out(command.origin, str(error))


def of_fragment(text: str, file: str) -> Found:
    """The disk that a file of vblade.conf.d names."""
    said = variables(text, file)
    missing = [name for name in _ARGUMENTS if not said.get(name, ("", ""))[1]]
    if missing:
        return left_out(Line(file, 1), f"{', '.join(missing)} is missing, so Debian does not serve it either")
    first = min(said[name][0] for name in _ARGUMENTS)
    for origin, value in said.values():
        if is_unknown(value):
            return left_out(origin, f"what {value} stands for is not known here")
    options = shlex.split(said["options"][1]) if "options" in said else []
    found = of_command(Command(first, "vblade", (*options, *(said[name][1] for name in _ARGUMENTS))))
    if "ionice" in said:
        found += Found(remarks=(Remark(said["ionice"][0], _IONICE),))
    return found


def _disk(origin: Line, words: tuple[str, ...]) -> Found:
    try:
        pairs, arguments = getopt.gnu_getopt(list(words), _OPTIONS)
    except getopt.GetoptError as error:
        raise ConfigurationError(f"vblade: {error}") from error
    if len(arguments) != len(_ARGUMENTS):
        raise ConfigurationError("vblade takes shelf, slot, netif and filename")
    shelf, slot, netif, path = arguments
    if not path.startswith("/"):
        raise ConfigurationError(f"{path} is not an absolute path; write down where it is")
    said = dict(pairs)
    export = ExportConfig(
        path=path,
        shelf=_number("shelf", shelf),
        slot=_number("slot", slot),
        offset=_number("-o", said.get("-o", "0")),
        length=_number("-l", said["-l"]) if "-l" in said else None,
        direct=True if "-d" in said else None,
        read_only="-r" in said,
        mask=_macs(said["-m"]) if "-m" in said else None,
        interfaces=(netif,),
    )
    buffers = (Setting(origin, "buffer_count", _number("-b", said["-b"])),) if "-b" in said else ()
    return Found((Disk(origin, export),), buffers)


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ConfigurationError(f"{name} {text} is not a number")
    return int(text)


def _macs(text: str) -> tuple[bytes, ...]:
    """Upper or lower case, with or without colons. One that is no MAC must not serve every host."""
    macs = [it.replace(":", "").lower() for it in text.split(",")]
    wrong = [it for it in macs if not _HEX.fullmatch(it)]
    if wrong:
        raise ConfigurationError(f"-m {text} is no list of MACs")
    return tuple(dict.fromkeys(map(bytes.fromhex, macs)))
