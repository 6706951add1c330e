"""Audit a folder of knees: `python -m koa_lightning.audit data.root=FOLDER`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from koa_lightning import DISCLAIMER, __version__
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import configured
from koa_lightning.data import manifest as mf
from koa_lightning.data.audit import leakage
from koa_lightning.data.audit.findings import EXIT_CODES, KINDS, NOTE, SEVERITIES, Finding, chosen, exit_code
from koa_lightning.data.audit.gather import gather
from koa_lightning.data.audit.run import run
from koa_lightning.data.build import source_of
from koa_lightning.data.oof import read_oof
from koa_lightning.errors import InputError
from koa_lightning.reporting.audit_page import write_page

if TYPE_CHECKING:
    from koa_lightning.data.audit.gather import Knees

_NAMED = 3  # findings of each kind that the terminal shows
_FILES = 4  # files of each finding


@configured
def audit(cfg: DictConfig) -> dict[str, Any]:
    """Audit all splits of a source, including test. Images are compared; nothing is learned, and no file is changed.

    Args:
        cfg: The config `audit`, composed.

    Returns:
        `exit_code` (0 clean, 1 warnings, 3 leakage), `n_knees`, `n_findings`, `counts` (by kind), `out`.

    Raises:
        InputError: The source cannot be read, or a setting is wrong. Findings never raise.
    """
    validate(cfg)
    kinds = _kinds(cfg.checks, near=cfg.near, polarity=cfg.polarity, oof=cfg.oof)

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    oof = read_oof(cfg.oof) if cfg.oof else None
    knees = gather(instantiate(cfg.data.source), cfg.data, cfg.quiet)
    result = run(knees, kinds, oof, cfg.quiet)
    _remember(knees, result.pairs, kinds)
    facts = _facts(str(cfg.data.name), source_of(cfg.data), knees, kinds, result.found)
    _write(folder, facts, result.found)

    write_page(folder / "audit.html", facts, knees, result, n_shown=cfg.n_shown)
    _say(facts, result.found, folder)
    counts = dict(Counter(finding.kind for finding in result.found))
    code = exit_code(result.found)
    return {
        "exit_code": code,
        "n_knees": len(knees.rows),
        "n_findings": len(result.found),
        "counts": counts,
        "out": str(folder),
    }


def _kinds(checks: Sequence[str] | None, *, near: bool, polarity: bool, oof: str | None) -> set[str]:
    """Return the kinds to look for, by `checks`, `near`, `polarity` and `oof`."""
    kinds = chosen(checks)
    if checks is not None and "suspicious_grade" in kinds and not oof:
        raise InputError("checks: suspicious_grade needs out-of-fold probabilities; add oof=FILE")
    off = {"near_duplicate": not near, "inverted": not polarity, "suspicious_grade": not oof}
    return kinds - {kind for kind, is_off in off.items() if is_off}


def _remember(knees: Knees, pairs: pd.DataFrame, kinds: set[str]) -> None:
    """Record the duplicates for `train`; if the record cannot be written, warn and continue."""
    try:
        leakage.remember(knees.rows, pairs, kinds & {"near_duplicate"} | {"same_pixels"})
    except OSError as error:
        where = f"{leakage.record_file()} ({error.strerror or error})"
        print(f"WARNING: {where}: cannot be written, so train will not know of near duplicates", file=sys.stderr)


def _facts(data: str, source: str, knees: Knees, kinds: set[str], found: list[Finding]) -> dict[str, Any]:
    """Return the facts about the whole audit, as plain values."""
    rows = knees.rows
    splits = [split for split in (*mf.SPLITS, mf.AUTO_TEST, "") if (rows["split"] == split).any()]
    by_kind = Counter(finding.kind for finding in found)
    by_severity = Counter(finding.severity for finding in found)
    return {
        "note": DISCLAIMER,
        "version": __version__,
        "data": data,
        "source": source,
        "marks": mf.caveats(rows),
        "fingerprint": mf.fingerprint(rows, splits),
        "n_knees": len(rows),
        "n_patients": int(rows.loc[rows["patient"] != "", "patient"].nunique()),
        "n_unreadable": len(knees.unreadable),
        "parts": {split or "no split": mf.counts(rows, split) for split in splits},
        "severities": {severity: by_severity.get(severity, 0) for severity in SEVERITIES},
        "kinds": {kind: by_kind.get(kind, 0) for kind in KINDS if kind in kinds},
        "not_looked_for": [kind for kind in KINDS if kind not in kinds],
        "exit_code": exit_code(found),
    }


def _write(folder: Path, facts: dict[str, Any], found: list[Finding]) -> None:
    """Write audit.json and findings.csv."""
    listed = [
        {"kind": f.kind, "severity": f.severity, "files": f.files, "evidence": f.evidence, "numbers": f.numbers}
        for f in found
    ]
    (folder / "audit.json").write_text(json.dumps({**facts, "findings": listed}, indent=1))
    table = pd.DataFrame(listed, columns=["kind", "severity", "files", "evidence", "numbers"])
    table["files"] = [" | ".join(files) for files in table["files"]]
    table["numbers"] = [json.dumps(numbers) for numbers in table["numbers"]]
    table.to_csv(folder / "findings.csv", index=False)


def _say(facts: dict[str, Any], found: list[Finding], folder: Path) -> None:
    colours = {"leakage": "bold red", "warning": "yellow", "note": "cyan"}
    console = Console(highlight=False, soft_wrap=True)
    shown = Table(title=f"{facts['n_knees']} knees of {facts['n_patients']} patients")
    shown.add_column("severity")
    shown.add_column("kind")
    shown.add_column("findings", justify="right")
    counts = Counter((finding.severity, finding.kind) for finding in found)
    for (severity, kind), n in counts.items():
        shown.add_row(f"[{colours[severity]}]{severity}[/]", KINDS[kind].title, str(n))
    if not counts:
        shown.add_row("", "nothing found", "0")
    console.print(shown)
    for severity, kind in counts:
        some = [finding for finding in found if (finding.severity, finding.kind) == (severity, kind)]
        console.print(f"[{colours[severity]}]{severity}[/] {KINDS[kind].title}: {KINDS[kind].explanation}")
        for finding in some[:_NAMED]:
            more = f" and {len(finding.files) - _FILES} more" if len(finding.files) > _FILES else ""
            console.print(escape(f"  {', '.join(finding.files[:_FILES])}{more}: {finding.evidence}"))
        if len(some) > _NAMED:
            console.print(f"  and {len(some) - _NAMED} more")
    if facts["not_looked_for"]:
        console.print(f"not checked: {', '.join(facts['not_looked_for'])}")
    for caveat in facts["marks"]:
        console.print(f"[bold red]{caveat}[/]")
    words = {EXIT_CODES[NOTE]: "clean", 1: "warnings", 3: "leakage"}
    print(f"{words[facts['exit_code']]} (exit code {facts['exit_code']}); {DISCLAIMER}")
    print(f"written to {folder}: audit.html, audit.json, findings.csv")
