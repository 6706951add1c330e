"""The metrics, one per file, each declared by `conf/_metric/NAME.yaml`, where the engine finds it."""
