import copy

from koa_lightning.reporting.report import caveats


def test_what_makes_a_recipe_is_told(full):
    full = copy.deepcopy(full)
    config = full.model["config"]
    full.model["preprocessing"] |= {"top": 0.25, "bottom": 0.85}
    config |= {"mix": {"mixup": 0.2, "cutmix": 0.0}, "resize": {"first": 0.57, "last": 1.0}}
    config["optimizer"] |= {"head_only_epochs": 2, "unfreeze_every": 0, "frozen_stages": 3, "layer_decay": 0.8}
    said = caveats.phrases(full)
    assert said["preprocessing"].startswith("Images are cropped to 25% to 85% of their height. One gray channel, ")
    assert said["augmentation"] == "Augmentation: flip 0.5. Mixup with alpha 0.2."
    held = "the classifier alone for 2 epochs, the first 3 stages frozen, learning rate multiplied by 0.8 per stage"
    assert f"{held}, images growing from 57% to full size, at most 9 epochs" in said["training"]
