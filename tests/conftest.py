"""How tests are handed out to several processes, and what these hand on."""

import signal

import pytest

# A script starts background work with SIGINT ignored, nohup with SIGHUP, and what tests start would inherit
# that. What is handled here has its default there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

_SHARED = ("class", "module", "package")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --dist loadgroup, tests of a file that share a fixture stay in one process, which sets it up once.
    Any other test goes to the process that is free next."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if _shares(item):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _shares(item: pytest.Item) -> bool:
    info = getattr(item, "_fixtureinfo", None)
    found = info.name2fixturedefs.values() if info else ()
    return any(fixture.scope in _SHARED for fixtures in found for fixture in fixtures)
