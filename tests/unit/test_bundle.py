"""A bundle answers ascending quantiles in [0, 1], or says why it does not answer."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from pvforecast import features
from pvforecast.errors import BundleError, SpecMismatch
from pvforecast.features import DEFAULT_SPEC, FeatureSpec
from pvforecast.model import bundle as bundles
from pvforecast.model import calibration
from pvforecast.model.bundle import Bundle
from pvforecast.model.columns import base
from tests.bundles import NOW, record, site, tiny_bundle

LEVELS = (0.1, 0.5, 0.9)
HISTORY = record(site())
BUNDLE = tiny_bundle(HISTORY)
ROWS = features.build_known(DEFAULT_SPEC, HISTORY.known_at(NOW), NOW, features.horizon(NOW, 48))
LEAD = DEFAULT_SPEC.names.index("lead_hours")


def noise(n: int = 500) -> np.ndarray:
    """Rows such as no park has: a model asked far outside of what it learned."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 300, (n, len(DEFAULT_SPEC.names))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows


def moved(*by_lead: tuple[float, float, float]) -> Bundle:
    """With moves (in widths of the band) for leads below and from 24 h."""
    table = np.zeros((*calibration.SHAPE, 3))
    table[:, :3], table[:, 3:] = by_lead
    return replace(BUNDLE, calibration=table)


@pytest.mark.parametrize("rows", [ROWS, noise()], ids=["real", "noise"])
@pytest.mark.parametrize("bundle", [BUNDLE, moved((3, 0, -3), (20, -20, 20))], ids=["trained", "crossing moves"])
def test_quantiles_ascend_within_nothing_and_capacity(bundle: Bundle, rows: np.ndarray) -> None:
    quantiles = bundle.predict(rows)
    assert quantiles.shape == (len(rows), 3)
    assert quantiles.dtype == np.float32
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()


def test_raw_quantiles_of_the_booster_do_cross() -> None:
    """Otherwise the test above could not fail."""
    raw = BUNDLE.ensemble.booster.inplace_predict(noise()[:, base(DEFAULT_SPEC.names)])
    assert (np.diff(raw, axis=1) < 0).any()


def test_quantiles_are_moved_by_so_many_widths_of_their_band_as_their_lead_says() -> None:
    bare, after = moved((0, 0, 0), (0, 0, 0)), moved((0.01, 0.02, 0.03), (0.04, 0.05, 0.06))
    before = bare.predict(ROWS).astype(float)
    inside = (before > 0.001).all(axis=1) & (before < 0.9).all(axis=1)
    width = np.maximum(before[:, 2] - before[:, 0], 0.02)[inside, None]
    difference = (after.predict(ROWS) - before)[inside] / width
    first_day = ROWS[inside, LEAD] < 24
    assert 0 < first_day.sum() < len(first_day)
    np.testing.assert_allclose(difference[first_day], np.tile([0.01, 0.02, 0.03], (first_day.sum(), 1)), atol=1e-5)
    np.testing.assert_allclose(difference[~first_day], np.tile([0.04, 0.05, 0.06], ((~first_day).sum(), 1)), atol=1e-5)


def test_no_rows_give_no_quantiles() -> None:
    assert BUNDLE.predict(ROWS[:0]).shape == (0, 3)


def test_a_row_is_answered_with_the_same_bits_alone_and_among_others() -> None:
    together = BUNDLE.predict(ROWS)
    alone = np.concatenate([BUNDLE.predict(ROWS[i : i + 1]) for i in range(len(ROWS))])
    np.testing.assert_array_equal(together.view(np.uint32), alone.view(np.uint32))


def test_features_of_another_spec_or_width_are_refused() -> None:
    BUNDLE.predict(ROWS, DEFAULT_SPEC.hash)
    with pytest.raises(SpecMismatch, match=f"0123.*needs {DEFAULT_SPEC.hash}") as by_hash:
        BUNDLE.predict(ROWS, "0123")
    with pytest.raises(SpecMismatch, match=rf"\(48, {len(DEFAULT_SPEC) - 1}\).*{len(DEFAULT_SPEC)}") as by_width:
        BUNDLE.predict(ROWS[:, 1:])
    with pytest.raises(SpecMismatch):
        BUNDLE.predict(ROWS[0])
    assert (by_hash.value.field, by_width.value.field) == ("spec_hash", "features")


def test_a_model_without_the_lead_feature_takes_the_first_moves() -> None:
    spec = FeatureSpec(("ghi", "physical_power", "sun_elevation"))
    plain = tiny_bundle(HISTORY, spec=spec)
    rows = features.build_known(spec, HISTORY.known_at(NOW), NOW, features.horizon(NOW, 48))
    only_first = plain.calibration.copy()
    only_first[:, 1:] = 7.0
    np.testing.assert_array_equal(plain.predict(rows), replace(plain, calibration=only_first).predict(rows))


def test_contributions_add_up_to_xgboosts_own_answer() -> None:
    parts = BUNDLE.contributions(ROWS)
    assert parts.shape == (48, 3, len(DEFAULT_SPEC) + 1)
    own = BUNDLE.ensemble.booster.inplace_predict(ROWS[:, base(DEFAULT_SPEC.names)])
    np.testing.assert_allclose(parts.sum(axis=2), own, atol=1e-4)
    assert (parts[:, :, LEAD] == 0).all()  # the ensemble does not look at it


# --- the files ------ -------------------------------------------------------------------------------------------------


def test_the_files_give_the_same_bundle_again() -> None:
    again = bundles.from_files(BUNDLE.files)
    assert again.bundle_id == BUNDLE.bundle_id
    assert again.files == BUNDLE.files
    assert (again.spec, again.quantiles) == (BUNDLE.spec, BUNDLE.quantiles)
    np.testing.assert_array_equal(again.predict(ROWS).view(np.uint32), BUNDLE.predict(ROWS).view(np.uint32))


def test_equal_training_gives_an_equal_id_and_any_change_another() -> None:
    same = tiny_bundle(record(site()))
    others = [
        tiny_bundle(HISTORY, seed=1),
        replace(BUNDLE, calibration=np.nextafter(BUNDLE.calibration, 1)),
        replace(BUNDLE, info={**BUNDLE.info, "trained_until": "2013-06-01"}),
        replace(BUNDLE, golden_features=BUNDLE.golden_features[:7]),
    ]
    assert same.bundle_id == BUNDLE.bundle_id
    assert len({BUNDLE.bundle_id, *(other.bundle_id for other in others)}) == 5


def test_a_bundle_is_no_pickle_and_its_header_is_readable() -> None:
    files = BUNDLE.files
    assert set(files) == set(bundles.FILES)
    assert not any(data.startswith(b"\x80") for data in files.values())
    assert json.loads(files["bundle.json"])["spec"]["hash"] == DEFAULT_SPEC.hash


def golden(features: np.ndarray, quantiles: np.ndarray) -> bytes:
    return bundles._pack({"features": features, "quantiles": quantiles})


def test_another_booster_is_found_out_by_the_golden_rows() -> None:
    other = tiny_bundle(HISTORY, seed=1)
    with pytest.raises(BundleError, match="gives other answers here than when it was made") as caught:
        bundles.from_files({**BUNDLE.files, "model.ubj": other.files["model.ubj"]}, "s3://pvf/models/bundles/x")
    assert "s3://pvf/models/bundles/x" in caught.value.message
    assert xgb.__version__ in str(caught.value.hint)


@pytest.mark.parametrize("change", [2e-5, -2e-5, np.nan, np.inf])
def test_golden_answers_may_differ_by_no_more_than_the_tolerance(change: float) -> None:
    expected = BUNDLE.predict(BUNDLE.golden_features)
    spoiled = expected.copy()
    spoiled[3, 1] += change
    with pytest.raises(BundleError, match="gives other answers"):
        bundles.from_files({**BUNDLE.files, "golden.arrow": golden(BUNDLE.golden_features, spoiled)})
    within = golden(BUNDLE.golden_features, expected + np.float32(5e-6))
    bundles.from_files({**BUNDLE.files, "golden.arrow": within})


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("bundle.json", b"{"),
        ("bundle.json", b"{}"),
        ("bundle.json", b"[]"),
        ("model.ubj", b"nonsense"),
        ("golden.arrow", b"nonsense"),
        ("golden.arrow", b""),
        ("golden.arrow", BUNDLE.files["golden.arrow"][:-40]),
        ("golden.arrow", golden(BUNDLE.golden_features, np.zeros((8, 2), np.float32))),
        ("golden.arrow", golden(BUNDLE.golden_features[:, 1:], np.zeros((8, 3), np.float32))),
        ("forests.arrow", b"nonsense"),
        ("corrector.ubj", b"nonsense"),
        ("dependence.arrow", b"nonsense"),
    ],
)
def test_a_broken_file_is_a_bundle_error_that_names_the_bundle(file: str, data: bytes) -> None:
    with pytest.raises(BundleError, match="s3://pvf/x"):
        bundles.from_files({**BUNDLE.files, file: data}, "s3://pvf/x")


def test_a_missing_file_is_a_bundle_error_too() -> None:
    for name in BUNDLE.files:
        with pytest.raises(BundleError, match=name):
            bundles.from_files({key: data for key, data in BUNDLE.files.items() if key != name})


def test_an_altered_spec_is_found_out_by_its_hash() -> None:
    header = json.loads(BUNDLE.files["bundle.json"])
    header["spec"]["names"][:2] = reversed(header["spec"]["names"][:2])
    with pytest.raises(BundleError, match="altered"):
        bundles.from_files({**BUNDLE.files, "bundle.json": json.dumps(header).encode()})


def test_what_makes_a_bundle_findable_is_stored_last() -> None:
    """Killed while it saves, it leaves files that nobody takes for a bundle."""
    stored: list[str] = []

    class Store:
        bucket = "b"

        def put(self, key: str, data: bytes) -> None:
            stored.append(key.rpartition("/")[2])

    bundles.save(Store(), tiny_bundle(record(site())))  # type: ignore[arg-type]
    assert sorted(stored) == sorted(bundles.FILES)
    assert stored[-1] == "bundle.json"


OLDER = {
    "before_levels.zip": "6583b40e66eadc89",  # 2026-11-25: no park had a level of its own
    "before_shares.zip": "aef84977de278284",  # and the ratio forest was one of three; what was known well had no error
}


@pytest.mark.parametrize(("name", "bundle_id"), OLDER.items())
def test_bundles_that_older_code_wrote_answer_as_they_did_and_keep_their_id(name: str, bundle_id: str) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "stored_bundles" / name) as stored:
        files = {file: stored.read(file) for file in stored.namelist()}
    bundle = bundles.from_files(files)  # compares with the answers stored
    assert bundle.ensemble.ratio is not None
    assert bundle.bundle_id == bundle_id
    assert replace(bundle, info={}).bundle_id != bundle_id
    rows = bundle.golden_features
    assert (np.diff(bundle.predict(rows, park_id=["new"] * len(rows)), axis=1) >= 0).all()
