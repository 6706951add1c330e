import copy

import pytest

from koa_lightning.reporting.report import caveats
from koa_lightning.reporting.report.checklists import CLAIM, TRIPOD_AI, Item, fill

TRIPOD_NUMBERS = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c "
    "18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)


def test_every_item_is_there_once():
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 43)]
    assert [item.number for item in TRIPOD_AI] == TRIPOD_NUMBERS.split()


def test_what_the_run_knows_and_what_is_left():
    items = (Item("1", "a", ("x", "y")), Item("2", "b", ("x",), "more"), Item("3", "c", ("z",), "all"), Item("4", "d"))
    answers = fill(items, {"x": "It is so.", "y": "And so."})
    assert [answer.status for answer in answers] == ["run", "in part", "author", "author"]
    assert answers[0].known == "It is so. And so."
    assert [answer.author for answer in answers] == ["", "more", "all", "to be written"]


def test_every_key_of_an_item_is_one_that_can_be_known(full):
    said = set(caveats.phrases(full))
    asked = {key for item in (*CLAIM, *TRIPOD_AI) for key in item.known}
    assert asked - said == {"subset", "readers", "clusters"} - said
    assert all(words.strip() for words in caveats.phrases(full).values())


@pytest.mark.parametrize("key", ["training", "partition", "disjoint", "weights", "selection", "imbalance"])
def test_of_a_bare_table_nothing_is_said_of_its_model(bare, key):
    assert key not in caveats.phrases(bare)


def test_what_makes_a_recipe_is_told(full):
    full = copy.deepcopy(full)
    config = full.model["config"]
    full.model["preprocessing"] |= {"top": 0.25, "bottom": 0.85}
    config |= {"mix": {"mixup": 0.2, "cutmix": 0.0}, "resize": {"first": 0.57, "last": 1.0}}
    config["optimizer"] |= {"head_only_epochs": 2, "unfreeze_every": 0, "frozen_stages": 3, "layer_decay": 0.8}
    said = caveats.phrases(full)
    assert said["preprocessing"].startswith("Of the height, the part from 25% to 85% alone. One gray channel, ")
    assert said["augmentation"] == "Augmentation: flip 0.5. Mixup with alpha 0.2."
    held = "the classifier alone for 2 epochs, the first 3 stages at rest, learning rate times 0.8 a stage"
    assert f"{held}, pictures from 57% of their size on, at most 9 epochs" in said["training"]


def test_phrases_are_about_this_run(full):
    said = caveats.phrases(full)
    assert "Loss CrossEntropy, optimizer AdamW, learning rate 0.0003" in said["training"]
    assert said["augmentation"] == "Augmentation: flip 0.5."
    assert said["imbalance"] == "Class imbalance met by class weights balanced."
    assert "training 35, validation 11" in said["partition"]
    assert said["quality"] == "Audit of chen2018 (46 knees): leakage 1, warning 0."
    assert "calibration error 0.080 before, 0.030 after" in said["calibration"]
    assert said["external"].startswith("No external data: what was measured comes from the same source")
