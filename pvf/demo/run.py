"""The steps of `pvf run`, in order."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from rich.console import Console

from inference.prediction_log import store as prediction_log
from inference.prediction_log.record import RESPONSE, Row
from inference.prediction_log.replay import replay
from pvf import backtest, children, client, show
from pvf.demo import loop, scenario
from pvf.demo.progress import Steps
from pvf.stack import catalogue
from pvf.stack.gateway_config import PAGE
from pvf.stack.local import Stack
from pvf.stack.services import STUB_LABEL
from pvforecast import clients, clocks, fleet, preparing, snapshot, wiring
from pvforecast.errors import InvalidInput, NotReady, StackError
from pvforecast.known import Floats
from pvforecast.processing import Plant, roll_up
from pvforecast.registry import reconcile
from pvforecast.settings import Settings
from pvforecast.shards import as_datetime64
from pvforecast.sources.catalogue import generation_source
from pvforecast.sources.pvdaq_samples import PARKS, SOURCE, WEATHER_SOURCE

_RELOAD_DEADLINE_S = 30.0
_WEATHER = {  # by the option --weather: the column `source`, and what the reader is told
    "observed": (WEATHER_SOURCE, f"{WEATHER_SOURCE}: optimistic"),
    "stub": (f"{STUB_LABEL}:icon_global", f"{STUB_LABEL}: invented forecasts (what was observed, with errors)"),
}


@dataclass
class Summary:
    """What the last line says."""

    parks: int = 0
    forecast_rows: int = 0
    model_version: str = ""
    daylight_nmae: float = float("nan")
    smart_persistence_daylight_nmae: float = float("nan")
    skill: float = float("nan")
    weather: str = ""
    drift_event_id: str = ""
    retrain_verdict: str = ""
    retrain_mlflow_run_id: str = ""
    serving_model_version: str = ""
    bit_equal_rows: int = 0
    seconds_to_first_forecast: float = float("nan")
    seconds: float = float("nan")
    corrected_clocks: list[str] = field(default_factory=list)


def demo(home: Path, *, once: bool, weather: str = "observed") -> None:
    """Run every step on the data directory `home`; steps whose result is already stored are not done again.

    Parameters
    ----------
    once : stop everything at the end and print the summary as the last line of stdout.
    weather : `observed`, or `stub`: forecasts that a stand-in for Open-Meteo invents.

    Raises
    ------
    PvForecastError
        a step failed; everything is stopped.
    """
    console = Console(highlight=False, soft_wrap=True)
    steps = Steps(console, 8)
    if weather not in _WEATHER:
        raise InvalidInput(f"no weather {weather!r}", field="--weather", hint="observed or stub")
    summary = Summary(weather=_WEATHER[weather][1])
    parts = (*catalogue.DEFAULT, *((catalogue.WEATHER_STUB,) if weather == "stub" else ()))
    with Stack(
        home, parts, clock="snapshot", on_event=lambda line: console.print(f"      {line}", style="dim", markup=False)
    ) as stack:
        settings = stack.settings
        try:
            _steps(steps, console, stack, settings, summary, weather)
        except (KeyError, MlflowException, httpx.HTTPError) as error:
            stack.check()  # a dead part explains more than what failed because of it
            raise StackError(f"{type(error).__name__}: {error}", hint=f"see the logs in {home / 'log'}") from error
        summary.seconds = round(steps.seconds, 1)
        if not once:
            _how_to_go_on(console, stack, settings)
            stack.wait()
    if once:
        print(json.dumps(summary.__dict__))


def _steps(steps: Steps, console: Console, stack: Stack, settings: Settings, summary: Summary, weather: str) -> None:
    every = clients.everything(settings)
    reconcile(every.promotions, every.tracking, every.store)
    with steps.step("two real parks into the lake") as say:
        _load(settings, _WEATHER[weather][0], say)
        summary.corrected_clocks = _clocks(settings)
        for line in summary.corrected_clocks:
            say(line)
        summary.parks = len(fleet.registered(every.lake))
    with steps.step("a first model: training pipeline under kfp.local") as say:
        _first_model(settings, every, say)
    with steps.step("a forecast through the gateway") as say:
        stack.check()
        _await_forecast(settings, bundle_id=every.promotions.champion().bundle_id)
        answer = _ask(settings)
        predictions = answer.predictions
        summary.seconds_to_first_forecast = round(steps.seconds, 1)
        summary.forecast_rows = sum(len(p["valid_at"]) for p in predictions)
        summary.model_version = str(predictions[0]["model_version"])
        shown = next(p for p in predictions if p["park_id"] == scenario.PARK)
        metered = _metered(settings, shown)
        console.print(show.table(shown, _zone(settings, scenario.PARK), metered))
        png = settings.home / "forecast.png"
        show.fan_chart(shown, _zone(settings, scenario.PARK), png, metered)
        say(f"chart: {png}; weather: {summary.weather}")
    with steps.step("the same bits again, from the log through the training path") as say:
        summary.bit_equal_rows = _bit_equal(settings, answer.request_id, say)
    with steps.step("backtest: system 50, trained to the end of 2012, tested on 2013") as say:
        scores = backtest.on_samples()["pvdaq-50"]
        summary.daylight_nmae = scores.model["daylight_nmae"]
        summary.smart_persistence_daylight_nmae = scores.baselines["smart_persistence"]
        summary.skill = scores.skill
        say("observed weather: optimistic")
        say(f"daylight nMAE {summary.daylight_nmae:.2%}; R² {scores.model['r2']:.3f}")
        say(f"smart persistence {summary.smart_persistence_daylight_nmae:.2%}: skill {summary.skill:.1%}")
        say(f"the 80 % band holds {scores.model['daylight_picp80']:.1%}")
    with steps.step("frozen drift references") as say:
        loop.make_references(settings, say)
    with steps.step(f"a drill: {scenario.PARK} loses {scenario.LOSS:.0%} for good; daily drift checks") as say:
        event_id = loop.known_event(settings)
        if event_id:
            say(f"already found and learned in an earlier run: event {event_id}")
        else:
            event_id = loop.plant_and_detect(settings, say)
        summary.drift_event_id = event_id
    with steps.step("retrain, verdict, hot reload") as say:
        _close_loop(settings, every, stack, event_id, summary, say)


def _load(settings: Settings, weather_source: str, say: loop.Say) -> None:
    lake, store = wiring.lake(settings), wiring.objects(settings)
    for park in PARKS:
        fleet.register(lake, park)
    entries = [snapshot.latest_entry(store, park.id) for park in PARKS]
    if all(entries):
        newest = snapshot.read(store, PARKS[0].id, str(entries[0] and entries[0]["snapshot_id"])).weather
        if newest is not None and newest.source != weather_source:
            raise InvalidInput(
                f"{settings.home} was loaded with weather of {newest.source}",
                field="--weather",
                hint="run with that weather, or set PVF_HOME to another directory",
            )
        say("already loaded")
        return
    arguments = {"since": scenario.BEGIN.isoformat(), "as_of": scenario.NOW.isoformat()}
    children.pipeline("ingestion", settings, arguments, lambda task: say(f"ingestion: {task}"))


def _clocks(settings: Settings) -> list[str]:
    reports = clocks.reports(wiring.lake(settings))
    return [f"{park}: clock {report.sentence()}" for park, report in sorted(reports.items())]


def _first_model(settings: Settings, every: clients.Clients, say: loop.Say) -> None:
    champion = every.promotions.current()
    if champion is None:
        arguments = {"as_of": scenario.NOW.isoformat(), "reason": "first model"}
        result = children.pipeline("training", settings, arguments, lambda task: say(f"training: {task}"))
        say(f"verdict {result['verdict']}: {result['reason']}")
        champion = every.promotions.champion()
    say(f"champion: version {champion.model_version}, bundle {champion.bundle_id}, MLflow run {champion.mlflow_run_id}")


def _await_forecast(settings: Settings, *, bundle_id: str, issued_at: datetime | None = None) -> dict[str, Any]:
    """Wait until serving answers with this bundle, and as of this time where one is given; returns the forecast."""
    wanted = {"bundle_id": bundle_id}
    if issued_at is not None:
        wanted["issued_at"] = issued_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    deadline = time.monotonic() + _RELOAD_DEADLINE_S
    answered: dict[str, Any] = {}
    while time.monotonic() < deadline:
        try:
            answered = client.forecast(settings, [{"park_id": scenario.PARK}]).predictions[0]
        except NotReady as error:
            answered = {"error": str(error)}
        if wanted.items() <= answered.items():
            return answered
        time.sleep(0.3)
    last = {name: answered.get(name) for name in ("error", *wanted)}
    raise StackError(f"serving should answer {wanted}, and answers {last}", hint="see log/predictor.log")


def _ask(settings: Settings) -> client.Answer:
    return client.forecast(settings, [{"park_id": park.id, "horizon_hours": scenario.HORIZON_HOURS} for park in PARKS])


def _bit_equal(settings: Settings, request_id: str, say: loop.Say) -> int:
    """Replay the logged response of a request; returns how many rows have the same bits."""
    dsn = settings.postgres_dsn.get_secret_value()
    deadline = time.monotonic() + 15
    rows: list[Row] = []
    while not rows and time.monotonic() < deadline:
        found = prediction_log.find(dsn, request_id=request_id)
        rows = [row for row in found if row.type == RESPONSE]
        time.sleep(0.2)
    if not rows:
        raise StackError(f"request {request_id} did not reach the prediction log", hint="see log/prediction-log.log")
    result = replay(wiring.objects(settings), rows[0])
    say(f"{result.bit_equal_rows} of {result.rows} rows have equal float32 features and quantiles")
    if result.first_difference:
        say(result.first_difference)
    return result.bit_equal_rows


def _close_loop(
    settings: Settings, every: clients.Clients, stack: Stack, event_id: str, summary: Summary, say: loop.Say
) -> None:
    event = loop.await_retrain(settings, event_id, stack.check)
    run = event["run"]
    summary.retrain_verdict, summary.retrain_mlflow_run_id = run["verdict"], run["mlflow_run_id"]
    tags = every.tracking.run(run["mlflow_run_id"])["tags"]
    if tags["event_id"] != event_id:
        raise StackError(f"MLflow run {run['mlflow_run_id']} names event {tags['event_id']!r}, not {event_id!r}")
    say(f"verdict {run['verdict']}: {tags['verdict_reason']}")
    say(f"event {event_id} -> MLflow run {run['mlflow_run_id']} -> version {run['model_version']}")
    issue = loop.next_issue(settings, datetime.fromisoformat(event["event_time"]))
    preparing.publish_snapshots(every.lake, every.store, [park.id for park in PARKS], as_datetime64(issue.isoformat()))
    after = _await_forecast(settings, bundle_id=every.promotions.champion().bundle_id, issued_at=issue)
    summary.serving_model_version = str(after["model_version"])
    say(f"serving version {summary.serving_model_version} at {after['issued_at']}, without a restart")


def _metered(settings: Settings, prediction: dict[str, Any]) -> Floats:
    """What the samples know of the forecast's hours: a replay may look, the model could not."""
    park = next(park for park in PARKS if park.id == prediction["park_id"])
    hours = [datetime.fromisoformat(text) for text in prediction["valid_at"]]
    planted = loop.known_event(settings) is not None
    samples = generation_source(SOURCE, scenario.planted_loss() if planted else None)
    assert samples is not None
    raw = samples.generation(park, hours[0] - timedelta(hours=2), hours[-1] + timedelta(hours=3))
    true = clocks.apply(pd.DatetimeIndex(raw.measured_at), park, clocks.reports(wiring.lake(settings)))
    raw = raw.assign(measured_at=true).dropna(subset=["measured_at"])
    later = pd.Timestamp(hours[-1]) + pd.Timedelta(days=1)
    hourly = roll_up(raw, Plant(park.id, park.ac_capacity_kw), 3600, later).set_index("valid_at").power_kw
    return np.array([hourly.get(hour, np.nan) for hour in hours])


def _zone(settings: Settings, park_id: str) -> str:
    return next(park.timezone for park in fleet.registered(wiring.lake(settings)) if park.id == park_id)


def _how_to_go_on(console: Console, stack: Stack, settings: Settings) -> None:
    console.print("\n[bold]up.[/bold] Ask for a forecast:")
    body = json.dumps({"instances": [{"park_id": scenario.PARK}]})
    console.print(
        f"  curl -s {settings.gateway_url}{client.PATH} -H 'x-api-key: {client.key(settings)}' -d '{body}'",
        markup=False,
    )
    console.print("  .venv/bin/python -m pvf forecast pvdaq-50 serf-east")
    console.print(f"or look at {settings.gateway_url}{PAGE}, with the same key")
    for part, url in stack.urls.items():
        console.print(f"  {part:<15} {url}")
    console.print(
        f"  logs            {settings.home / 'log'}\nCtrl-C stops everything; state stays in {settings.home}."
    )
