"""Explain in one line why a launcher could not start any job; then no trial failed, and none was used up."""

from __future__ import annotations

from koa_lightning.errors import InputError

_OF_LAUNCHERS = ("FailedSubmissionError", "FailedJobError", "CalledProcessError")


def refused(launcher: str, error: BaseException) -> InputError | None:
    """Return the error for an exception that a launcher raised before any job ran; None for any other exception.

    Args:
        launcher: E.g. `slurm`.
        error: The exception; recognised by its class name, as the launcher may not be installed.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Could not detect" in lines[0]:
        return InputError(f"hydra/launcher={launcher}: there is no Slurm here (no srun); type hydra/launcher=processes")
    if type(error).__name__ not in _OF_LAUNCHERS:
        return None
    said = next((line for line in lines if "error" in line.lower() or "limit" in line.lower()), lines[-1])
    return InputError(
        f"hydra/launcher={launcher}: the cluster did not accept the jobs: {said}; type the command again "
        "later, it resumes"
    )
