import pytest
import timm
import torch

from koa_lightning.config.compose import choices_of, compose
from koa_lightning.errors import InputError
from koa_lightning.models.net import NetSpec, build, gray_statistics
from koa_lightning.models.outputs import LINKS, probabilities

MODELS = choices_of("model")


@pytest.fixture
def image():
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_configs_are_here():
    assert {"effb0", "effb3", "efflite0", "resnet18"} <= set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_every_config_builds_and_runs(model, image):
    cfg = compose("train", [f"model={model}"]).model
    net = build(NetSpec(cfg.name, "softmax", cfg.drop_rate, cfg.drop_path_rate, *gray_statistics(cfg.name))).eval()
    seen = []
    net.last_map.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        logits = net(image)
        assert torch.allclose(logits, net.net(image), atol=1e-5)  # the hook's detour changes nothing
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    assert seen[0].shape == (2, net.net.num_features, 2, 2)
    assert {p.shape[0] for p in net.head_parameters()} == {5}
    assert cfg.label == model


@pytest.mark.parametrize("name", ["test_efficientnet", "efficientnet_b0", "test_resnet"])
def test_a_new_classifier_prefers_no_grade(name, image):
    logits = build(NetSpec(name)).eval()(image)
    assert torch.nn.functional.cross_entropy(logits, torch.tensor([0, 4])).item() == pytest.approx(1.609, abs=0.1)
    assert logits.std() > 0  # and yet its rows differ


@pytest.mark.parametrize("name", ["test_resnet", "test_byobnet", "mobilenetv3_small_050", "resnet10t.c3_in1k"])
@pytest.mark.parametrize("link", LINKS)
def test_any_name_of_timm(name, link, image):
    net = build(NetSpec(name, link)).eval()
    assert probabilities(net(image), link).shape == (2, 5)
    assert len(net.head_parameters()) == 2


def test_two_classifiers(image):
    net = build(NetSpec("levit_128s", image_size=64)).eval()
    assert net(image).shape == (2, 5)
    assert len(net.head_parameters()) > 2


def test_a_model_of_one_size_is_made_for_that_of_the_images(image):
    assert build(NetSpec("test_vit", image_size=64)).eval()(image).shape == (2, 5)
    assert build(NetSpec("test_vit")).eval()(torch.zeros(1, 1, 160, 160)).shape == (1, 5)  # else timm's own size
    with pytest.raises(InputError, match=r"model\.name=nest_tiny: it does not grade gray images of 17 pixels"):
        build(NetSpec("nest_tiny", image_size=17))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("efficientnet_b33", "did you mean efficientnet_b3"),
        ("resnet-18", "did you mean resnet18"),
        ("qqqqqqqqqq", "lists them"),
        ("resnet18.nothing_in1k", "resnet18 has no such weights; omit the tag, or take one of .*'a1_in1k'"),
        ("hf-hub:timm/resnet18.a1_in1k", "timm has no such model"),
        ("local-dir:/tmp/x", "timm has no such model"),
        ("", "timm has no such model"),
    ],
)
def test_an_unknown_name(name, hint):
    for function in (lambda: build(NetSpec(name)), lambda: gray_statistics(name)):
        with pytest.raises(InputError, match=f"model\\.name={name}: .*{hint}") as error:
            function()
        assert "\n" not in str(error.value)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["vgg11", "densenet121"])
def test_a_model_without_drop_path_trains_without_and_that_is_said(name, capsys):
    net = build(NetSpec(name, drop_rate=0.1, drop_path_rate=0.1))
    assert capsys.readouterr().err == f"model.name={name}: this model has no drop_path_rate; it trains without it\n"
    assert (net.spec.drop_rate, net.spec.drop_path_rate) == (0.1, 0.0)
    build(net.spec)  # as its checkpoint does
    assert capsys.readouterr().err == ""


def test_a_model_without_a_head(monkeypatch):
    class Headless(torch.nn.Module):
        pass

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Headless())
    with pytest.raises(InputError, match=r"model\.name=resnet18: it does not grade gray images"):
        build(NetSpec("resnet18"))


def test_dropout_and_drop_path_are_set(image):
    net = build(NetSpec("test_efficientnet", drop_rate=0.5, drop_path_rate=0.5))
    assert net.net.drop_rate == 0.5
    assert any(getattr(m, "drop_prob", 0) for m in net.modules())
    assert not any(getattr(m, "drop_prob", 0) for m in build(NetSpec("test_efficientnet")).modules())


def test_normalise_is_the_same_for_both_types():
    net = build(NetSpec("test_resnet", mean=0.4, std=0.2))
    byte = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    kept = byte.clone()
    wanted = (byte.double() / 255 - 0.4) / 0.2
    assert torch.allclose(net.normalise(byte).double(), wanted, atol=1e-5)
    assert torch.allclose(net.normalise(byte / 255).double(), wanted, atol=1e-5)
    assert net.normalise(byte).dtype == torch.float32
    assert torch.equal(byte, kept)


def test_gray_statistics_are_the_mean_of_the_channels():
    assert gray_statistics("resnet18") == pytest.approx(((0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3))
    assert gray_statistics("tf_efficientnet_lite0") == (0.5, 0.5)


def test_a_spec_is_plain_values_and_comes_back():
    spec = NetSpec("resnet18", "corn", 0.1, 0.2, 0.3, 0.4, 64)
    assert NetSpec(**spec.to_dict()) == spec
    assert all(isinstance(value, str | float | int) for value in spec.to_dict().values())
