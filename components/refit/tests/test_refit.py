"""The bundle that will serve."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kfp import dsl
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from components.compare.component import compare
from components.featurize.component import featurize
from components.ingest_generation.component import ingest_generation
from components.ingest_weather.component import ingest_weather
from components.refit.component import refit
from components.train.component import train
from components.validate.component import validate
from pvforecast import clients, wiring
from pvforecast.model import bundle as bundles
from tests.component_fixtures import AS_OF, QUICK, Workshop, new_workshop, planned

pytestmark = pytest.mark.stack


def test_the_winner_learns_from_the_hold_out_too(connected: Workshop, compared: Any, refitted: str) -> None:
    store = wiring.objects(connected.settings)
    serving, challenger = (bundles.load(store, uri) for uri in (refitted, compared.job["challenger_uri"]))
    assert serving.info["trained_until"] == compared.job["as_of"]
    assert serving.info["trained_rows"] > challenger.info["trained_rows"]
    assert serving.info["recipe_hash"] == challenger.info["recipe_hash"]
    assert serving.info["data_versions"] == compared.job["data_versions"]
    assert clients.tracking(connected.settings).run(compared.job["run_id"])["tags"]["bundle_uri"] == refitted


def test_another_training_of_the_same_data_gives_the_same_bits(
    connected: Workshop, shard: dict[str, Any], featurized: dict[str, str], compared: Any, refitted: str
) -> None:
    """For another reason, in an MLflow run of its own, against the same champion (none): features are built anew."""
    job, uri = _trained(_without_champion(connected), shard, featurized)
    assert job["run_id"] != compared.job["run_id"]
    assert (job["challenger_uri"], job["verdict"], uri) == (
        compared.job["challenger_uri"], compared.verdict, refitted,
    )  # fmt: skip


@pytest.mark.slow
def test_the_same_sources_give_the_same_bits_in_another_lake(
    connected: Workshop, tmp_path: Path, compared: Any, refitted: str
) -> None:
    """From registering the parks on: nothing but the sources and `as_of` is common."""
    elsewhere = new_workshop(tmp_path)
    stack = connected.settings.model_copy(update={"lake_uri": elsewhere.settings.lake_uri})
    elsewhere = _without_champion(Workshop(stack, tmp_path))
    [shard] = planned(elsewhere)
    status = elsewhere.call(ingest_weather, dsl.Markdown, shard=shard)
    status = elsewhere.call(ingest_generation, dsl.Markdown, shard=shard, status=status)
    status = elsewhere.call(validate, dsl.Markdown, dsl.HTML, dsl.Metrics, shard=shard, status=status)
    job, uri = _trained(elsewhere, shard, status)
    assert json.dumps(job["data_versions"]) == json.dumps(compared.job["data_versions"])
    assert (job["challenger_uri"], uri) == (compared.job["challenger_uri"], refitted)


def _without_champion(workshop: Workshop) -> Workshop:
    """The same servers with a promotions table of its own, empty."""
    schema, whole = f"test_{uuid.uuid4().hex[:8]}", workshop.settings.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    dsn = SecretStr(make_conninfo(whole, options=f"-c search_path={schema}"))
    return replace(workshop, settings=workshop.settings.model_copy(update={"postgres_dsn": dsn}))


def _trained(workshop: Workshop, shard: dict[str, Any], status: dict[str, str]) -> tuple[dict[str, Any], str]:
    """From the features on: the job with its verdict, and the URI of the bundle that would serve."""
    built = workshop.call(featurize, shard=shard, status=status)
    job = workshop.call(train, statuses=[built], as_of=AS_OF, reason="again", event_id=uuid.uuid4().hex, recipe=QUICK)
    outcome = workshop.call(compare, dsl.Metrics, dsl.Markdown, dsl.HTML, job=job)
    return outcome.job, workshop.call(refit, job=outcome.job)
