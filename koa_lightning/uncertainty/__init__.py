"""What a grade is worth: calibration, conformal sets, selective prediction, out-of-distribution inputs; no figures."""
