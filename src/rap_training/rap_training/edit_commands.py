"""The command of `rap-train` that finds edits of recorded scenes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rap_bringup.console import progress_bar
from rap_evaluation.logs.drive_log import log_folders
from rap_training.augmentation.edit_index import Counts, EditOptions
from rap_training.augmentation.edits import index_edits


def edits_command(
    *,
    logs: Annotated[Path, typer.Option(help="Folder of logs; each gets an index beside it.")],
    count: Annotated[int, typer.Option(min=1, help="Edits per log, if it has as many.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> None:
    """Finds edits with a label that PDM-Closed has driven and a check has passed.

    An edit removes, adds, shifts, speeds up or brakes a road user, or switches a light. Indices
    that are complete are kept, so a stopped run goes on.

    Example: rap-train edits --logs out/logs/train --count 500
    """
    total: dict[str, Counter[str]] = {}
    with progress_bar("finding edits") as report:
        paths = log_folders(logs)
        for done, path in enumerate(paths):
            counts = index_edits(
                path,
                EditOptions(count, seed),
                lambda share, note="", done=done: report((done + share) / len(paths), note),
            )
            for kind, outcomes in counts.items():
                total.setdefault(kind, Counter()).update(outcomes)
    Console().print(_table({kind: dict(outcomes) for kind, outcomes in total.items()}))


def _table(counts: Counts) -> Table:
    table = Table("edit", "tried", "kept", "dropped because")
    for kind, outcomes in counts.items():
        dropped = {outcome: number for outcome, number in outcomes.items() if outcome != "kept"}
        reasons = "\n".join(f"{number} {outcome}" for outcome, number in dropped.items())
        table.add_row(kind, str(sum(outcomes.values())), str(outcomes.get("kept", 0)), reasons)
    return table
