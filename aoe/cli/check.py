"""`aoe-target check`: whether a configuration file is right, and can be served on this host."""

from pathlib import Path
from typing import NamedTuple

from aoe.cli.config_file import load
from aoe.cli.on_host import findings
from aoe.cli.report import Report
from aoe.config.faults import ConfigErrors
from aoe.errors import ConfigurationError
from aoe.printable import plain


class Check(NamedTuple):
    """Look at a file, and at what it names."""

    file: Path
    json: bool

    def run(self, report: Report) -> int:
        """Say of each thing how it is. 1 if one cannot be served now, 2 if the file is wrong: then nothing
        that it names is looked at."""
        try:
            config = load(self.file)
        except ConfigErrors as errors:
            return _wrong(report, errors)
        for found in findings(config):
            if found.usable:
                report.say(found.text, **found.facts, usable=True)
            else:
                report.fail(ConfigurationError(found.text), **found.facts, usable=False)
        count = len(config.exports)
        report.say(f"{plain(str(self.file))}: {count or 'no'} export{'s' * (count != 1)}", exports=count)
        return int(report.failed)


def _wrong(report: Report, errors: ConfigErrors) -> int:
    for fault, line in zip(errors.faults, errors.lines, strict=True):
        facts = {"file": errors.name, "line": fault.line, "where": fault.where}
        report.fail(ConfigurationError(line), **facts)
    return 2
