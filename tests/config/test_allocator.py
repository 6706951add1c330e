import platform
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_allocator_is_tuned_before_torch_is_imported():
    code = (
        "import sys; from koa_lightning.config import allocator; done = allocator.tune_allocator();"
        "assert 'torch' not in sys.modules; print(done)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    glibc = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    assert out == str(glibc)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is tuned")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_the_heap_may_lie_on_huge_pages_and_costs_no_memory():
    code = (
        "from koa_lightning.config import allocator; allocator.tune_allocator();"
        "text = open('/proc/self/smaps').read();"
        "heap = text[text.index('[heap]'):].split('VmFlags:');"
        "print('hg' in heap[1].split() or 'hg' in heap[2].split());"
        "print(int(open('/proc/self/statm').read().split()[1]) * 4096 >> 20)"
    )
    huge, resident = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert huge == "True"
    assert int(resident) < 200
