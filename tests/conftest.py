"""What all tests share; the fixtures are in tests/fixtures, a file a subject."""

import os
import signal

# Before torch is imported: the tests run in several processes, whose threads would wait for each other, computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores Ctrl-C for what it starts in the background, and tests that send one would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURES = ("figures", "graders", "stores", "runs", "studies", "knees")


def pytest_configure(config):
    """Load the fixtures and what they import, except where tests are only handed out (-n): that takes 10 s for nothing."""
    if config.getoption("numprocesses", default=None) and not hasattr(config, "workerinput"):
        return
    from hypothesis import settings

    # The same examples each time, and no test fails because the machine is busy.
    settings.register_profile("koa", deadline=None, derandomize=True)
    settings.load_profile("koa")
    for name in FIXTURES:
        config.pluginmanager.import_plugin(f"tests.fixtures.{name}")
