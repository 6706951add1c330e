"""Every metric in a file of its own, declared by `conf/_metric/NAME.yaml`; the engine finds it there."""
