"""One small net a family; timm itself, or a hand-made map, is the second opinion on where a value lies."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.models import cait, hiera, mlp_mixer, mvitv2, pvt_v2, sequencer, swin_transformer, twins, volo, xcit
from torch import nn

from koa_lightning.config.heat_maps import names
from koa_lightning.errors import InputError
from koa_lightning.explain.cam import check, heat_maps
from koa_lightning.explain.last_map import split
from koa_lightning.models.net import KneeNet, NetSpec, build
from koa_lightning.models.plan import Plan
from koa_lightning.uncertainty import out_of_distribution

SIZE = 64
GIVEN = {"in_chans": 1, "num_classes": 5}
SMALL = {
    "swin": lambda: swin_transformer.SwinTransformer(
        SIZE, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, **GIVEN
    ),
    "mixer": lambda: mlp_mixer.MlpMixer(img_size=SIZE, embed_dim=24, num_blocks=2, **GIVEN),
    "cait": lambda: cait.Cait(SIZE, embed_dim=24, depth=2, num_heads=2, init_values=1.0, **GIVEN),
    "xcit": lambda: xcit.Xcit(SIZE, embed_dim=32, depth=2, num_heads=2, eta=1.0, use_pos_embed=True, **GIVEN),
    "hiera": lambda: hiera.Hiera((SIZE, SIZE), embed_dim=16, stages=(1, 1, 1), q_pool=2, **GIVEN),
    "hiera to the end": lambda: hiera.Hiera((2 * SIZE,) * 2, embed_dim=16, stages=(1, 1, 1, 1), **GIVEN),
    "volo": lambda: volo.VOLO(
        (2, 1), img_size=SIZE, embed_dims=(16, 32), num_heads=(1, 2), downsamples=(True, False),
        outlook_attention=(True, False), **GIVEN,
    ),
    "sequencer": lambda: sequencer.Sequencer2d(
        layers=(1, 1), patch_sizes=(7, 2), embed_dims=(16, 24), hidden_sizes=(8, 8), mlp_ratios=(2.0, 2.0), **GIVEN
    ),
    "twins": lambda: twins.Twins(
        SIZE, 4, embed_dims=(16, 16, 16, 32), num_heads=(1,) * 4, depths=(1,) * 4, mlp_ratios=(2,) * 4,
        sr_ratios=(2, 2, 1, 1), wss=None, **GIVEN,
    ),
    "pvt": lambda: pvt_v2.PyramidVisionTransformerV2(
        depths=(1,) * 4, embed_dims=(16, 16, 16, 32), num_heads=(1,) * 4, mlp_ratios=(2,) * 4, sr_ratios=(2, 2, 1, 1),
        **GIVEN,
    ),
    "mvit": lambda: mvitv2.MultiScaleVit(
        mvitv2.MultiScaleVitCfg(depths=(1, 1), embed_dim=16, num_heads=1, use_cls_token=False), SIZE, **GIVEN
    ),
}  # fmt: skip
NAMED = [
    "test_vit", "test_vit_relpos", "test_vit3", "test_convnext", "test_efficientnet", "test_resnet", "test_byobnet",
    "test_mambaout", "test_maxvit", "test_coatnet", "test_nfnet",
]  # fmt: skip
SLOW = [
    "beit_base_patch16_224", "cait_xxs24_224", "convit_tiny", "convmixer_768_32", "davit_tiny", "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224", "edgenext_xx_small", "efficientformerv2_s0", "efficientvit_b0",
    "eva02_tiny_patch14_224",
    "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "hiera_tiny_224", "sam2_hiera_tiny", "inception_next_atto",
    "levit_128s", "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "nextvit_small", "poolformer_s12", "pvt_v2_b0",
    "sequencer2d_s", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "tiny_vit_5m_224",
    "twins_svt_small", "visformer_tiny", "vit_relpos_small_patch16_224", "vit_small_r26_s32_224",
    "vit_tiny_patch16_224", "vitamin_small_224", "volo_d1_224", "xcit_nano_12_p8_224",
]  # fmt: skip
FAMILIES = [*NAMED, *SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
NONE = [  # they keep tokens of several kinds or sizes side by side
    "pit_ti_224",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("tnt_s_legacy_patch16_224", "coat_tiny", "efficientvim_m1")
    ),
    pytest.param("crossvit_9_240", marks=pytest.mark.slow),
]


def make(family):
    torch.manual_seed(0)
    if family not in SMALL:
        return build(NetSpec(family, image_size=240 if family == "crossvit_9_240" else 2 * SIZE)).eval()
    net = SMALL[family]()
    for parameter in net.get_classifier().parameters():
        nn.init.normal_(parameter, std=0.1)
    return KneeNet(net, NetSpec(family)).eval()


def noise(net, n, seed=0):
    size = SIZE if net.spec.name in SMALL and net.spec.name != "hiera to the end" else 2 * SIZE
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.sample(8)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_a_grid_has_maps(family):
    net = make(family)
    images = noise(net, 5)
    hooks = {name: len(module._forward_hooks) for name, module in net.named_modules()}
    with torch.no_grad():
        logits = net(images)
        parts, features = split(net, images)
        places = parts.grid(features)
        torch.testing.assert_close(parts.head(features), logits, atol=1e-4, rtol=1e-4)
        assert places.ndim == 4 and tuple(places.shape[2:]) == parts.grid.size != (1, 1)
        torch.testing.assert_close(places, intermediate(net, images, parts), atol=1e-4, rtol=1e-4)
    heat = heat_maps(net, images, [0, 1, 2, 3, 4])
    assert heat.shape == (5, *images.shape[2:]) and heat.dtype == np.float32
    assert np.isfinite(heat).all() and heat.min() == 0 and heat.max() <= 1
    assert heat.any() or family == "levit_128s"  # of five random grades nothing may speak for any
    assert {name: len(module._forward_hooks) for name, module in net.named_modules()} == hooks
    check(net, images.shape[-1], "explain=none")


def intermediate(net, images, parts):
    """The same layer as timm gives it by `forward_intermediates`, N x C x h x w; ours where it is one."""
    if parts.layer:
        modules = [net.net.get_submodule(each["module"]) for each in net.net.feature_info]
        index = next(n for n, module in enumerate(modules) if module is parts.layer[0])
        return net.net.forward_intermediates(images, norm=False, output_fmt="NCHW", intermediates_only=True)[index]
    if parts.grid.kind == "NCHW":
        return parts.features(images)
    if hasattr(net.net, "mask_unit_size") or type(net.net).__name__ == "HieraDet":  # it does not normalise here
        given = net.net.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)[-1]
        return getattr(net.net, "norm", nn.Identity())(given.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return net.net.forward_intermediates(images, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]


TRANSFORMERS = ["test_vit", "test_vit_relpos", "test_maxvit", "swin", "mixer", "cait", "hiera", "hiera to the end"]


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_what_changes_in_a_part_of_the_image_changes_there_on_the_map(family):
    net = make(family)
    image = 0.1 * noise(net, 1)
    parts, features = split(net, image)
    rows, columns = parts.grid.size
    side = image.shape[-1] // rows
    for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1), (rows // 2, columns // 4)):
        other = image.clone()
        patch = other[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
        patch += 2 * torch.randn(patch.shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            changed = (parts.grid(parts.features(other)) - parts.grid(features)).square().mean(1)[0]
        assert divmod(int(changed.argmax()), columns) == (row, column)


@pytest.mark.parametrize(("family", "prefix"), [("test_vit", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_a_class_token_is_explained_one_block_earlier_as_the_library_would(family, prefix):
    net = make(family)
    images = noise(net, 3)
    side = images.shape[-1] // 16

    def reshape(tokens):
        return tokens[:, prefix:].reshape(-1, side, side, tokens.shape[-1]).permute(0, 3, 1, 2)

    with GradCAM(model=net, target_layers=[net.net.blocks[-2]], reshape_transform=reshape) as cam:
        theirs = cam(input_tensor=images, targets=[ClassifierOutputTarget(grade) for grade in (0, 2, 4)])
    ours = heat_maps(net, images, [0, 2, 4])
    assert ours.any()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("family", ["swin", "mixer", "test_mambaout"])
def test_the_closed_form_of_other_layouts_is_gradcam(family):
    net = make(family)
    images = noise(net, 5)
    if family == "test_mambaout":  # norm and a hidden layer come after its average
        with pytest.raises(InputError, match=r"no closed form; type explain\.method=gradcam"):
            heat_maps(net, images, method="cam")
        return
    closed = heat_maps(net, images, [0, 1, 2, 3, 4], method="cam")
    assert closed.any()
    np.testing.assert_allclose(closed, heat_maps(net, images, [0, 1, 2, 3, 4]), atol=1e-4)


@pytest.mark.sample(6)
@pytest.mark.parametrize("method", sorted({*names()} - {"cam"}))
@pytest.mark.parametrize("family", ["test_vit", "swin"])
def test_every_method_and_target(family, method):
    net = make(family)
    images = noise(net, 3)
    before = {name: each.clone() for name, each in net.state_dict().items()}
    for target in ("grade", "expected"):
        heat = heat_maps(net, images, method=method, target=target, batch_size=2)
        assert heat.shape == (3, *images.shape[2:]) and 0 <= heat.min() <= heat.max() <= 1
        one = heat_maps(net, images[2:], method=method, target=target)[0]
        np.testing.assert_allclose(heat[2], one, atol=1e-3)
    torch.testing.assert_close(net.state_dict(), before)


def test_an_ablated_channel_is_set_to_zero_at_the_places_alone():
    net = make("test_vit")
    images = noise(net, 1)
    parts, tokens = split(net, images)
    with torch.no_grad():
        whole = parts.head(tokens)[0, 3]
        lost = []
        for channel in range(tokens.shape[2]):
            without = tokens.clone()
            without[..., channel] = 0
            lost.append(whole - parts.head(without)[0, 3])
        by_hand = torch.einsum("c,chw->hw", torch.stack(lost), parts.grid(tokens)[0]).clamp(min=0).numpy()
    ours = heat_maps(net, images, [3], method="ablationcam")[0]
    side = images.shape[-1] // by_hand.shape[0]
    coarse = ours[side // 2 :: side, side // 2 :: side]
    assert np.corrcoef(coarse.ravel(), by_hand.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("family", NONE)
def test_a_network_without_a_grid_is_refused_in_a_line(family):
    net = make(family)
    with pytest.raises(InputError) as error:
        check(net, net.spec.image_size, "overlays=false")
    message = str(error.value)
    assert "\n" not in message and message.startswith(
        f"model.name={family}: heat maps need a layer with a spatial grid"
    )
    assert "choose a network with such a grid, e.g. one of timm's EfficientNet" in message
    assert message.endswith("; type overlays=false to do without maps")


@pytest.mark.parametrize("family", ["test_vit", "test_mambaout", "test_maxvit", "test_convnext", "test_vit3"])
def test_precision_layout_and_the_check_of_inputs_know_these_networks_too(family):
    net = make(family)
    images = noise(net, 4)
    with torch.no_grad():
        logits = net(images)
    heat = heat_maps(net, images)
    prepared = Plan("fp32", channels_last=True, reason="").prepare(net)
    with torch.no_grad(), out_of_distribution.watching(prepared) as seen:
        torch.testing.assert_close(prepared(images), logits, atol=1e-4, rtol=1e-4)
    assert seen[0].shape[0] == 4 and seen[0].ndim == 2
    np.testing.assert_allclose(heat_maps(prepared, images), heat, atol=1e-2)
