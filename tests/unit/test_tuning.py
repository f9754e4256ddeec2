"""A search goes on where it was left, never looks ahead, and ends no worse than it began."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import optuna
import pytest

from pvforecast import dataset, tuning
from pvforecast.dataset import Rows
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.known import HOUR
from pvforecast.model.recipe import Recipe
from pvforecast.tuning import Range, Tuned, tune
from tests.bundles import START, record, site

QUICK = {
    "rounds": 4, "max_depth": 2, "eta": 0.3, "quantiles": (0.1, 0.5, 0.9), "boosted": (0.1, 0.5, 0.9),
    "trees": 2, "forest_rows": 300, "booster_rows": 1_000, "corrector_rounds": 2, "calibration_folds": 2,
}  # fmt: skip
BASE = Recipe.from_dict({**Recipe().as_dict(), **QUICK})
SPACE = {"rounds": Range(2, 40, step=2), "max_depth": Range(2, 4), "eta": Range(0.1, 0.4)}


@pytest.fixture(scope="module")
def rows() -> Rows:
    issues = [START + day * 24 * HOUR for day in range(10, 110)]
    parks = [record(site(name), days=114, seed=seed) for seed, name in enumerate(("sim-a", "sim-b"))]
    built = dataset.concat([dataset.build(park, BASE.spec, issues, 24, healthy=True) for park in parks])
    return built.where(built.daylight & ~np.isnan(built.target))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def found(rows: Rows, folder: Path) -> Tuned:
    return tune(rows, BASE, study="s", folder=folder, trials=4, folds=2, space=SPACE)


def test_folds_follow_each_other_and_train_only_on_what_lies_before(rows: Rows) -> None:
    folds = tuning.time_ordered(rows, 4)
    assert [fold.test_until for fold in folds[:-1]] == [fold.train_until for fold in folds[1:]]
    assert folds[-1].test_until > rows.issued_at.max()
    first = (folds[0].train_until - rows.issued_at.min()) / (rows.issued_at.max() - rows.issued_at.min())
    assert first == pytest.approx(tuning.FIRST_SHARE, abs=0.01)


def test_what_comes_after_a_fold_changes_nothing_in_its_score(rows: Rows) -> None:
    fold = tuning.time_ordered(rows, 2)[0]
    later = rows.issued_at >= fold.test_until
    garbage = replace(rows, target=np.where(later, 0.99, rows.target))
    assert later.any()
    assert tuning.loss(garbage, BASE, fold) == tuning.loss(rows, BASE, fold)


def test_the_recipe_at_hand_is_the_first_trial_and_the_winner_no_worse(found: Tuned, rows: Rows) -> None:
    losses = [tuning.loss(rows, BASE, fold) for fold in found.folds]
    assert found.base_loss == pytest.approx(np.mean(losses), rel=1e-9)
    assert found.loss <= found.base_loss
    assert found.gain > 0.02  # four stumps can be bettered
    assert found.trials == 4
    again = [tuning.loss(rows, found.recipe, fold) for fold in found.folds]
    assert found.loss == pytest.approx(np.mean(again), rel=1e-9)


def test_a_search_goes_on_where_it_was_left(found: Tuned, rows: Rows, folder: Path) -> None:
    said: list[str] = []
    assert tune(rows, BASE, study="s", folder=folder, trials=4, folds=2, space=SPACE, say=said.append) == found
    assert said == []
    more = tune(rows, BASE, study="s", folder=folder, trials=5, folds=2, space=SPACE, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("trial 4:")
    assert more.trials == 5


def test_a_trial_that_was_cut_off_is_asked_again_with_its_settings(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = tuning.loss, []

    def interrupted(*arguments: object) -> float:
        calls.append(arguments[1])
        if len(calls) == 3:  # the first fold of the second trial
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(rows, BASE, study="s", folder=tmp_path, trials=2, folds=2, space=SPACE)
    done = tune(rows, BASE, study="s", folder=tmp_path, trials=2, folds=2, space=SPACE)
    assert done.trials == 2
    assert calls[2] in calls[3:]


def test_a_trial_worse_than_the_others_ends_after_its_first_fold(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STARTUP_TRIALS", 1)
    calls: list[int] = []

    def by_depth(_: Rows, recipe: Recipe, __: tuning.Fold) -> float:
        calls.append(recipe.max_depth)
        return float(recipe.max_depth)

    monkeypatch.setattr(tuning, "loss", by_depth)
    space = {"max_depth": Range(2, 9)}
    result = tune(rows, BASE, study="s", folder=tmp_path, trials=10, folds=3, space=space)
    assert result.pruned > 0
    assert len(calls) < 30
    assert result.recipe.max_depth == 2


@pytest.mark.parametrize("other", ["rows", "base", "folds", "space"])
def test_a_study_of_something_else_is_refused_by_name(found: Tuned, rows: Rows, folder: Path, other: str) -> None:
    changed = {
        "rows": rows.where(np.arange(len(rows)) > 0) if other == "rows" else rows,
        "base": Recipe.from_dict({**BASE.as_dict(), "seed": 7}) if other == "base" else BASE,
        "folds": 3 if other == "folds" else 2,
        "space": {"eta": Range(0.1, 0.2)} if other == "space" else SPACE,
    }
    with pytest.raises(InvalidInput, match=f"has other {other}") as refused:
        tune(
            changed["rows"], changed["base"], study="s", folder=folder, trials=9,
            folds=changed["folds"], space=changed["space"],
        )  # fmt: skip
    assert refused.value.hint == "name a new study"


def test_two_processes_do_not_search_one_study(rows: Rows, tmp_path: Path) -> None:
    with (
        tuning._alone(tmp_path / "s.lock", "s"),
        pytest.raises(InvalidInput, match="by another process"),
    ):
        tune(rows, BASE, study="s", folder=tmp_path, trials=1, folds=2, space=SPACE)


def test_too_few_days_are_refused(rows: Rows) -> None:
    with pytest.raises(NotEnoughData, match="100 metered issue days for 10 folds"):
        tuning.time_ordered(rows, 10)


def test_what_is_written_is_read_as_the_same_recipe_and_says_when_it_was_found(found: Tuned, tmp_path: Path) -> None:
    file = tmp_path / "recipes" / "found.json"
    tuning.write(found, file, date(2026, 1, 2))
    assert tuning.read(file).hash == found.recipe.hash
    stored = json.loads(file.read_text())
    assert stored["tuned"]["date"] == "2026-01-02"
    assert Recipe.from_dict(stored["recipe"]) == found.recipe
    file.write_text(json.dumps(found.recipe.as_dict()))
    assert tuning.read(file) == found.recipe
    for wrong in ("[]", "{", '{"recipe": {"unknown": 1}}'):
        file.write_text(wrong)
        with pytest.raises(InvalidInput, match="holds no recipe"):
            tuning.read(file)


def test_every_setting_of_the_default_search_is_one_of_the_recipe_and_its_value_lies_inside() -> None:
    values = Recipe().as_dict()
    missing = [name for name in tuning.SPACE if name not in values]
    assert len(missing) < len(tuning.SPACE) / 2
    for name, where in tuning.SPACE.items():
        assert name in missing or where.low <= values[name] <= where.high


def test_optuna_reads_its_own_journal(found: Tuned, folder: Path) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "s.journal"))
    names = optuna.get_all_study_names(optuna.storages.JournalStorage(backend))
    assert names == ["s"]
