import pytest
import torch
from lightning.pytorch.callbacks import Callback

from koa_lightning.errors import InputError
from koa_lightning.training.ema import WarmEMA


class Steps(Callback):
    """Keeps the weights after each step, before they are averaged or swapped."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.states.append({key: value.clone() for key, value in pl_module.net.state_dict().items()})


def by_hand(states, decay):
    averaged = dict(states[0])
    for n, state in enumerate(states[1:], start=1):
        now = min(decay, (1 + n) / (10 + n))
        for key, value in state.items():
            floating = value.is_floating_point()
            averaged[key] = now * averaged[key].double() + (1 - now) * value.double() if floating else value
    return averaged


@pytest.mark.parametrize("decay", [0.0, 0.35, 0.998])
def test_the_average_is_that_by_hand_and_in_the_checkpoint(decay, tmp_path, tiny_grader, tiny_trainer, tiny_data):
    steps, module = Steps(), tiny_grader()
    tiny_trainer(tmp_path, steps, WarmEMA(decay), max_epochs=2).fit(module, tiny_data())
    wanted = by_hand(steps.states, decay)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert len(steps.states) == 10
    for key, value in wanted.items():
        found = content["state_dict"][f"net.{key}"]
        assert torch.allclose(found.double(), value.double(), rtol=1e-4, atol=1e-6), key
        assert torch.equal(content["current_model_state"][f"net.{key}"], steps.states[-1][key]), key
        # after training the module itself holds the average
        assert torch.equal(module.net.state_dict()[key], found), key


def test_validation_gives_the_trained_weights_back(tmp_path, tiny_grader, tiny_trainer, tiny_data):
    seen = []

    class Look(Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            seen.append(pl_module.net.net.classifier.weight.clone())

        on_train_batch_start = on_validation_batch_start = lambda self, trainer, pl_module, *_: seen.append(
            pl_module.net.net.classifier.weight.clone()
        )

    trainer = tiny_trainer(tmp_path, Look(), WarmEMA(0.9), max_epochs=2, limit_train_batches=2, limit_val_batches=1)
    trainer.fit(tiny_grader(), tiny_data())
    last_step, trained, averaged, next_step = seen[1:5]
    assert not torch.equal(last_step, trained)
    assert not torch.equal(trained, averaged)
    assert torch.equal(trained, next_step)


@pytest.mark.parametrize("decay", [-0.1, 1, 2.0, float("nan")])
def test_a_decay_out_of_range(decay):
    with pytest.raises(InputError, match=r"callbacks\.ema\.decay=.*at least 0 and below 1"):
        WarmEMA(decay)
