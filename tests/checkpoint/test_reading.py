import copy
import io
import os
import pickle
import socket
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import FORMAT
from koa_lightning.config.compose import compose
from koa_lightning.data.cache import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.models.inference import grade_logits
from koa_lightning.models.net import NetSpec, build

pytestmark = pytest.mark.usefixtures("blank_figures")

SPEC = NetSpec("test_efficientnet")


@pytest.fixture(scope="module")
def content(tiny_record):
    torch.manual_seed(0)
    state = {f"net.{key}": value for key, value in build(SPEC).state_dict().items()}
    return {"state_dict": state, "koa_lightning": tiny_record(SPEC), "epoch": 3, "global_step": 40}


@pytest.fixture
def save(tmp_path, content):
    """Saves the content, changed by the test, and returns the file."""

    def write(change=lambda content: None):
        changed = copy.deepcopy(content)
        change(changed)
        torch.save(changed, tmp_path / "best.ckpt")
        return tmp_path / "best.ckpt"

    return write


def refused(file, words):
    with pytest.raises(InputError, match=words) as error:
        read(file)
    line = str(error.value)
    assert "\n" not in line
    assert str(file) in line


@pytest.mark.parametrize(
    "spec",
    [
        NetSpec("test_efficientnet", drop_rate=0.3, drop_path_rate=0.2, mean=0.4, std=0.3),
        NetSpec("test_resnet", link="corn"),
    ],
)
def test_what_was_trained_is_read(spec, tmp_path, tiny_grader, tiny_trainer, tiny_data):
    module = tiny_grader(spec)
    if spec.link == "corn":
        from koa_lightning.losses.corn import Corn

        module.loss = Corn()
    tiny_trainer(tmp_path, max_epochs=2, limit_train_batches=1).fit(module, tiny_data())
    found = read(tmp_path / "last.ckpt")
    net, image = found.network(), torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    assert net.spec == spec
    assert not net.training
    assert torch.equal(grade_logits(net, image), grade_logits(module.net.eval(), image))
    assert (found.epoch, found.epochs_done) == (1, 2)
    assert found.preprocessing == Preprocessing(32, "letterbox", None)
    assert found.caveats == ["phantom data"]


def test_nothing_else_is_needed(save, tmp_path, monkeypatch):
    """No data, no cache, no network, and another folder: the same logits."""
    image, file = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8), save()
    wanted = grade_logits(read(file).network(), image)

    def refuse(*_, **__):
        raise AssertionError("no network here")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("KOA_CACHE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    net = read("best.ckpt").network()
    assert torch.equal(grade_logits(net, image), wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_missing_or_a_folder(tmp_path):
    refused(tmp_path / "no.ckpt", "there is no such file")
    refused(tmp_path, "is a folder; name the file")


def test_cut_off_anywhere(save, tmp_path):
    whole = save().read_bytes()
    cut = tmp_path / "cut.ckpt"
    for length in (0, 1, 2, 4, 30, 100, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        cut.write_bytes(whole[:length])
        refused(cut, "truncated|not a checkpoint")


@pytest.mark.parametrize("junk", [b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"hello\n" * 9, b"\x80\x02}q\x00.", b"\0" * 4096])
def test_no_checkpoint_at_all(junk, tmp_path):
    (tmp_path / "junk.ckpt").write_bytes(junk)
    refused(tmp_path / "junk.ckpt", "checkpoint")


def test_a_damaged_byte_in_the_middle_is_no_traceback(save, tmp_path):
    whole, bad = save().read_bytes(), tmp_path / "bad.ckpt"
    for place in range(0, 3000, 97):  # where the pickled names are
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(bad)
        except InputError as error:
            assert "\n" not in str(error)


def test_a_damaged_number_is_refused(save, tmp_path):
    file, bad = save(), tmp_path / "bad.ckpt"
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        content = archive.read(largest)
    whole = file.read_bytes()
    place = whole.index(content) + len(content) // 2
    bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
    refused(bad, r"damaged: its checksums do not match \(.*\); give another")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(save):
    file = save()
    file.chmod(0)
    refused(file, "no permission")


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"net.a": torch.ones(1)}, "epoch": 1, "global_step": 1, "pytorch-lightning_version": "2.6.6"},
        OrderedDict(weight=torch.ones(2)),
        torch.ones(3),
        [1, 2],
        {"koa_lightning": "x"},
        {"koa_lightning": {"format": FORMAT}},
    ],
)
def test_of_another_program(content, tmp_path):
    torch.save(content, tmp_path / "x.ckpt")
    refused(tmp_path / "x.ckpt", "by another program")


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (Path.touch, (self.proof,))


def test_a_pickled_object_is_refused_and_does_not_run(save, tmp_path, recwarn):
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Malicious(proof)))
    assert proof.exists()  # it does run where it is let
    proof.unlink()

    def hide(place):
        def change(content):
            place(content)["x"] = Malicious(proof)

        return change

    places = (lambda c: c, lambda c: c["koa_lightning"], lambda c: c["koa_lightning"]["net"], lambda c: c["state_dict"])
    for place in places:
        refused(save(hide(place)), "refused: it holds a pickled object")
    bare = tmp_path / "bare.ckpt"
    bare.write_bytes(pickle.dumps(Malicious(proof)))
    refused(bare, "refused|not a checkpoint")
    torch.save(Malicious(proof), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.ckpt", "refused|not a checkpoint")
    assert not proof.exists()
    assert not recwarn.list  # it is refused in one line


def test_a_program_in_a_zip_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/code/__torch__.py", "def f(): pass")
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    (tmp_path / "script.ckpt").write_bytes(buffer.getvalue())
    refused(tmp_path / "script.ckpt", "checkpoint")


def put(value, *keys):
    def change(content):
        node = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


R = "koa_lightning"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(2, R, "format"), "format 2, but this version reads 1"),
        (put(None, R, "format"), "format None"),
        (put([], R, "net"), "no net of type dict"),
        (put("x", R, "net", "extra"), "extra is unknown in NetSpec"),
        (put("0.3", R, "net", "drop_rate"), r"net\.drop_rate='0\.3' is not of type float"),
        (put(True, R, "net", "std"), r"net\.std=True"),
        (put(5, R, "net", "name"), r"net\.name=5 is not of type str"),
        (put(7.0, R, "net", "drop_rate"), "drop_rate=7"),
        (put({}, R, "net"), "name is missing in NetSpec"),
        (put(1, R, "preprocessing", "extra"), "extra is unknown in Preprocessing"),
        (put("224", R, "preprocessing", "image_size"), "image_size='224'"),
        (put(10**9, R, "preprocessing", "image_size"), "image_size=1000000000"),
        (put("magic", R, "preprocessing", "fit"), "fit=magic"),
        (put({}, R, "plan"), "precision is missing in Plan"),
        (put("fp7", R, "plan", "precision"), "precision=fp7"),
        (put("x", R, "marks"), "no marks of type list"),
        (put(None, R, "tracking"), "no tracking of type dict"),
        (put({}, R, "data"), "does not name the data"),
        (put(["phantom"], R, "data", "name"), "does not name the data"),
        (put({}, R, "config"), "no data settings"),
        (put(torch.ones(2), R, "config", "data", "root"), "more than plain values"),
        (put(1, R, "config", 5), "more than plain values"),
        (put([1], "state_dict"), "state_dict is not a dict of tensors"),
        (put("x", "state_dict", "net.x"), "state_dict is not a dict of tensors"),
        (put(torch.ones(1), "state_dict", 3), "state_dict is not a dict of tensors"),
        (put("three", "epoch"), "epoch is not a number"),
        (put(None, "global_step"), "epoch is not a number"),
    ],
)
def test_a_record_that_is_not_ours(change, words, save):
    refused(save(change), words)


def test_entries_that_a_later_version_adds_do_no_harm(save):
    assert read(save(put("because", R, "weights_reason"))).network()


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "../resnet18", "resnet18.evil", ""])
def test_a_name_that_timm_would_fetch_is_refused(name, save):
    with pytest.raises(InputError, match=r"model\.name="):
        read(save(put(name, R, "net", "name"))).network()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["state_dict"].popitem(),
        put(torch.ones(3), "state_dict", "net.net.conv_stem.weight"),
        put(torch.ones(3), "state_dict", "net.net.more"),
        put("test_resnet", R, "net", "name"),
        put("corn", R, "net", "link"),
    ],
)
def test_weights_that_do_not_fit(change, save):
    with pytest.raises(InputError, match=r"its weights do not fit its network test_.* may be damaged") as error:
        read(save(change)).network()
    assert "\n" not in str(error.value)


def test_an_unknown_link(save):
    with pytest.raises(InputError, match="unknown link 'magic'"):
        read(save(put("magic", R, "net", "link"))).network()


def test_the_data_config_of_the_run(save):
    data = {"name": "phantom", "batch_size": 7, "image_size": 32, "cache_dir": "/x", "other": 1}
    cfg = read(save(put(data, R, "config", "data"))).data_config()
    assert (cfg.batch_size, cfg.image_size, cfg.cache_dir) == (7, 32, None)
    assert "other" not in cfg
    assert cfg.source._target_ == compose("train", ["data=phantom"]).data.source._target_


# What Hydra does not block by its own list.
EVIL = {"_target_": "numpy.savetxt", "fname": "PROOF", "X": [1]}
CREATED = "${oc.create:{_target_: numpy.savetxt, fname: 'PROOF', X: [1]}}"


@pytest.mark.parametrize(
    "source",
    [
        EVIL,
        {"n_patients": EVIL},
        {"n_patients": [EVIL]},
        {"n_patients": CREATED},
        {"n_patients": [CREATED]},
        {"n_patients": f"\\{CREATED}"},
        CREATED,
        "numpy.savetxt",
        None,
    ],
)
def test_no_code_that_the_config_names_is_run(source, save, tmp_path):
    from hydra.utils import instantiate

    proof = tmp_path / "proof"

    def filled(node):
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return node.replace("PROOF", str(proof)) if isinstance(node, str) else node

    for evil in (EVIL, {"x": CREATED}):
        instantiate(OmegaConf.create(filled(evil)))  # it does run where it is let
        proof.unlink()
    found = read(save(put(filled(source), R, "config", "data", "source")))
    try:
        made = instantiate(found.data_config().source)
    except InputError as error:
        assert "its data settings do not fit data=phantom" in str(error)
    else:
        assert made.func.__module__.startswith("koa_lightning.")
    assert not proof.exists()


@pytest.mark.parametrize("name", ["../phantom", "_base", "nothing"])
def test_a_data_source_that_is_not_here(name, save):
    with pytest.raises(InputError, match=r"type data=\.\.\. for another"):
        read(save(put(name, R, "data", "name"))).data_config()
