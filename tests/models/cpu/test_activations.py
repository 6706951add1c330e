"""The numbers by which layers and compiled loops name an activation must stay apart, and be those that both use."""

from koa_lightning.models.cpu import activations, kernels, norm


def test_each_has_a_number_of_its_own_that_layers_and_loops_share():
    numbers = {name: getattr(activations, name) for name in ("NONE", "SILU", "RELU6")}
    assert len(set(numbers.values())) == 3
    for module in (kernels, norm):
        own = {name: getattr(module, name) for name in numbers if hasattr(module, name)}
        assert own.items() <= numbers.items()
