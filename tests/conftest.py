"""How tests are handed out to several processes, and what these hand on."""

import signal

import pytest

# A shell starts a script's background work so, and whatever a test starts would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
