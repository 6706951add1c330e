"""Sweeps that survive: Optuna under Hydra's multirun. `study` says what a sweep leaves in its database."""
