"""Sweeps that can resume: Optuna under Hydra's multirun. `study` describes the database of a sweep."""
