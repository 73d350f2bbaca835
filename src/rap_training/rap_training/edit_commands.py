"""The command of `rap-train` that finds edits of recorded scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rap_bringup.console import progress_bar
from rap_evaluation.command_options import RayOption
from rap_evaluation.logs.drive_log import log_folders
from rap_evaluation.sharding import process
from rap_training.augmentation.edits.index import Counts, EditOptions
from rap_training.augmentation.edits.source import index_edits


def edits_command(
    *,
    logs: Annotated[Path, typer.Option(help="Folder of logs; each gets an index beside it.")],
    count: Annotated[
        int, typer.Option(min=1, help="Moments looked at per log, edits at most.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    ray_address: RayOption = None,
) -> None:
    """Finds edits with a label that PDM-Closed has driven and a check has passed.

    An edit removes, adds, shifts, speeds up or brakes a road user, or switches a light. Indices
    that are complete are kept, so a stopped run goes on.

    Example: rap-train edits --logs out/logs/train --count 500
    """
    options = EditOptions(count, seed)
    with progress_bar("finding edits") as report:
        found = process(
            log_folders(logs.resolve()),
            lambda: partial(index_edits, options=options),
            ray_address=ray_address,
            report=report,
        )
    Console().print(_table(_total(found)))


def _total(found: Sequence[Counts]) -> Counts:
    """Returns the counts of all logs together."""
    kinds = sorted({kind for counts in found for kind in counts})
    return {
        kind: dict(sum((Counter(counts.get(kind, {})) for counts in found), Counter()))
        for kind in kinds
    }


def _table(counts: Counts) -> Table:
    table = Table("edit", "tried", "kept", "dropped because")
    for kind, outcomes in counts.items():
        dropped = {outcome: number for outcome, number in outcomes.items() if outcome != "kept"}
        reasons = "\n".join(f"{number} {outcome}" for outcome, number in dropped.items())
        table.add_row(kind, str(sum(outcomes.values())), str(outcomes.get("kept", 0)), reasons)
    return table
