"""`aoe nbd`: serve a disk over NBD."""

import signal
from pathlib import Path
from typing import NamedTuple

from aoe.cli.ending import Ended
from aoe.cli.links import check_distinct
from aoe.cli.report import Report
from aoe.cli.where import Where, canonical
from aoe.initiator.remote import Options
from aoe.nbd.door import Plan, serve


class Nbd(NamedTuple):
    """The disk at all addresses, on the Unix socket `path`."""

    where: Where
    addresses: list[str]
    path: Path
    read_only: bool
    options: Options
    find_s: float
    threads: int

    async def run(self, report: Report) -> None:
        """Until it is ended: SIGTERM lets requests under way end, Ctrl-C hardly."""
        addresses = canonical(self.addresses)
        names = self.where.chosen
        check_distinct([*names, *self.where.links], "interface")
        plan = Plan(
            self.path,
            addresses,
            names,
            self.where.links,
            self.read_only,
            self.options,
            self.find_s,
            self.threads,
        )

        def ready(size: int) -> None:
            text = f"nbd: {plan.path} serves {' '.join(addresses)}, {size} bytes"
            report.say(text, address="/".join(addresses), socket=str(plan.path), bytes=size)

        number = await serve(plan, ready)
        if number == signal.SIGINT:
            raise Ended(number)
