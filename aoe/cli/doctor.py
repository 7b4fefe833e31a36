"""`aoe doctor`, and what it and `aoe-target doctor` say: what is wrong, why it matters, and what to do."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from aoe.cli.links import open_datagrams
from aoe.cli.report import Report
from aoe.cli.where import Where, canonical
from aoe.doctor import for_client
from aoe.doctor.checks import Finding, Severity

_ADDRESS = re.compile(r"e\d+\.\d+")


class Doctor(NamedTuple):
    """On a host that uses disks; `what` are names of interfaces, and addresses."""

    where: Where
    what: Sequence[str]
    verbose: bool

    async def run(self, report: Report) -> None:
        """Look at everything, and say what is wrong."""
        addresses = canonical([it for it in self.what if _ADDRESS.fullmatch(it)])
        named = [it for it in self.what if not _ADDRESS.fullmatch(it)]
        names = list(dict.fromkeys([*named, *self.where.interfaces])) or self.where.named
        links = open_datagrams(self.where.links)
        report.failed = told(report, await for_client.examine(names, links, addresses), verbose=self.verbose)


def told(report: Report, found: Sequence[Finding], *, verbose: bool) -> bool:
    """Say what was found, with `verbose` also what is well; whether something is wrong."""
    for one in found:
        if verbose or one.severity != Severity.OK:
            report.say(one.sentence, **one.facts)
    wrong = sum(it.is_fault for it in found)
    report.say(f"{wrong or 'nothing'} wrong, {len(found)} looks", faults=wrong, looks=len(found))
    return wrong > 0
