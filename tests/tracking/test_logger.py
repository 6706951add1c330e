import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from koa_lightning.tracking.logger import MlflowLogger
from koa_lightning.tracking.none import NoRun


@pytest.fixture
def run():
    return NoRun()


def test_metrics_of_an_epoch_have_the_epoch_as_step(run):
    MlflowLogger(run).log_metrics({"val/loss": 0.5, "epoch": 3, "loss_step": 0.7}, step=120)
    assert run.history() == {"val/loss": [(3, 0.5)], "loss_step": [(120, 0.7)]}


def test_metrics_without_an_epoch_keep_their_step(run):
    MlflowLogger(run).log_metrics({"lr-AdamW": 0.1}, step=120)
    assert run.history() == {"lr-AdamW": [(120, 0.1)]}


class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch).mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_a_trainer_logs_through_it(run, tmp_path):
    logger = MlflowLogger(run, str(tmp_path))
    trainer = Trainer(
        max_epochs=2,
        logger=logger,
        accelerator="cpu",
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Tiny(), DataLoader(torch.ones(4, 1), batch_size=2))
    steps = {name: [step for step, _ in rows] for name, rows in run.history().items()}
    assert steps == {"train/loss_step": [0, 1, 2, 3], "train/loss_epoch": [0, 1]}
    assert (logger.name, logger.version, logger.save_dir, logger.experiment) == ("", "", str(tmp_path), run)
    assert list(tmp_path.iterdir()) == []
