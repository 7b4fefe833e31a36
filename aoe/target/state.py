"""The AoE state of one export and the verbs that read and change it, as pure functions.

Each verb returns a Verdict: the state afterwards, and the reply's error and body. Body None is silence.
"""

from typing import NamedTuple

from aoe.wire import config, mask, protocol, reserve
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import Command, Error, Fault, is_group
from aoe.wire.mask import Directive, DirectiveCommand, Mask, MaskCommand, MaskError
from aoe.wire.reserve import Reserve, ReserveCommand


class AoeState(NamedTuple):
    """What outlives a restart: config string, MACs served (empty: all), MACs that may do I/O (empty: all)."""

    config: bytes = b""
    mask: tuple[bytes, ...] = ()
    reserve: tuple[bytes, ...] = ()

    def admits(self, mac: bytes) -> bool:
        """Whether the mask list lets this host talk to the export at all."""
        return not self.mask or mac in self.mask

    def holds(self, mac: bytes) -> bool:
        """Whether this host may do I/O under the reservation."""
        return not self.reserve or mac in self.reserve


class Bounds(NamedTuple):
    """How much of each list a reply on the smallest served MTU can hold."""

    config: int
    mask: int
    reserve: int


def bounds(mtu: int) -> Bounds:
    """The bounds for a smallest served MTU in bytes."""
    return Bounds(protocol.config_string_max(mtu), protocol.mask_max(mtu), protocol.reserve_max(mtu))


class Verdict(NamedTuple):
    """What a verb decided. `changes` is whether it was of the changing kind and was granted."""

    state: AoeState
    changes: bool = False
    error: int = 0
    silent: bool = False
    mask_error: int = MaskError.NONE
    mask_index: int = 0


_CHANGING_CONFIG = (ConfigCommand.SET, ConfigCommand.FORCE_SET)


def config_verb(state: AoeState, message: Config, bound: Bounds, admin: bool) -> Verdict:
    """AoEr11 section 3.2. `admin` is whether changes from the network are allowed at all."""
    ccmd, text = message.ccmd, message.text
    if ccmd == ConfigCommand.READ:
        return Verdict(state)
    if ccmd == ConfigCommand.TEST:
        return Verdict(state, silent=text != state.config)
    if ccmd == ConfigCommand.TEST_PREFIX:
        return Verdict(state, silent=not state.config.startswith(text))
    if ccmd not in _CHANGING_CONFIG or not admin or len(text) > bound.config:
        return Verdict(state, error=Error.BAD_ARGUMENT)
    if ccmd == ConfigCommand.SET and state.config and text != state.config:
        return Verdict(state, error=Error.CONFIG_PRESENT)
    return Verdict(state._replace(config=text), changes=True)


def mask_verb(state: AoeState, message: Mask, bound: Bounds, admin: bool) -> Verdict:
    """AoEr11 section 3.3. Directives before a failing one stay applied; a group address is no host's."""
    if message.mcmd == MaskCommand.READ:
        return Verdict(state)
    if message.mcmd != MaskCommand.EDIT:
        return Verdict(state, error=Error.BAD_ARGUMENT)
    if not admin:
        return Verdict(state, mask_error=MaskError.UNSPECIFIED)
    macs = list(state.mask)
    for index, directive in enumerate(message.directives):
        error = _apply(macs, directive, bound.mask)
        if error:
            return Verdict(state._replace(mask=tuple(macs)), True, mask_error=error, mask_index=index)
    return Verdict(state._replace(mask=tuple(macs)), changes=True)


def _apply(macs: list[bytes], directive: Directive, most: int) -> MaskError:
    if directive.dcmd == DirectiveCommand.ADD and directive.mac not in macs:
        if is_group(directive.mac):
            return MaskError.UNSPECIFIED
        if len(macs) >= most:
            return MaskError.LIST_FULL
        macs.append(directive.mac)
    elif directive.dcmd == DirectiveCommand.DELETE and directive.mac in macs:
        macs.remove(directive.mac)
    elif directive.dcmd > DirectiveCommand.DELETE:
        return MaskError.BAD_DIRECTIVE
    return MaskError.NONE


def reserve_verb(state: AoeState, message: Reserve, bound: Bounds, admin: bool, sender: bytes) -> Verdict:
    """AoEr11 section 3.4. `set` is for the holders, or for any host while none holds it."""
    if message.rcmd == ReserveCommand.READ:
        return Verdict(state)
    changing = message.rcmd in (ReserveCommand.SET, ReserveCommand.FORCE_SET)
    macs = tuple(dict.fromkeys(message.macs))
    if not changing or not admin or len(macs) > bound.reserve or any(map(is_group, macs)):
        return Verdict(state, error=Error.BAD_ARGUMENT)
    if message.rcmd == ReserveCommand.SET and not state.holds(sender):
        return Verdict(state, error=Error.RESERVED)
    return Verdict(state._replace(reserve=macs), changes=True)


def decide(
    state: AoeState, command: int, frame: bytes, sender: bytes, bound: Bounds, admin: bool
) -> Verdict | Fault:
    """What a config, mask or reserve frame comes to; a Fault where it is too short to be answered."""
    message: Config | Mask | Reserve | Fault
    if command == Command.CONFIG:
        message = config.decode(frame)
    else:
        message = mask.decode_request(frame) if command == Command.MASK else reserve.decode(frame)
    if message is Fault.LYING_LENGTH:
        return Verdict(state, error=Error.BAD_ARGUMENT)
    if isinstance(message, Config):
        return config_verb(state, message, bound, admin)
    if isinstance(message, Mask):
        return mask_verb(state, message, bound, admin)
    if isinstance(message, Reserve):
        return reserve_verb(state, message, bound, admin, sender)
    return message


def mask_body(verdict: Verdict, mcmd: int) -> bytes:
    """The body of a mask reply: the whole list, or which directive failed and why."""
    if verdict.mask_error:
        return mask.encode(Mask(mcmd, verdict.mask_error, verdict.mask_index))
    entries = tuple(Directive(DirectiveCommand.NONE, mac) for mac in verdict.state.mask)
    return mask.encode(Mask(mcmd, MaskError.NONE, len(entries), entries))
