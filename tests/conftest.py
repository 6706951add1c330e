"""What all tests share; the fixtures are in tests/fixtures, a file a subject."""

import atexit
import gc
import os
import random
import signal

import pytest

# Before torch is imported: the tests run in several processes, whose threads would wait for each other, computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores Ctrl-C for what it starts in the background, and tests that send one would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nor is the end of each process spent on looking through millions of objects.
atexit.register(gc.freeze)

FIXTURES = (
    "figures", "graders", "listeners", "stores", "runs", "studies", "knees", "services", "browsers", "exports", "slurm",
)  # fmt: skip


def pytest_configure(config):
    """Load the fixtures and all they import, but not where tests are only handed out (-n): it takes 10 s."""
    if config.getoption("numprocesses", default=None) and not hasattr(config, "workerinput"):
        return
    from hypothesis import settings

    # The same examples each time, more in `make test-slow`; and no test fails because the machine is busy.
    examples = int(os.environ.get("EXAMPLES", "30"))
    settings.register_profile("koa", deadline=None, derandomize=True, max_examples=examples)
    settings.load_profile("koa")
    for name in FIXTURES:
        config.pluginmanager.import_plugin(f"tests.fixtures.{name}")


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` is applied
def pytest_collection_modifyitems(items):
    """Of a test marked `sample(n)` the quick run takes n cases, the same each time; the others are slow."""
    cases = {}
    for item in items:
        if item.get_closest_marker("sample"):
            cases.setdefault((item.parent.nodeid, item.originalname), []).append(item)
    for group in cases.values():
        n = min(group[0].get_closest_marker("sample").args[0], len(group))
        for item in set(group) - set(random.Random(0).sample(group, n)):
            item.add_marker(pytest.mark.slow)
