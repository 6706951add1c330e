"""Eight-bit integers."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")


def test_int8_is_fitted_on_training_knees_and_its_price_is_measured(
    export_of, calibrated_checkpoint, as_onnx, tmp_path, capsys
):
    made = export_of(calibrated_checkpoint, tmp_path / "out", "precision=int8", "n_calibration=16")
    assert np.isfinite(made["kappa_price"]) or "undefined" in capsys.readouterr().out
    card = (tmp_path / "out" / "card.md").read_text()
    assert "Price of int8 on validation: quadratic kappa" in card
    sizes = [(each / "grader.onnx").stat().st_size for each in (tmp_path / "out", as_onnx[0])]
    assert sizes[0] < sizes[1] and as_onnx[1]["largest"] < made["largest"]
