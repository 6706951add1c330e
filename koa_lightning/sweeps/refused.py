"""Why a launcher could not begin its jobs at all, in one line: then no trial failed, and none was spent."""

from __future__ import annotations

from koa_lightning.errors import InputError

_OF_LAUNCHERS = ("FailedSubmissionError", "FailedJobError", "CalledProcessError")


def refused(launcher: str, error: BaseException) -> InputError | None:
    """Return what to say of an exception that a launcher raised before any job ran; None for another one.

    Args:
        launcher: E.g. `slurm`.
        error: By its class's name, as no launcher need be installed.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Could not detect" in lines[0]:
        return InputError(f"hydra/launcher={launcher}: there is no Slurm here (no srun); type hydra/launcher=processes")
    if type(error).__name__ not in _OF_LAUNCHERS:
        return None
    said = next((line for line in lines if "error" in line.lower() or "limit" in line.lower()), lines[-1])
    return InputError(
        f"hydra/launcher={launcher}: the cluster did not take the jobs: {said}; type the command again "
        "later, it resumes"
    )
