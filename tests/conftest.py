"""How tests are handed out to several processes, and what these hand on."""

import functools
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No clock judges a generated test, with CI=true or without: a processor comes late on a busy machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell gives an ordinary user 1,024 descriptors at first, too few for what the tests keep in one process; a
# service has more.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, min(_hard, 65536)), _hard))

# A script starts background work with SIGINT ignored, nohup with SIGHUP, and what tests start would inherit
# that. What is handled here has its default there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadscope, each test goes to the process that is free next; those of a file stay together
    where they share a fixture, which is set up once so, or would disturb each other."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if stays_together(config.rootpath / file) else nodeid

    return OneByOne(config, log)


@functools.cache
def stays_together(file: Path) -> bool:
    """Only its text is known where tests are handed out."""
    text = file.read_text()
    return 'scope="module"' in text or "one_at_a_time" in text
