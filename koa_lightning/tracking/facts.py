"""The code and the machine that made a run. No heavy imports here."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import koa_lightning

UNKNOWN = "unknown"
_PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "kornia", "mlflow", "hydra-core", "pandas")
_GIT_SECONDS = 10


def run_facts() -> dict[str, str]:
    """Return tags for a run: git commit, versions, processor; an unavailable one is "unknown".

    The commit is that of the checkout that the package runs from, else of the working directory's repository.
    It is dirty when files differ from it or are not in it.
    """
    git = git_facts()
    facts = {f"git.{name}": value for name, value in git.items()}
    facts |= {f"version.{package.removesuffix('-core')}": _version(package) for package in _PACKAGES}
    facts |= {
        "version.koa_lightning": koa_lightning.__version__,
        "version.python": platform.python_version(),
        "machine.platform": platform.platform(),
        "machine.cpu": _cpu(),
        "machine.threads": str(_threads()),
        "mlflow.source.name": Path(sys.argv[0]).name or UNKNOWN,
    }
    return facts | ({"mlflow.source.git.commit": git["commit"]} if git["commit"] != UNKNOWN else {})


def git_facts(folders: tuple[Path, ...] | None = None) -> dict[str, str]:
    """Return `commit`, `dirty` ("true" or "false") and `branch` of the first folder that is in a repository.

    Args:
        folders: The default is the package's checkout, then the working directory.
    """
    for folder in folders or (*_checkout(), Path.cwd()):
        commit = _git(folder, "rev-parse", "--verify", "HEAD")
        if commit:
            status = _git(folder, "status", "--porcelain")
            branch = _git(folder, "symbolic-ref", "--short", "HEAD")
            dirty = UNKNOWN if status is None else str(bool(status)).lower()
            return {"commit": commit, "dirty": dirty, "branch": branch or UNKNOWN}
    return dict.fromkeys(("commit", "dirty", "branch"), UNKNOWN)


def _checkout() -> tuple[Path, ...]:
    """Return the folder above the package, unless that is where packages are installed."""
    above = Path(koa_lightning.__file__).resolve().parent.parent
    return () if above.name in ("site-packages", "dist-packages") else (above,)


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine, or a very slow disk
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or UNKNOWN


def _threads() -> int:
    """Return how many processors this process may use; a batch system may grant fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
