"""`pvf backtest`: train on the past, score the future, beside the baselines. See docs/backtest.md."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown

from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings, load

if TYPE_CHECKING:
    from pvf.backtest import Backtest
    from pvforecast.model.bundle import Bundle

MAX_HORIZON_HOURS = 168


def backtest(
    parks: Annotated[
        list[str] | None, typer.Argument(metavar="[PARK]...", help="Default: pvdaq-50; with --lake all parks.")
    ] = None,
    park: Annotated[list[str] | None, typer.Option(help="The same, as an option. Repeat.")] = None,
    lake: Annotated[
        bool, typer.Option("--lake", help="Use what the lake holds (PVF_LAKE_URI, or the running stack's).")
    ] = False,
    train_until: Annotated[
        str | None,
        typer.Option(help="ISO instant with offset; only what was known then is learned. Default with --lake: 75 %."),
    ] = None,
    test_from: Annotated[
        str | None, typer.Option(help="ISO instant with offset: first issue. Default: --train-until.")
    ] = None,
    test_until: Annotated[
        str | None, typer.Option(help="ISO instant with offset. Default with --lake: the last metered hour.")
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(help="99 for levels 0.01 to 0.99, another number N for 1/(N+1) …, or levels: 0.1,0.5,0.9."),
    ] = None,
    horizon: Annotated[int, typer.Option(help="Hours ahead of each forecast, 1 to 168.")] = 48,
    issue_hours: Annotated[str, typer.Option(help="Local hours at which forecasts are issued, e.g. 0,6,12.")] = "0",
    issue_at_runs: Annotated[
        bool, typer.Option("--issue-at-runs", help="Issue whenever a new weather run becomes available.")
    ] = False,
    retrain_every: Annotated[
        int | None, typer.Option(metavar="DAYS", help="Refit every so many days on what was known then.")
    ] = None,
    weather_source: Annotated[str | None, typer.Option(help="Only weather runs of this source.")] = None,
    unmetered: Annotated[
        bool, typer.Option("--unmetered", help="Also forecast parks and hours that were not metered.")
    ] = False,
    prices: Annotated[
        Path | None, typer.Option(help="CSV of prices, for the cost of imbalance. See docs/backtest.md.")
    ] = None,
    champion: Annotated[
        bool, typer.Option(help="Score the model in service beside, where the stack is set and has one.")
    ] = True,
    forecasts: Annotated[
        Path | None, typer.Option(help="Write every forecast of the test to this Parquet file.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Train on the past, score the future, beside the baselines."""
    from pvforecast.shards import instant

    times = {"--train-until": train_until, "--test-from": test_from, "--test-until": test_until}
    begin, first, end = (instant(text, name) if text else None for name, text in times.items())
    for name, path in (("--forecasts", forecasts), ("--html", html)):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidInput(f"no folder {path.parent}", field=name, hint="make it first")
    if not 1 <= horizon <= MAX_HORIZON_HOURS:
        raise InvalidInput(f"{horizon} is not 1 to {MAX_HORIZON_HOURS} hours", field="--horizon")
    if retrain_every is not None and retrain_every < 1:
        raise InvalidInput(f"{retrain_every} is no number of days", field="--retrain-every", hint="1 or more")
    chosen = [*(parks or []), *(park or [])]
    hours, levels = _hours(issue_hours), _levels(quantiles)

    from pvf import backtest as bt
    from pvf import price_file

    if not lake:
        begin, end = begin or bt.TRAIN_UNTIL, end or bt.TEST_UNTIL
    if begin and end and begin >= end:
        raise InvalidInput(
            "lies after the end of the test", field="--train-until", hint="it must be before --test-until"
        )

    from pvforecast import wiring

    settings = load()
    options = bt.Options(
        begin,
        first,
        end,
        horizon,
        hours,
        issue_at_runs,
        retrain_every,
        levels,
        weather_source,
        unmetered,
        prices=price_file.read(prices) if prices else None,
        champion=_champion(settings) if champion and lake else None,
        forecasts=forecasts,
    )
    say = _say
    result = (
        bt.on_lake(wiring.lake(settings), chosen, options, say)
        if lake
        else bt.samples(chosen or ["pvdaq-50"], options, say)
    )
    _show(result, forecasts, html, as_json=as_json)


def _show(result: Backtest, forecasts: Path | None, html: Path | None, *, as_json: bool) -> None:
    from pvforecast.evaluation import html as pages
    from pvforecast.evaluation import report

    outcome = result.outcome
    skipped = result.skipped | outcome.skipped
    for name, why in result.skipped.items():
        print(f"left out: {name} {why}", file=sys.stderr)
    for name, why in outcome.skipped.items():
        print(f"not scored: {name} {why}", file=sys.stderr)
    for note in outcome.notes:
        print(f"note: {note}", file=sys.stderr)
    if forecasts is not None:
        print(f"{result.rows:,} rows of forecasts in {forecasts}", file=sys.stderr)
    figures = outcome.figures() | {"not_scored": skipped}
    if html is not None:
        try:
            html.write_text(pages.page(figures, outcome.kept, result.zones), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"can't be written: {error}", field="--html", hint="name another file") from error
        print(f"report: {html}", file=sys.stderr)
    scores = outcome.scores()
    if as_json:
        parks = {p: {**s.model, "baselines": s.baselines, "skill": s.skill} for p, s in scores.items()}
        print(json.dumps(_plain({**parks, "*": figures})))
        return
    Console(width=max(Console().width, 120)).print(Markdown(report.backtest(figures, scores.values())))


def _plain(value: Any) -> Any:
    """JSON knows no NaN: null."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _hours(text: str) -> tuple[int, ...]:
    hours = sorted({int(part) for part in text.split(",") if part.strip().isdigit()})
    if len(hours) != text.count(",") + 1 or not all(0 <= hour < 24 for hour in hours):
        raise InvalidInput(f"{text!r} are no hours", field="--issue-hours", hint="local hours 0 to 23, e.g. 0,6,12")
    return tuple(hours)


def _levels(text: str | None) -> tuple[float, ...] | None:
    hint = "99, or levels that ascend and hold 0.5: 0.1,0.5,0.9"
    if text is None:
        return None
    try:
        if text.strip().isdigit():
            count = int(text)
            levels = tuple(round(n / (count + 1), 12) for n in range(1, count + 1))
        else:
            levels = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"{text!r} are no levels", field="--quantiles", hint=hint) from error
    ascending = all(a < b for a, b in itertools.pairwise(levels))
    if not levels or not ascending or not 0 < levels[0] <= levels[-1] < 1 or 0.5 not in levels or len(levels) > 199:
        raise InvalidInput(f"{text!r} are no levels", field="--quantiles", hint=hint)
    return levels


def _champion(settings: Settings) -> Bundle | None:
    """The model in service, where a stack is set; a lake in a folder has none."""
    if not settings.postgres_dsn.get_secret_value() or not settings.s3_endpoint:
        return None
    from pvforecast import clients, wiring
    from pvforecast.model import bundle

    current = clients.promotions(settings).current()
    return bundle.load(wiring.objects(settings), current.bundle_uri) if current else None
