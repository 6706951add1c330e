import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from koa_lightning.data import cache, polarity
from koa_lightning.data.audit.files import framed
from koa_lightning.data.cache import Preprocessing, open_cache
from koa_lightning.data.fitting import fit
from koa_lightning.data.images import read_image
from koa_lightning.data.manifest import hash_file
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.data.preprocessing import hash_pixels
from koa_lightning.errors import InputError

SIZE = 24


@pytest.fixture
def knees(tmp_path):
    """Make n images of several sizes; return their paths, hashes and sides."""

    def make(n=10):
        folder = tmp_path / "knees"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for i in range(n):
            pixels = rng.integers(0, 256, (20 + i % 3, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:04d}.png")
        paths = [str(path) for path in sorted(folder.iterdir())]
        return paths, [hash_file(path) for path in paths], (["L", "R", ""] * n)[:n]

    return make


def opened(knees, folder, preprocessing=None):
    return open_cache(*knees, preprocessing or Preprocessing(SIZE), folder, quiet=True)


def expected(paths, size=SIZE, how="letterbox"):
    return np.stack([fit(read_image(path), size, how) for path in paths])


def nothing_whole(folder):
    return not list(folder.glob("*.npy")) and not list(folder.glob("*.part"))


def test_the_cache_holds_every_image_in_order(knees, tmp_path):
    made = knees(150)  # more than two chunks
    done = opened(made, tmp_path / "new" / "cache")
    assert done.built
    assert done.unreadable == {}
    assert done.images.dtype == np.uint8
    assert np.array_equal(done.images, expected(made[0]))
    assert isinstance(done.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        done.images[0] = 0


def test_large_images_are_taken_in_smaller_chunks(knees, tmp_path, monkeypatch):
    made = knees(7)
    chunks = []
    decode = cache._decode_chunk
    monkeypatch.setattr(cache, "CHUNK_BYTES", 2 * SIZE**2)
    monkeypatch.setattr(cache, "_decode_chunk", lambda rows, *rest: chunks.append(len(rows)) or decode(rows, *rest))
    assert np.array_equal(opened(made, tmp_path).images, expected(made[0]))
    assert sorted(chunks) == [1, 2, 2, 2]


def test_stretch_fills_the_square(knees, tmp_path):
    made = knees(3)
    done = opened(made, tmp_path, Preprocessing(SIZE, "stretch"))
    assert np.array_equal(done.images, expected(made[0], how="stretch"))
    assert not np.array_equal(done.images, expected(made[0]))


@pytest.mark.parametrize(("canonical", "mirrored"), [("L", "R"), ("R", "L"), (None, None)])
def test_only_knees_of_the_other_side_are_mirrored(knees, tmp_path, canonical, mirrored):
    paths, hashes, _ = knees(3)
    sides = ["L", "R", ""]
    done = opened((paths, hashes, sides), tmp_path, Preprocessing(SIZE, canonical_side=canonical))
    for image, straight, side in zip(done.images, expected(paths), sides, strict=True):
        assert np.array_equal(image, straight[:, ::-1] if side == mirrored else straight)


def test_the_second_opening_does_not_decode(knees, tmp_path, monkeypatch):
    made = knees()
    first = opened(made, tmp_path)
    for path in made[0]:
        Path(path).unlink()
    monkeypatch.setattr(cache, "read_image", None)  # calling it would raise
    monkeypatch.setattr(cache, "_build", None)
    second = opened(made, tmp_path)
    assert not second.built
    assert second.path == first.path
    assert np.array_equal(second.images, first.images)


HASHES, SIDES = ["aa", "bb", "cc"], ["L", "R", ""]


@pytest.mark.parametrize(
    ("hashes", "sides", "preprocessing"),
    [
        (["aa", "bb", "cd"], SIDES, Preprocessing()),
        (["aa", "cc", "bb"], SIDES, Preprocessing()),
        (HASHES[:2], SIDES[:2], Preprocessing()),
        (HASHES, SIDES, Preprocessing(256)),
        (HASHES, SIDES, Preprocessing(fit="stretch")),
        (HASHES, SIDES, Preprocessing(canonical_side="L")),
        (HASHES, SIDES, Preprocessing(canonical_side="R")),
        (HASHES, SIDES, Preprocessing(fix_polarity=True)),
        (HASHES, SIDES, Preprocessing(top=0.2)),
        (HASHES, SIDES, Preprocessing(bottom=0.8)),
    ],
)
def test_the_key_changes_with_content_order_and_preprocessing(hashes, sides, preprocessing):
    assert cache.key(hashes, sides, preprocessing) != cache.key(HASHES, SIDES, Preprocessing())


@given(st.lists(st.sampled_from(["L", "R", ""]), min_size=3, max_size=3), st.sampled_from([None, "L", "R"]))
@settings(max_examples=60, deadline=None)
def test_the_key_knows_the_side_only_where_it_mirrors(sides, canonical):
    preprocessing = Preprocessing(canonical_side=canonical)
    same = [preprocessing.mirrors(side) for side in sides] == [preprocessing.mirrors(side) for side in SIDES]
    assert (cache.key(HASHES, sides, preprocessing) == cache.key(HASHES, SIDES, preprocessing)) == same


def test_the_key_changes_with_the_version(monkeypatch):
    before = cache.key(HASHES, SIDES, Preprocessing())
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert cache.key(HASHES, SIDES, Preprocessing()) != before


def test_the_folder_is_koa_cache_or_the_users_own(knees, tmp_path, monkeypatch):
    monkeypatch.setenv("KOA_CACHE", str(tmp_path / "mine"))
    assert opened(knees(2), None).path.parent == tmp_path / "mine"
    monkeypatch.setenv("KOA_CACHE", "")
    assert cache.default_dir().name == "koa_lightning"


def test_phantoms_are_drawn_and_mirrored(tmp_path):
    rows = phantom_manifest(70, seed=4)
    paths, sides = rows["path"].tolist(), rows["side"].tolist()
    done = opened((paths, [hash_file(p) for p in paths], sides), tmp_path, Preprocessing(32, canonical_side="L"))
    drawn = draw_phantoms(rows["patient"].tolist(), sides, rows["grade"].tolist(), seed=4, size=32)
    right = (rows["side"] == "R").to_numpy()
    assert np.array_equal(done.images[~right], drawn[~right])
    assert np.array_equal(done.images[right], drawn[right][:, :, ::-1])


def test_the_bar_is_shown_unless_quiet(knees, tmp_path, capsys):
    made = knees(3)
    open_cache(*made, Preprocessing(SIZE), tmp_path / "a", quiet=False)
    shown = capsys.readouterr()
    assert "decoding knees" in shown.err
    assert shown.out == ""
    open_cache(*made, Preprocessing(SIZE), tmp_path / "b", quiet=True)
    assert capsys.readouterr().err == ""


# --- what is recorded beside the images


def test_pixels_and_shapes_are_those_of_the_files_whatever_is_done_to_them(knees, tmp_path):
    paths, hashes, sides = knees()
    Image.open(paths[3]).save(paths[4].replace("png", "bmp"))
    Path(paths[4]).unlink()
    paths[4] = paths[4].replace("png", "bmp")
    small, large = (
        opened((paths, hashes, sides), tmp_path, preprocessing)
        for preprocessing in (Preprocessing(SIZE), Preprocessing(40, "stretch", "L"))
    )
    for done in (small, large, opened((paths, hashes, sides), tmp_path)):
        assert done.pixels.tolist() == [hash_pixels(read_image(path)).encode() for path in paths]
        assert done.shapes.tolist() == [list(read_image(path).shape) for path in paths]
        assert done.repaired == []
    assert len(set(small.pixels)) == 9
    assert small.pixels[3] == small.pixels[4]


def test_rows_that_cannot_be_read_have_no_pixels(knees, tmp_path):
    paths, hashes, sides = knees()
    damage(paths)
    done = opened((paths, hashes, sides), tmp_path)
    assert [row for row in range(10) if done.pixels[row] == cache.UNKNOWN_PIXELS.encode()] == [2, 5, 7, 8]
    assert done.shapes[[2, 5, 7, 8]].tolist() == [[0, 0]] * 4


def test_repaired_rows_are_recorded(knees, tmp_path, monkeypatch):
    paths, hashes, sides = knees(70)
    monkeypatch.setattr(polarity, "inverted", lambda images: images[:, images.shape[1] // 2, 0] > 128)
    images = [read_image(path) for path in paths]
    checked = [framed(fit(image, 224, "letterbox"), image.shape) for image in images]
    bright = [row for row, image in enumerate(checked) if image[len(image) // 2, 0] > 128]
    for _ in range(2):
        done = opened((paths, hashes, sides), tmp_path, Preprocessing(SIZE, fix_polarity=True))
        assert done.repaired == bright != []
        straight = fit(255 - images[bright[0]], SIZE, "letterbox")
        assert np.array_equal(done.images[bright[0]], straight)


# --- images that cannot be read


def damage(paths):
    content = Path(paths[2]).read_bytes()
    Path(paths[2]).write_bytes(content[: len(content) // 2])
    Path(paths[5]).write_bytes(b"")
    Path(paths[7]).write_bytes(b"no image at all")
    Path(paths[8]).unlink()
    Path(paths[8]).mkdir()


def test_unreadable_images_are_named_and_black_and_the_rest_is_there(knees, tmp_path):
    paths, _, sides = knees()
    damage(paths)
    made = paths, [hash_file(path) for path in paths], sides
    first, second = opened(made, tmp_path / "cache"), opened(made, tmp_path / "cache")
    assert first.built and not second.built
    for done in (first, second):
        assert sorted(done.unreadable) == [2, 5, 7, 8]
        for row, reason in done.unreadable.items():
            assert reason.startswith(f"{paths[row]}: ")
        assert not done.images[sorted(done.unreadable)].any()
        rest = [0, 1, 3, 4, 6, 9]
        assert np.array_equal(done.images[rest], expected([paths[row] for row in rest]))


def test_the_reason_names_the_file_where_it_lies_now(knees, tmp_path):
    paths, _, sides = knees()
    damage(paths)
    hashes = [hash_file(path) for path in paths]
    opened((paths, hashes, sides), tmp_path / "cache")
    Path(paths[0]).parent.rename(tmp_path / "moved")
    moved = [path.replace("knees", "moved") for path in paths]
    done = opened((moved, hashes, sides), tmp_path / "cache")
    assert not done.built
    assert done.unreadable[5].startswith(f"{moved[5]}: the file is empty")


def test_what_can_be_read_now_is_read(knees, tmp_path, monkeypatch, capsys):
    """The same bytes, but a decoder was installed or a permission given."""
    made = knees()

    def lacking(path):
        if path == made[0][4]:
            raise InputError(f"{path}: no decoder for this")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", lacking)
        assert list(opened(made, tmp_path).unreadable) == [4]
    done = opened(made, tmp_path)
    assert done.built
    assert done.unreadable == {}
    assert np.array_equal(done.images, expected(made[0]))
    assert "rebuilding it" in capsys.readouterr().err


# --- builds that end badly


@pytest.mark.parametrize("harm", ["cut", "empty", "garbage", "shape", "dtype", "no list", "bad list"])
def test_a_damaged_cache_is_built_anew(knees, tmp_path, harm, capsys):
    made = knees()
    final = opened(made, tmp_path).path
    content = final.read_bytes()
    np_save = {"shape": np.zeros((3, SIZE, SIZE), np.uint8), "dtype": np.zeros((10, SIZE, SIZE), np.int8)}
    if harm in np_save:
        np.save(final, np_save[harm])
    elif harm == "no list":
        final.with_suffix(".json").unlink()
    elif harm == "bad list":
        final.with_suffix(".json").write_text("{")
    else:
        final.write_bytes({"cut": content[:-1], "empty": b"", "garbage": b"\0" * len(content)}[harm])
    done = opened(made, tmp_path)
    assert done.built
    assert np.array_equal(done.images, expected(made[0]))
    assert capsys.readouterr().err.count("WARNING") == 1
    again = opened(made, tmp_path)
    assert not again.built and again.path == done.path


def test_whoever_reads_a_cache_keeps_it_when_it_is_built_again(knees, tmp_path):
    made = knees()
    first = opened(made, tmp_path)
    for number in (1, 2):
        opened(made, tmp_path).path.with_suffix(".json").write_text("{")
        again = opened(made, tmp_path)
        assert again.built and again.path.name == f"{first.path.stem}.{number}.npy"
    assert first.path.exists() and np.array_equal(first.images, again.images)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, *(pytest.param(each, marks=pytest.mark.slow) for each in (MemoryError, RuntimeError))]
)
def test_a_build_that_is_broken_off_leaves_nothing(knees, tmp_path, monkeypatch, error):
    made = knees(300)
    calls = []

    def breaking(path):
        calls.append(path)
        if len(calls) == 100:
            raise error("stop")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", breaking)
        with pytest.raises(error, match="stop"):
            opened(made, tmp_path / "cache")
    assert nothing_whole(tmp_path / "cache")
    assert opened(made, tmp_path / "cache").built


CHILD = """
import itertools
import sys
from pathlib import Path
from koa_lightning.data import cache
paths = sorted(str(path) for path in Path(sys.argv[1]).iterdir())
read_image, numbers = cache.read_image, itertools.count(1)  # asked by several threads

def halting(path):
    Path(sys.argv[3]).open("a").write(path + "\\n")
    if next(numbers) == int(sys.argv[4]):
        print("half", flush=True)
        sys.stdin.readline()
    return read_image(path)

cache.read_image = halting
hashes = [cache.hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest() for path in paths]
done = cache.open_cache(paths, hashes, [""] * len(paths), cache.Preprocessing(24), Path(sys.argv[2]), quiet=True)
print(done.built, done.images.sum(), flush=True)
"""


@pytest.fixture
def child(tmp_path):
    """Start a process that builds the cache and halts before the given image until a line is sent to it."""
    started = []

    def start(halt_at):
        arguments = [str(tmp_path / "knees"), str(tmp_path / "cache"), str(tmp_path / "decoded"), str(halt_at)]
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(knees, tmp_path, child):
    made = knees(200)
    process = child(halt_at=190)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert len(list((tmp_path / "cache").glob("*.part"))) == 1
    done = opened((made[0], made[1], [""] * 200), tmp_path / "cache")
    assert done.built
    assert np.array_equal(done.images, expected(made[0]))
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.slow
def test_two_processes_build_it_once(knees, tmp_path, child):
    made = knees(80)
    first = child(halt_at=40)
    assert first.stdout.readline() == "half\n"
    second = child(halt_at=-1)
    assert second.stderr.readline().startswith("another run is building this cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    out_first, _ = first.communicate("continue\n")
    out_second, _ = second.communicate()
    total = str(expected(made[0]).sum())
    assert out_first.split() == ["True", total]
    assert out_second.split() == ["False", total]
    assert sorted((tmp_path / "decoded").read_text().split()) == made[0]


def test_the_lock_is_free_after_a_build(knees, tmp_path):
    done = opened(knees(2), tmp_path)
    lock = cache.FileLock(done.path.with_suffix(".lock"))
    with lock.acquire(timeout=0):
        assert lock.is_locked


# --- no space, no permission


def test_no_space_is_said_before_anything_is_decoded(knees, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10))
    monkeypatch.setattr(cache, "read_image", None)
    with pytest.raises(InputError, match=r"cannot be written .*it needs 0.0 MB and 0.0 MB are free.*data.cache_dir"):
        opened(knees(), tmp_path / "cache")
    assert nothing_whole(tmp_path / "cache")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_up_during_the_build_is_one_line(knees, tmp_path, monkeypatch, number):
    made = knees(150)
    calls = []

    def full(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=f"written or read \\({os.strerror(number)}\\); set data.cache_dir=DIR"):
            opened(made, tmp_path / "cache")
    assert nothing_whole(tmp_path / "cache")
    assert np.array_equal(opened(made, tmp_path / "cache").images, expected(made[0]))


def test_a_cache_folder_that_is_a_file_stops(knees, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"{folder}: the cache cannot be written or read"):
            opened(([], [], []), folder)


def test_a_folder_without_permission_stops(knees, tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(InputError, match=r"the cache cannot be written or read \(Permission denied\)"):
        opened(([], [], []), tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_stops(knees, tmp_path):
    made = knees(2)
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"):
        opened(made, tmp_path / "cache")
