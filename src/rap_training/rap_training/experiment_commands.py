"""The command of `rap-train` that runs experiments and writes about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rap_bringup.console import progress_bar
from rap_training.experiments.page import of_catalog, write_page
from rap_training.experiments.plan import load_catalog, runs_of
from rap_training.experiments.result import read_results
from rap_training.experiments.run import RunError, Workplace, run_missing

REPORT = "report"
"""In place of an experiment: nothing is run, only the page is written."""


def experiment_command(
    name: Annotated[
        str,
        typer.Argument(
            help="alignment, cross-agent, motion or recovery; report writes the page only."
        ),
    ],
    *,
    logs: Annotated[Path, typer.Option(help="Folder of training logs.")] = Path("out/logs/train"),
    validation: Annotated[
        Path, typer.Option(help="Folder of the logs that arms are measured on.")
    ] = Path("out/logs/validate"),
    out: Annotated[
        Path, typer.Option(help="Folder of checkpoints, bundles and reports; runs in it go on.")
    ] = Path("out/experiments"),
    results: Annotated[
        Path, typer.Option(help="Folder of results; the page is written beside it.")
    ] = Path("docs/results"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each arm.")] = None,
    only: Annotated[str | None, typer.Option(help="The one arm to run.")] = None,
    only_seed: Annotated[int | None, typer.Option(min=1, help="The one seed to run.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 1,
) -> None:
    """Trains and evaluates the arms of an experiment; writes docs/results.md.

    Arms that are finished are kept, and stopped ones go on.

    Examples:
    rap-train experiment recovery
    rap-train experiment cross-agent --only 16x --only-seed 2
    rap-train experiment report
    """
    catalog, failed = load_catalog(), None
    if name != REPORT:
        runs = runs_of(catalog, name, seeds, only, only_seed)
        place = Workplace(logs.resolve(), validation.resolve(), out.resolve(), results, workers)
        finished = of_catalog(catalog, read_results(results)[0])
        try:
            with progress_bar(name) as report:
                done = run_missing(runs, place, report, finished)
            typer.echo(f"{name}: {len(done)} of {len(runs)} runs were missing and are done")
        except RunError as error:  # The page is of those that are done.
            failed = error
    typer.echo(f"page: {write_page(catalog, results)}")
    if failed:
        raise failed
