import subprocess
import sys

CODE = """
import atexit, gc
from koa_lightning.config import ending
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # what was registered first runs last
ending.hasten()
ending.hasten()
print(gc.get_freeze_count() > 0)
"""


def test_what_lives_at_the_end_is_not_looked_through(with_package):
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=with_package, check=True)
    assert done.stdout.split() == ["False", "True"]
