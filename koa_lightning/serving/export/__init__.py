"""A checkpoint as one file for other programs: ONNX, OpenVINO, TorchScript."""
