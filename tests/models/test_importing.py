"""timm comes without torch's compiler, and what waits for it works as torch's own."""

import gc
import subprocess
import sys

import pytest
import torch

from koa_lightning.models import importing


def _run(code: str, env: dict[str, str]) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True).stdout


@pytest.mark.slow
def test_timm_comes_without_the_compiler_and_gets_it_when_it_asks(with_package):
    out = _run(
        "import sys, torch; own = torch.compiler.disable\n"
        "import koa_lightning.models\n"
        "print('timm' in sys.modules, 'torch._dynamo' in sys.modules, 'torch._dynamo.utils' in sys.modules)\n"
        "print(torch.compiler.disable is own)\n"
        "from torchvision.ops import roi_align\n"
        "print(sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu'))\n"
        "import torch._dynamo.utils as utils; print(utils.__name__, torch._dynamo.utils is utils)",
        with_package,
    )
    assert out.split() == ["True", "False", "False", "True", "True", "torch._dynamo.utils", "True"]


@pytest.mark.slow
def test_the_compiler_stays_if_it_is_there(with_package):
    code = (
        "import sys, torch, torch._dynamo.utils as utils; own = torch.compiler.disable\n"
        "from koa_lightning.models.importing import compiler_later\n"
        "with compiler_later(): print(sys.modules['torch._dynamo.utils'] is utils, torch.compiler.disable is own)\n"
        "print(sys.modules['torch._dynamo.utils'] is utils, torch.compiler.disable is own)"
    )
    assert _run(code, with_package).split() == ["True"] * 4


@pytest.mark.slow
def test_another_name_of_the_stand_in_is_the_compilers_own(with_package):
    code = (
        "import sys, torch; from koa_lightning.models.importing import _StandIn, compiler_later\n"
        "with compiler_later():\n"
        "    import torch._dynamo.utils\n"
        "    print(isinstance(sys.modules['torch._dynamo.utils'], _StandIn), 'torch._dynamo' in sys.modules)\n"
        "    from torch._dynamo.utils import counters\n"
        "print(counters is torch._dynamo.utils.counters)"
    )
    assert _run(code, with_package).split()[-1] == "True"


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("collects", [False, True])
def test_the_search_for_garbage_is_as_before(collects, fails):
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError), importing.compiler_later():
            assert not gc.isenabled()
            1 / (0 if fails else 1)
            raise ZeroDivisionError
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def _double(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x]).sum() * 2


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "mark",
    [importing.disable, importing.disable(reason="slow"), importing.disable(recursive=False), importing.disable()],
)
def test_a_marked_function_is_left_out_of_compiled_graphs_as_by_torch(mark):
    import torch._dynamo

    ours, theirs = mark(_double), torch.compiler.disable(_double)
    assert (ours.__name__, ours.__wrapped__) == ("_double", _double)
    graphs = []
    for marked in (ours, theirs):
        torch._dynamo.reset()
        found = torch._dynamo.explain(lambda x, marked=marked: marked(x + 1).sin() + 1)(torch.ones(3))
        graphs.append((found.graph_count, found.graph_break_count))
    assert graphs[0] == graphs[1] == (2, 1)
    x = torch.rand(3)
    compiled = torch.compile(lambda x: ours(x + 1).sin(), backend="eager")
    assert torch.equal(compiled(x), _double(x + 1).sin())
