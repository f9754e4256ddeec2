"""`pvf backtest`: train on the past, score the future, beside the baselines. See docs/import.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from pvforecast.errors import InvalidInput
from pvforecast.settings import load


def backtest(
    parks: Annotated[
        list[str] | None, typer.Argument(metavar="[PARK]...", help="Default: pvdaq-50; with --lake all parks.")
    ] = None,
    park: Annotated[list[str] | None, typer.Option(help="The same, as an option. Repeat.")] = None,
    lake: Annotated[
        bool, typer.Option("--lake", help="Use what the lake holds (PVF_LAKE_URI, or the running stack's).")
    ] = False,
    train_until: Annotated[
        str | None, typer.Option(help="ISO instant with offset; tested is from here on. Default with --lake: 75 %.")
    ] = None,
    test_until: Annotated[
        str | None, typer.Option(help="ISO instant with offset. Default with --lake: the last metered hour.")
    ] = None,
    forecasts: Annotated[
        Path | None, typer.Option(help="Write every forecast of the test to this Parquet file, 48 h ahead each.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Train on the past, score the future, beside the baselines."""
    from pvforecast.shards import instant

    begin = instant(train_until, "--train-until") if train_until else None
    end = instant(test_until, "--test-until") if test_until else None
    if forecasts is not None and not forecasts.absolute().parent.is_dir():
        raise InvalidInput(f"no folder {forecasts.parent}", field="--forecasts", hint="make it first")
    chosen = [*(parks or []), *(park or [])]

    from pvf import backtest as bt

    if not lake:
        begin, end = begin or bt.TRAIN_UNTIL, end or bt.TEST_UNTIL
    if begin and end and begin >= end:
        raise InvalidInput(
            "lies after the end of the test", field="--train-until", hint="it must be before --test-until"
        )

    from pvforecast import wiring
    from pvforecast.evaluation import report

    if lake or begin is None or end is None:
        outcome = bt.on_lake(wiring.lake(load()), chosen, begin, end)
    else:
        outcome = bt.samples(chosen or ["pvdaq-50"], begin, end)
    for name, why in outcome.skipped.items():
        print(f"left out: {name} {why}", file=sys.stderr)
    if forecasts is not None:
        rows = bt.save_forecasts(outcome, forecasts)
        print(f"{rows:,} rows of forecasts in {forecasts}", file=sys.stderr)
    scores = outcome.scores
    if as_json:
        print(json.dumps({p: {**s.model, "baselines": s.baselines, "skill": s.skill} for p, s in scores.items()}))
        return
    begun, ended = (moment.isoformat() for moment in (outcome.train_until, outcome.test_until))
    print(f"trained on what was known at {begun}, tested until {ended}\n")
    Console(width=max(Console().width, 120)).print(Markdown(report.scores(scores.values())))
