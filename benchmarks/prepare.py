"""How fast `prepare` turns DICOM films into PNG files: `python -m benchmarks.prepare`.

Phantom films of 2500 x 2000 pixels and 12 bits, half of them RLE-compressed, are prepared in a temporary
folder: unchanged, resampled to 0.2 mm, and again when all output exists. It prints films per second and peak memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless, generate_uid

from koa_lightning.config.compose import compose
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare.prepare import prepare

N_FILMS = 40
SHAPE = (2500, 2000)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "key").write_text("a key for nobody but this benchmark")
        for number in range(N_FILMS):
            _write(folder / f"in/{number}.dcm", number)
        megabytes = sum(file.stat().st_size for file in folder.glob("in/*")) / 1e6
        print(f"{N_FILMS} films of {SHAPE[1]} x {SHAPE[0]} pixels, {megabytes:.0f} MB")
        for words, settings in (("as they are", ()), ("all there already", ()), ("to 0.2 mm", ("spacing=0.2",))):
            paths = [f"input='{folder / 'in'}'", f"output='{folder / 'out'}'", f"key_file='{folder / 'key'}'"]
            start = time.perf_counter()
            prepare(compose("prepare", [*paths, "quiet=true", *settings]))
            print(f"{words}: {N_FILMS / (time.perf_counter() - start):.1f} films/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def _write(file: Path, number: int) -> None:
    small = draw_phantoms([f"p{number}"], ["R"], [number % 5], seed=0, size=256)[0]
    image = cv2.resize(small, SHAPE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32) * 15
    image += np.random.default_rng(number).normal(0, 12, SHAPE)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = SHAPE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth = 2000, 4000
    ds.PatientID, ds.ImageLaterality, ds.ImagerPixelSpacing = f"p{number // 2}", "RL"[number % 2], [0.143, 0.143]
    ds.PixelData = image.clip(0, 4095).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    if number % 2:
        ds.compress(RLELossless)
    file.parent.mkdir(exist_ok=True)
    ds.save_as(file, enforce_file_format=True)


if __name__ == "__main__":
    main()
