"""The commands of `rap-evaluate` that score case files, schema `rap.cases/1`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rap_evaluation.metrics.bench2drive import parse_bench2drive, score_bench2drive
from rap_evaluation.metrics.case_file import (
    CaseResults,
    read_cases,
    score_cases,
    write_results,
)
from rap_evaluation.metrics.frame_cases import (
    parse_extended_comfort,
    parse_stage,
    score_extended_comfort,
    score_stage,
)
from rap_evaluation.metrics.pdm import PdmCase, score_v1, score_v2
from rap_evaluation.metrics.pdm_measures import Version
from rap_evaluation.metrics.rater_feedback import parse_rater_feedback, score_rater_feedback
from rap_evaluation.pdm_cases.arrays import parse_case

CasesArgument = Annotated[Path, typer.Argument(metavar="CASES.json", help="Or .json.gz.")]
OutOption = Annotated[Path, typer.Option(help="JSON file to write; its folder is made if missing.")]

OFFICIAL_MS = {"v1": 120.0, "v2": 235.0}
"""What NAVSIM takes per candidate, one thread of a loaded two-core machine: 0.06 to 0.13 s in v1,
0.13 to 0.34 s in v2. Measured with the official code."""

_Parsed = TypeVar("_Parsed")


def pdm_command(
    cases: CasesArgument,
    *,
    version: Annotated[Version, typer.Option(help="v1: PDMS of NAVSIM v1; v2: EPDMS.")],
    out: OutOption,
) -> None:
    """Scores plans by NAVSIM's PDM score: PDMS (v1), or EPDMS of one frame (v2).

    Example: rap-evaluate pdm pdm.json.gz --version v1 --out out/pdm_v1.json
    """
    score: Callable[[PdmCase], Mapping[str, Any]] = score_v1 if version == "v1" else score_v2
    results = score_file(cases, out, "pdm", partial(parse_case, version=version), score)
    scored = [row for name, row in results.cases.items() if name not in results.errors]
    candidates = sum(map(len, scored))
    if candidates:
        mean_ms = 1e3 * results.seconds / candidates
        sys.stdout.write(
            f"{mean_ms:.3f} ms per candidate; the official code: {OFFICIAL_MS[version]:g} ms\n"
        )


def two_stage_command(cases: CasesArgument, *, out: OutOption) -> None:
    """Aggregates scored frames as NAVSIM v2 does, in two stages or one.

    Example: rap-evaluate two-stage two_stage.json --out out/two_stage.json
    """
    score_file(cases, out, "two-stage", parse_stage, score_stage)


def extended_comfort_command(cases: CasesArgument, *, out: OutOption) -> None:
    """Compares plans half a second apart: NAVSIM v2's two-frame extended comfort.

    Example: rap-evaluate extended-comfort extended_comfort.json --out out/extended_comfort.json
    """
    score_file(cases, out, "extended-comfort", parse_extended_comfort, score_extended_comfort)


def rfs_command(cases: CasesArgument, *, out: OutOption) -> None:
    """Scores plans by Waymo's rater feedback score, with ADE at 3 s and 5 s.

    Example: rap-evaluate rfs rfs.json --out out/rfs.json
    """
    score_file(cases, out, "rfs", parse_rater_feedback, score_rater_feedback)


def bench2drive_command(cases: CasesArgument, *, out: OutOption) -> None:
    """Scores driven routes, sets of them and open-loop plans as Bench2Drive does.

    Example: rap-evaluate bench2drive bench2drive.json --out out/bench2drive.json
    """
    score_file(cases, out, "bench2drive", parse_bench2drive, score_bench2drive)


COMMANDS: dict[str, Callable[..., None]] = {
    "pdm": pdm_command,
    "two-stage": two_stage_command,
    "extended-comfort": extended_comfort_command,
    "rfs": rfs_command,
    "bench2drive": bench2drive_command,
}
"""By name on the command line."""


def score_file(
    path: Path,
    out: Path,
    metric: str,
    parse: Callable[[object], _Parsed],
    score: Callable[[_Parsed], Mapping[str, Any]],
) -> CaseResults:
    """Scores a case file, writes the results and prints a summary.

    Cases that cannot be scored are listed on stderr and have their reason in the results.

    Args:
        path: The case file.
        out: Where the results go.
        metric: Which metric the file must be for.
        parse: See `case_file.score_cases`.
        score: See `case_file.score_cases`.

    Raises:
        CaseFileError: If the file cannot be used.
    """
    results = score_cases(read_cases(path, metric), parse, score)
    write_results(out, results)
    sys.stderr.writelines(
        f"{' '.join(name.split())}: {reason}\n" for name, reason in results.errors.items()
    )
    counts = f"{len(results.cases)} cases, {len(results.errors)} not scored"
    sys.stdout.write(f"{out}: {counts}, {results.seconds:.3f} s\n")
    return results
