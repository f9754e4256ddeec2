"""Delivered power: what export limit and availability leave of possible power."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.transformer import forecast
from inference.transformer.client import Inference
from inference.transformer.forecast import Question
from inference.transformer.request import parse
from inference.transformer.snapshots import Snapshot
from pvforecast import features, snapshot
from pvforecast.delivering import ceiling_kw, delivered
from pvforecast.known import HOUR, Known
from pvforecast.lake.records import _site
from pvforecast.parks import Park
from pvforecast.site import Limit, Site
from tests.bundles import NOW, record, site

HOURS = np.datetime64("2024-06-01T08:00:00", "s") + np.arange(4) * HOUR
SECONDS = HOURS.astype(np.int64)


def limited(export_limit_kw: float | None = None, *limits: Limit) -> Site:
    return replace(site(ac_capacity_kw=100.0), export_limit_kw=export_limit_kw, availability=limits)


def limit(begin: float, end: float | None, fraction: float = 1.0, export: float | None = None) -> Limit:
    """In hours after the first."""
    until = None if end is None else int(SECONDS[0] + end * 3_600)
    return Limit(int(SECONDS[0] + begin * 3_600), until, fraction, export)


class TestDelivered:
    possible = np.array([[20.0, 50.0, 90.0]] * 4)

    def test_of_a_park_without_limits_is_what_is_possible_to_the_bit(self):
        assert delivered(limited(), self.possible, HOURS) is self.possible

    def test_never_passes_the_export_limit_at_any_hour(self):
        assert delivered(limited(60.0), self.possible, HOURS).tolist() == [[20.0, 50.0, 60.0]] * 4

    def test_is_scaled_by_what_is_available_then_cut_at_the_limit_of_that_time(self):
        half = delivered(limited(60.0, limit(1, 3, 0.5, 40.0)), self.possible, HOURS)
        assert half.tolist() == [[20, 50, 60], [10, 25, 40], [10, 25, 40], [20, 50, 60]]

    def test_a_limit_in_a_time_never_opens_the_connection_wider_than_it_is(self):
        assert delivered(limited(60.0, limit(0, 4, 1.0, 80.0)), self.possible, HOURS).max() == 60.0

    def test_an_outage_until_further_notice_leaves_nothing(self):
        assert delivered(limited(None, limit(2, None, 0.0)), self.possible, HOURS)[:, 1].tolist() == [50, 50, 0, 0]

    def test_no_export_at_all_is_a_limit_too(self):
        assert delivered(limited(0.0), self.possible, HOURS).max() == 0.0

    def test_a_limit_that_holds_for_a_quarter_of_an_hour_counts_for_a_quarter(self):
        cut = delivered(limited(None, limit(1.75, 2.25, 0.0)), self.possible, HOURS)
        assert cut[:, 1].tolist() == [50.0, 37.5, 37.5, 50.0]

    def test_quarter_hours_are_limited_one_by_one(self):
        quarter = np.timedelta64(900, "s")
        cut = delivered(
            limited(None, limit(0.25, 0.5, 0.0)), np.full(4, 8.0), HOURS[0] + np.arange(4) * quarter, quarter
        )
        assert cut.tolist() == [8.0, 0.0, 8.0, 8.0]

    def test_the_ceiling_is_what_a_park_at_capacity_delivers(self):
        assert ceiling_kw(limited(60.0, limit(1, 2, 0.3)), HOURS).tolist() == [60.0, 30.0, 60.0, 60.0]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.floats(0, 100), min_size=7, max_size=7),
        st.floats(0, 1),
        st.floats(0, 120),
        st.floats(0, 4),
        st.floats(0.01, 4),
    )
    def test_quantiles_stay_in_order_and_never_rise(self, quantiles, fraction, export, begin, length):
        possible = np.tile(np.sort(quantiles), (4, 1))
        cut = delivered(limited(70.0, limit(begin, begin + length, fraction, export)), possible, HOURS)
        assert (np.diff(cut, axis=1) >= -1e-9).all()
        assert (cut <= possible + 1e-9).all()
        assert (cut >= 0).all()


class TestFacts:
    park = Park(
        id="held", name="Held", latitude=52.0, longitude=5.0, ac_capacity_kw=100.0, surface_tilt=30,
        surface_azimuth=180, source="test", export_limit_kw=60.0, timezone="Europe/Amsterdam",
        availability=[
            {"begin": "2024-06-01T10:00:00+02:00", "end": "2024-06-01T12:00:00+02:00", "available_fraction": 0.5},
            {"begin": datetime(2024, 6, 2, tzinfo=UTC), "export_limit_kw": 10.0},
        ],
    )  # fmt: skip

    def test_reach_the_site_from_the_park_and_from_the_lake_alike(self):
        assert self.park.site().availability[0] == Limit(int(SECONDS[0]), int(SECONDS[2]), 0.5, None)
        assert self.park.site().availability[1].end is None
        assert _site(json.loads(self.park.model_dump_json())) == self.park.site()

    def test_of_a_lake_written_before_limits_were_are_read(self):
        facts = json.loads(self.park.model_dump_json())
        del facts["export_limit_kw"], facts["availability"]
        assert _site(facts) == replace(self.park.site(), export_limit_kw=None, availability=())

    def test_come_back_from_a_snapshot(self):
        known = replace(record(site()).known_at(NOW), site=self.park.site())
        assert snapshot.decode(snapshot.encode(known)).site == known.site

    def test_of_a_park_without_limits_leave_a_snapshots_bytes_as_they_were(self):
        written = site().as_dict()
        assert "availability" not in written
        assert "export_limit_kw" not in written
        assert Site.from_dict(json.loads(json.dumps(written))) == site()

    def test_do_not_reach_the_features(self):
        hours = features.horizon(NOW, 24)
        known = record(site()).known_at(NOW)
        held = replace(known, site=replace(known.site, export_limit_kw=1.0, availability=(Limit(0, None, 0.1, None),)))
        free, bound = (features.build_known(features.DEFAULT_SPEC, one, NOW, hours) for one in (known, held))
        assert free.tobytes() == bound.tobytes()


class TestAnswer:
    fractions = np.tile(np.array([0.1, 0.5, 0.9], np.float32), (48, 1))

    def question(self, known: Known) -> Question:
        [instance] = parse({"instances": [{"park_id": "sim-a"}]})
        return Question.ask("instances[0]", instance, Snapshot("snapshot", known), NOW, 48)

    def made(self, **limits: object) -> tuple[dict, dict]:
        known = record(site()).known_at(NOW)
        asked = self.question(replace(known, site=replace(known.site, **limits)))
        inference = Inference(self.fractions, (0.1, 0.5, 0.9), "bundle", "3", "spec", NOW - 1_000 * HOUR)
        possible = forecast.power_kw(asked, self.fractions)
        made = forecast.answer(asked, inference, possible)
        return made, forecast.log_entry(asked, inference, self.fractions, self.fractions, possible, made)

    def test_says_what_is_possible_only_where_the_park_is_held_below_it(self):
        free, _ = self.made()
        idle, _ = self.made(export_limit_kw=3.0)
        held, logged = self.made(export_limit_kw=2.0)
        assert free["possible_kw"] is None
        assert idle["power_kw"] == free["power_kw"]
        assert idle["possible_kw"] is None
        assert max(held["power_kw"]["0.9"]) == 2.0
        assert held["possible_kw"] == free["power_kw"]
        assert logged["power_kw"] == held["power_kw"]

    def test_logs_what_the_model_said_before_the_limits(self):
        free, held = self.made()[1], self.made(export_limit_kw=2.0)[1]
        assert held["quantiles_fraction"] == free["quantiles_fraction"]

    def test_counts_the_energy_that_is_delivered(self):
        held, _ = self.made(availability=(Limit(0, None, 0.5, None),))
        free, _ = self.made()
        assert held["median_energy_kwh"] == pytest.approx(free["median_energy_kwh"] / 2, abs=0.01)
