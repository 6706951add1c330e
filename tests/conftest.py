"""What all tests share; the fixtures are in tests/fixtures, a file a subject."""

import os
import signal

# Before torch is imported: the tests run in several processes, whose threads would wait for each other, computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# A shell ignores Ctrl-C for what it starts in the background, and tests that send one would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, and no test fails because the machine is busy.
settings.register_profile("koa", deadline=None, derandomize=True)
settings.load_profile("koa")

pytest_plugins = [f"tests.fixtures.{name}" for name in ("figures", "graders", "stores", "runs", "studies", "knees")]
