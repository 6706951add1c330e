import pytest

from koa_lightning.reporting.report import caveats


@pytest.mark.parametrize("key", ["training", "partition", "disjoint", "weights", "selection", "imbalance"])
def test_of_a_bare_table_nothing_is_said_of_its_model(bare, key):
    assert key not in caveats.phrases(bare)


def test_phrases_are_about_this_run(full):
    said = caveats.phrases(full)
    assert "Loss CrossEntropy, optimizer AdamW, learning rate 0.0003" in said["training"]
    assert said["augmentation"] == "Augmentation: flip 0.5."
    assert said["imbalance"] == "Class imbalance is corrected by class weights balanced."
    assert "training 35, validation 11" in said["partition"]
    assert said["quality"] == "Audit of chen2018 (46 knees): leakage 1, warning 0."
    assert "calibration error 0.080 before, 0.030 after" in said["calibration"]
    assert said["external"].startswith("No external data: the evaluated data comes from the same source")
