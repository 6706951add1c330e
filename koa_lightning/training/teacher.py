"""A teacher: the out-of-fold probabilities of other networks as soft labels beside the grade (distillation)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from koa_lightning.data.oof import PROBABILITIES, joined, read_oof
from koa_lightning.errors import InputError
from koa_lightning.models.outputs import log_probabilities
from koa_lightning.training.mixup import Mixed


class Teacher(nn.Module):
    """Adds to the loss of the grade the cross-entropy against a teacher's probabilities.

    The teacher is a table, not a network: the out-of-fold predictions of a cross-validation over the train split, where
    each knee was graded by a network that had not seen its patient. From a teacher that has memorised its knees, a
    network would only learn the labels again.

    Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015; without their temperature, as the
    teacher's probabilities are out of fold and so not overconfident.

    With `per="grade"` each knee learns the mean of these probabilities over all training knees of its grade, in place
    of its own: five rows, which say with what a grade is confused (a noise matrix of the labels).

    Attributes:
        labels: float32 N x 5, the teacher's probabilities of each knee of the train split; empty without a teacher.

    Args:
        table: Predictions table with path and p0 to p4; None for no teacher.
        weight: Weight of the teacher in the loss, in [0, 1]; the grade has the rest.
        per: `knee` or `grade`.

    Raises:
        InputError: The weight is outside its range, or `per` is something else.
    """

    labels: Tensor

    def __init__(self, table: str | None = None, weight: float = 0.0, per: str = "knee") -> None:
        super().__init__()
        if per not in ("knee", "grade"):
            raise InputError(f"teacher.per={per}: must be knee or grade")
        if not 0 <= weight <= 1:
            raise InputError(f"teacher.weight={weight}: must be from 0 to 1")
        self.table, self.weight, self.per = table, weight, per
        self.register_buffer("labels", torch.zeros(0, len(PROBABILITIES)), persistent=False)

    def prepare(self, train: pd.DataFrame, others: pd.DataFrame) -> None:
        """Look up the probabilities of every training knee.

        Args:
            train: Manifest rows of the train split, in the order of the data set.
            others: Manifest rows of the splits for evaluation.

        Raises:
            InputError: A knee is missing from the table, or the table has a patient of `others`: its networks may have
                trained on the very grades that are to be predicted.
        """
        if self.table is None:
            return
        where = f"teacher.table={self.table}"
        oof = read_oof(self.table, "teacher.table")
        rows, probabilities = joined(train, oof, where)
        if len(rows) < len(train):
            missing = train["path"].iloc[int(np.setdiff1d(np.arange(len(train)), rows)[0])]
            raise InputError(
                f"{where}: {len(train) - len(rows):,} of {len(train):,} training knees are not in it, e.g. {missing}; "
                "give the out-of-fold predictions of the train split: cross_validate data.fold_val=false"
            )
        self._refuse_measured(others, oof, where)
        if self.per == "grade":
            grades = train["grade"].to_numpy()
            means = {grade: probabilities[grades == grade].mean(axis=0) for grade in np.unique(grades)}
            probabilities = np.stack([means[grade] for grade in grades])
        self.labels = torch.from_numpy(probabilities.astype(np.float32))

    def _refuse_measured(self, others: pd.DataFrame, oof: pd.DataFrame, where: str) -> None:
        """Stop if the teacher's table has a knee for evaluation, or another knee of its patient."""
        same = np.zeros(len(others), dtype=bool)
        same[joined(others, oof, where)[0]] = True
        if "patient" in oof:
            known = set(oof["patient"].dropna().astype("str")) - {""}
            same |= others["patient"].isin(known).to_numpy()
        if same.any():
            row = others.iloc[int(same.argmax())]
            raise InputError(
                f"{where}: it has {same.sum():,} knees of the {row['split']} split or of its patients, e.g. "
                f"{row['path']}, so its networks may have seen their grades; use a table of the train split alone: "
                "cross_validate data.fold_val=false"
            )

    def forward(self, loss: Tensor, logits: Tensor, index: Tensor, mixed: Mixed, link: str) -> Tensor:
        """Return the loss of a batch, including the share of the teacher.

        Args:
            loss: Loss of the grades, a scalar.
            logits: N x K of any floating type.
            index: int64 N, the row of each knee within the train split.
            mixed: The batch; a mixed picture has the labels of both knees by their shares.
            link: A key of `koa_lightning.models.outputs.LINKS`.
        """
        if not len(self.labels) or not self.weight:
            return loss
        own = self.labels[index]
        target = own if mixed.share == 1.0 else mixed.share * own + (1 - mixed.share) * own[mixed.partner]
        with torch.autocast(logits.device.type, enabled=False):
            taught = -(target * log_probabilities(logits.float(), link)).sum(dim=1).mean()
            return (1 - self.weight) * loss.float() + self.weight * taught
