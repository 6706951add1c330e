import dataclasses

import numpy as np

from koa_lightning.metrics import predictions
from koa_lightning.reporting import report_data


def test_knees_that_were_trained_on_mark_the_report(full):
    data = {**full.about["data"], "n_trained_on": 7}
    assert dataclasses.replace(full, about={**full.about, "data": data}).caveats == [
        "evaluated on 7 knees that the model was trained on"
    ]


def test_columns_that_are_groups_are_found(made_up):
    rows = made_up.assign(age=np.arange(len(made_up)), fold=1, note=[str(n) for n in range(len(made_up))])
    assert report_data._columns_of_groups(predictions.labelled(rows)) == ["side", "site"]
