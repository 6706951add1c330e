"""How far to trust a grade: calibration, conformal sets, selective prediction, out-of-distribution inputs."""
