import cv2
import numpy as np
import pytest
import torch
from torch import nn

from koa_lightning.config.heat_maps import names
from koa_lightning.errors import InputError
from koa_lightning.explain.cam import check, gradcam, heat_maps
from koa_lightning.models.net import NetSpec, build
from koa_lightning.models.outputs import expected_grade, n_outputs, probabilities

LINKS = ["softmax", "corn"]


class Net(nn.Module):
    """Two convolutions, batch norm, dropout and a linear head: small, but with all that a mode changes."""

    def __init__(self, link="softmax"):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=4, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
        )
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(8, n_outputs(link))

    def features(self, x):
        return self.body(x)

    def head(self, features):
        return self.linear(self.dropout(features.mean((2, 3))))

    def forward(self, x):
        return self.head(self.features(x))


def make(link="softmax", seed=0):
    torch.manual_seed(seed)
    return Net(link), torch.rand(5, 1, 48, 32)


def scaled_up(maps, shape):
    """ReLU, each map to [0, 1], bilinear to (H, W)."""
    maps = np.maximum(maps, 0)
    maps = maps - maps.min((1, 2), keepdims=True)
    maps = maps / (1e-7 + maps.max((1, 2), keepdims=True))
    up = np.stack([cv2.resize(each, shape[::-1]) for each in maps])
    up = up - up.min((1, 2), keepdims=True)
    return up / (1e-7 + up.max((1, 2), keepdims=True))


def state_of(model):
    return {
        "training": {name: module.training for name, module in model.named_modules()},
        "requires_grad": {name: each.requires_grad for name, each in model.named_parameters()},
        "grad": {
            name: (id(each.grad), None if each.grad is None else each.grad.tolist())
            for name, each in model.named_parameters()
        },
        "hooks": {
            name: [list(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for name, module in model.named_modules()
        },
        "values": {name: each.tolist() for name, each in model.state_dict().items()},
    }


def in_disorder(model):
    """A mode, gradients, frozen parameters and hooks of the caller, all mixed."""
    model.train()
    model.body[1].eval()
    model.linear.bias.requires_grad_(False)
    model.body[0].weight.requires_grad_(False)
    model.linear.weight.grad = torch.ones_like(model.linear.weight)
    model.body.register_forward_hook(lambda module, args, output: None)
    return model


def test_equals_the_weights_of_a_linear_head():
    model, images = make()
    grades = [0, 1, 2, 3, 4]
    heat = gradcam(model, images, grades)
    model.eval()
    with torch.no_grad():
        features = model.body(images)
        maps = torch.einsum("nc,nchw->nhw", model.linear.weight[grades], features).numpy()
    assert heat.shape == (5, 48, 32)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, scaled_up(maps, (48, 32)), atol=1e-4)
    assert (heat.max((1, 2)) > 0.99).any()


def test_corn_explains_the_probability_of_the_grade():
    model, images = make("corn")
    grades = [0, 1, 2, 3, 4]
    heat = gradcam(model, images, grades, link="corn")
    model.eval()
    features = model.body(images).detach().requires_grad_()
    shares = probabilities(model.head(features), "corn")
    shares[range(5), grades].sum().backward()
    maps = (features.grad.mean((2, 3), keepdim=True) * features).sum(1).detach().numpy()
    np.testing.assert_allclose(heat, scaled_up(maps * 100, (48, 32)), atol=1e-3)


@pytest.mark.parametrize("link", LINKS)
def test_the_predicted_grade_unless_given(link):
    model, images = make(link)
    with torch.no_grad():
        predicted = probabilities(model.eval()(images), link).argmax(1)
    unasked = gradcam(model, images, link=link)
    np.testing.assert_array_equal(unasked, gradcam(model, images, predicted, link=link))
    assert not np.allclose(unasked, gradcam(model, images, (predicted + 2) % 5, link=link))


def test_batches_are_one_go():
    model, images = make()
    together = gradcam(model, images)
    np.testing.assert_allclose(gradcam(model, images, batch_size=2), together, atol=1e-5)
    assert gradcam(model, images[:0]).shape == (0, 48, 32)


@pytest.mark.parametrize("method", names())
@pytest.mark.parametrize("link", LINKS)
def test_every_method_leaves_the_model_as_found_and_scales_its_maps(method, link, capsys):
    model, images = make(link)
    in_disorder(model)
    before = state_of(model)
    heat = heat_maps(model, images, method=method, link=link)
    assert state_of(model) == before
    assert heat.shape == (5, 48, 32)
    assert heat.dtype == np.float32
    assert heat.min() == 0
    assert all(np.isclose(each.max(), 1, atol=1e-3) or not each.any() for each in heat)
    assert heat.any() or link == "corn"  # of the five logs of probabilities none may gain by any channel
    assert capsys.readouterr() == ("", "")  # none of the library's bars


@pytest.mark.parametrize("method", names())
@pytest.mark.parametrize("target", ["grade", "expected"])
def test_every_method_is_batched(method, target):
    model, images = make()
    together = heat_maps(model, images, method=method, target=target)
    two = heat_maps(model, images, method=method, target=target, batch_size=2)
    np.testing.assert_allclose(two, together, atol=1e-4)
    assert heat_maps(model, images[:0], method=method).shape == (0, 48, 32)


@pytest.mark.parametrize("target", ["grade", "expected"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_cam_in_closed_form_is_gradcam_on_the_last_map(name, link, target):
    torch.manual_seed(1)
    net = build(NetSpec(name, link)).eval()
    nn.init.normal_(net.net.get_classifier().weight)
    images = torch.randn(4, 1, 96, 96)
    closed = heat_maps(net, images, [0, 1, 2, 4], method="cam", link=link, target=target)
    np.testing.assert_allclose(
        closed, heat_maps(net, images, [0, 1, 2, 4], method="gradcam", link=link, target=target), atol=1e-4
    )
    assert closed.any()


def test_cam_in_closed_form_is_what_the_library_draws():
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(2)
    net = build(NetSpec("test_efficientnet")).eval()
    images = torch.randn(4, 1, 96, 96)
    closed = heat_maps(net, images, [0, 1, 2, 4], method="cam")
    with GradCAM(model=net, target_layers=[net.last_map]) as cam:
        theirs = cam(input_tensor=images, targets=[ClassifierOutputTarget(grade) for grade in (0, 1, 2, 4)])
    assert closed.any()
    np.testing.assert_allclose(closed, theirs, atol=1e-4)


class Largest(Net):
    """Takes the largest value of each channel, not the mean."""

    def head(self, features):
        return self.linear(features.amax((2, 3)))


class TwoLayers(Net):
    """Has a layer between the average and the classifier."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(8, 8)

    def head(self, features):
        return self.linear(self.hidden(features.mean((2, 3))).relu())


@pytest.mark.parametrize("kind", [Largest, TwoLayers])
def test_other_heads_have_no_closed_form(kind):
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"^explain\.method=cam: .* no closed form; type explain\.method=gradcam$"):
        heat_maps(kind(), torch.rand(2, 1, 48, 32), method="cam")


def test_the_expected_grade_as_a_target():
    model, images = make()
    heat = heat_maps(model, images, target="expected")
    model.eval()
    features = model.body(images).detach().requires_grad_()
    expected_grade(probabilities(model.head(features), "softmax")).sum().backward()
    maps = (features.grad.mean((2, 3), keepdim=True) * features).sum(1).detach().numpy()
    np.testing.assert_allclose(heat, scaled_up(maps * 1000, (48, 32)), atol=1e-3)
    np.testing.assert_array_equal(heat, heat_maps(model, images, [4] * 5, target="expected"))


def test_a_sure_network_has_as_clear_a_map():
    model, images = make()
    with torch.no_grad():
        model.linear.bias += torch.tensor([16.0, 0, 0, 0, 0])
    for method in ("cam", "gradcam", "layercam"):
        maps = heat_maps(model, images, method=method, target="expected")
        assert ((maps.max((1, 2)) > 0.99) | (maps.max((1, 2)) == 0)).all()
        assert maps.any()


@pytest.mark.parametrize("error", [IndexError, RuntimeError, KeyboardInterrupt])
def test_leaves_the_model_as_found_when_it_raises(error, capsys):
    model, images = make()
    in_disorder(model)

    def fail(module, args):
        raise error("in the head")

    handle = model.linear.register_forward_pre_hook(fail)
    before = state_of(model)
    with pytest.raises(error, match="in the head") as caught:
        gradcam(model, images)
    assert caught.tb  # held, so nothing was put back merely because the frames are gone
    assert state_of(model) == before
    handle.remove()
    assert gradcam(model, images).shape == (5, 48, 32)
    assert capsys.readouterr().out == ""


def test_frozen_parameters_change_nothing():
    model, images = make()
    free = gradcam(model, images)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    np.testing.assert_array_equal(gradcam(model, images), free)
    assert not any(parameter.requires_grad for parameter in model.parameters())


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
def test_the_caller_does_not_matter(caller):
    model, images = make()
    before = state_of(model)
    expected = gradcam(model, images)
    with caller():
        inside = gradcam(model, images * 1)
        if caller is torch.inference_mode:
            assert torch.is_inference_mode_enabled()
    np.testing.assert_array_equal(inside, expected)
    assert state_of(model) == before


def test_a_model_that_works_in_place_neither_fails_nor_changes_the_images():
    model, images = make()
    model.body.insert(0, nn.Threshold(0.5, 0.0, inplace=True))
    before = images.clone()
    expected = gradcam(model, images)
    with torch.inference_mode():
        np.testing.assert_array_equal(gradcam(model, images * 1), expected)
    assert torch.equal(images, before)


def test_a_graph_of_the_caller_can_still_run_backwards():
    model, images = make()
    loss = model(images).square().sum()
    expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    gradcam(model, images)
    loss.backward()
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], list(expected))


class Tokens(Net):
    """A transformer's last map: N x T x C, here behind a class token that nothing depends on."""

    num_prefix_tokens = 1

    def features(self, x):
        places = self.body(x).flatten(2).transpose(1, 2)
        return torch.cat([torch.ones_like(places[:, :1]), places], 1)

    def head(self, features):
        return self.linear(self.dropout(features[:, 1:].mean(1)))


class ChannelsLast(Net):
    """A window transformer's last map: N x h x w x C."""

    output_fmt = "NHWC"

    def features(self, x):
        return self.body(x).permute(0, 2, 3, 1)

    def head(self, features):
        return self.linear(self.dropout(features.mean((1, 2))))


@pytest.mark.parametrize("method", names())
@pytest.mark.parametrize("kind", [Tokens, ChannelsLast])
def test_the_layout_of_the_last_map_does_not_matter(kind, method):
    model, images = make()
    images = images[..., :32, :]  # tokens lie row by row on an image of the same proportions
    other = kind()
    other.load_state_dict(model.state_dict())
    before = state_of(in_disorder(other))
    heat = heat_maps(other, images, method=method)
    assert heat.any()
    np.testing.assert_allclose(heat, heat_maps(model, images, method=method), atol=1e-4)
    assert state_of(other) == before


class Flat(Net):
    """Has no places any more."""

    def features(self, x):
        return self.body(x).mean((2, 3))

    def head(self, features):
        return self.linear(features)


class Undeclared(Net):
    """Has channels in the last place, and says so nowhere."""

    def features(self, x):
        return self.body(x[..., ::4, ::4]).permute(0, 2, 3, 1)

    def head(self, features):
        return self.linear(features.mean((1, 2)))


class Aside(Net):
    """Does not look at its own last map."""

    def head(self, features):
        return self.linear.bias.expand(len(features), -1)


@pytest.mark.parametrize("kind", [Flat, Undeclared, Aside])
def test_models_without_such_a_map_are_refused(kind):
    model = in_disorder(kind())
    before = state_of(model)
    with pytest.raises(InputError, match="last feature map"):
        gradcam(model, torch.rand(2, 1, 64, 64))
    assert state_of(model) == before


def test_what_has_no_map_is_refused_before_long_work():
    model, _ = make()
    before = state_of(model)
    for method in names():
        check(model, 48, "explain=none", method=method)
    check(make("corn")[0], 48, "explain=none", link="corn")
    assert state_of(model) == before
    with pytest.raises(InputError, match=r"last feature map.*; type overlays=false to do without maps"):
        check(Flat(), 64, "overlays=false")


def test_bad_input_is_refused():
    model, images = make()
    with pytest.raises(InputError, match=r"no features\(\)"):
        gradcam(model.body, images)
    with pytest.raises(InputError, match="grades"):
        gradcam(model, images, [0, 1])
    with pytest.raises(InputError, match="0 to 4"):
        gradcam(model, images, [0, 1, 2, 3, 5])
    with pytest.raises(InputError, match="float"):
        gradcam(model, (images * 255).byte())
    with pytest.raises(InputError, match="not finite"):
        gradcam(model, images * float("nan"))
    with pytest.raises(InputError, match="link"):
        gradcam(model, images, link="corn")
    with pytest.raises(InputError, match=r"explain\.method=grad-cam: must be one of ablationcam, cam, "):
        heat_maps(model, images, method="grad-cam")
    with pytest.raises(InputError, match=r"explain\.target=class: must be one of grade, expected"):
        heat_maps(model, images, target="class")
    with pytest.raises(InputError, match="float32"):
        gradcam(model.bfloat16(), images)
