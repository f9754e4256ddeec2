"""Looks for a better recipe, off the weekly path: Optuna over time-ordered folds of the training data.

A trial trains on the days before a fold and is scored on the fold, fold after fold; a trial that is worse than the
median of the others so far ends early. The study is a journal in a file: an interrupted search goes on where it was.
The recipe at hand is the first trial, so the winner is never worse than it on the same folds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pvforecast.dataset import Rows
from pvforecast.errors import DataError, InvalidInput, NotEnoughData
from pvforecast.evaluation import metrics
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

if TYPE_CHECKING:
    from pvforecast.tracking import Tracking


@dataclass(frozen=True)
class Range:
    """Where a setting of the recipe is looked for. Whole numbers where `low` is one; on a log scale where `log`."""

    low: float
    high: float
    log: bool = False
    step: int = 1


SPACE: Mapping[str, Range] = {
    "rounds": Range(100, 600, step=50),
    "max_depth": Range(4, 9),
    "eta": Range(0.02, 0.12, log=True),
    "min_child_weight": Range(5.0, 200.0, log=True),
    "subsample": Range(0.3, 1.0),
    "colsample_bytree": Range(0.15, 1.0),
    "max_bin": Range(64, 256, log=True),
}
"""What of a recipe is searched, the boosters' settings; those that a recipe does not have are left out."""

FIRST_SHARE = 1 / 3
"""Of the time of the data, that the first fold trains on."""
STARTUP_TRIALS = 5
_FORMAT = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fold:
    """Train on what was known at `train_until`, score the forecasts issued from then until `test_until`."""

    train_until: np.datetime64
    test_until: np.datetime64


@dataclass(frozen=True)
class Tuned:
    """What a study has found.

    Attributes
    ----------
    recipe : the best of all finished trials.
    loss, base_loss : mean pinball loss over levels and folds, fraction of capacity, of the best and of the recipe the
        study began with.
    trials, pruned : how many came to an end, and how many of them early.
    """

    study: str
    recipe: Recipe
    loss: float
    base_loss: float
    trials: int
    pruned: int
    folds: tuple[Fold, ...]
    rows_digest: str

    @property
    def gain(self) -> float:
        """1 - loss / base_loss."""
        return 1.0 - self.loss / self.base_loss

    def as_dict(self, on: date) -> dict[str, Any]:
        """As `write` stores it."""
        return {
            "format": _FORMAT,
            "tuned": {
                "date": on.isoformat(),
                "study": self.study,
                "loss": round(self.loss, 6),
                "base_loss": round(self.base_loss, 6),
                "trials": self.trials,
                "pruned": self.pruned,
                "folds": [[str(fold.train_until), str(fold.test_until)] for fold in self.folds],
                "rows": self.rows_digest,
            },
            "recipe": self.recipe.as_dict(),
        }


def time_ordered(rows: Rows, count: int) -> tuple[Fold, ...]:
    """Folds of equal length in time; each trains on everything before it, the first on `FIRST_SHARE` of the time.

    Raises
    ------
    NotEnoughData
        the metered daylight rows span fewer days than folds need.
    """
    issued = rows.issued_at[~np.isnan(rows.target) & rows.daylight]
    days = np.unique(issued.astype("datetime64[D]"))
    if count < 2 or len(days) < 10 * (count + 1):
        raise NotEnoughData(
            f"{len(days)} metered issue days for {count} folds",
            field="folds",
            hint="two folds at least, and ten days for each and for what comes before them",
        )
    first, last = issued.min(), issued.max() + np.timedelta64(1, "s")
    span = (last - first).astype("timedelta64[s]").astype(np.int64)
    edges = [first + np.timedelta64(int(span * share), "s") for share in np.linspace(FIRST_SHARE, 1.0, count + 1)]
    return tuple(Fold(*pair) for pair in zip(edges[:-1], [*edges[1:-1], last], strict=True))


def loss(rows: Rows, recipe: Recipe, fold: Fold) -> float:
    """Mean pinball loss over all levels of the forecasts of one fold, metered daylight hours, fraction of capacity."""
    bundle = train(rows, recipe, fold.train_until)
    tested = rows.where(
        (rows.issued_at >= fold.train_until)
        & (rows.issued_at < fold.test_until)
        & ~np.isnan(rows.target)
        & rows.daylight
    )
    quantiles = bundle.predict(tested.features, park_id=tested.park_id).astype(np.float64)
    return float(np.mean(metrics.pinball(tested.target, quantiles, bundle.quantiles)))


def tune(
    rows: Rows,
    base: Recipe,
    *,
    study: str,
    folder: Path,
    trials: int,
    folds: int = 4,
    space: Mapping[str, Range] = SPACE,
    tracking: Tracking | None = None,
    say: Say = lambda _: None,
) -> Tuned:
    """Run a study, or go on with it, until it has `trials` trials.

    Parameters
    ----------
    rows : to learn from; nothing that the model will be judged on later.
    base : the recipe to improve; what is not in `space` stays as it is.
    study : its name; its journal is `folder`/<study>.journal.
    trials : finished or pruned ones in all, those of earlier calls included.
    tracking : where each trial becomes a child run of the study's run; None: nowhere.

    Raises
    ------
    InvalidInput
        the study began with another recipe, other rows or other folds, or is being searched by another process.
    NotEnoughData
        the rows are too few for the folds.
    DataError
        no trial came to an end.
    """
    plan = time_ordered(rows, folds)
    searched = {name: where for name, where in space.items() if name in base.as_dict()}
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{study}.lock", study):
        search = _study(study, folder)
        digest = _digest(rows)
        about = {"rows": digest, "base": base.hash, "folds": folds, "space": sorted(searched)}
        _same(search, about)
        _tidy(search, base, searched)
        parent = tracking.start_run(f"tuning {study}", about, {"reason": "pvf tune"}) if tracking else ""

        def objective(trial: optuna.Trial) -> float:
            recipe = _with(base, {name: _suggest(trial, name, where) for name, where in searched.items()})
            found: list[float] = []
            for number, fold in enumerate(plan):
                found.append(loss(rows, recipe, fold))
                trial.set_user_attr("folds", found)
                trial.report(float(np.mean(found)), number)
                if number < len(plan) - 1 and trial.should_prune():
                    raise optuna.TrialPruned
            return float(np.mean(found))

        def ended(_: optuna.Study, trial: FrozenTrial) -> None:
            say(_line(trial))
            if tracking:
                _log(tracking, parent, trial)

        missing = trials - len(_done(search))
        if missing > 0:
            search.optimize(objective, n_trials=missing, callbacks=[ended])
        result = _result(search, base, plan, digest)
        if tracking:
            scores = {"loss": result.loss, "base_loss": result.base_loss, "trials": result.trials}
            tracking.log(parent, metrics=scores, text={"recipe.json": json.dumps(result.recipe.as_dict(), indent=1)})
            tracking.end_run(parent)
        return result


def write(found: Tuned, file: Path, on: date) -> None:
    """Store a recipe with where it comes from, to be committed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found.as_dict(on), indent=1, sort_keys=True) + "\n")


def read(file: Path) -> Recipe:
    """The recipe of a file of `write`, or of one that holds a recipe alone.

    Raises
    ------
    InvalidInput
        the file cannot be read, or holds settings that this version does not know.
    """
    try:
        values = json.loads(file.read_text())
        return Recipe.from_dict(values.get("recipe", values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"it holds no recipe: {error!r}", field=str(file), hint="write one: pvf tune") from error


def _study(name: str, folder: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what ends a trial is raised, and says more
    storage = JournalStorage(JournalFileBackend(str(folder / f"{name}.journal")))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    search = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    # A seed alone would make a resumed search repeat itself.
    sampler = optuna.samplers.TPESampler(seed=len(search.trials), n_startup_trials=STARTUP_TRIALS)
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)


def _same(search: optuna.Study, about: Mapping[str, Any]) -> None:
    """Losses compare on the same rows and folds only."""
    for name, value in about.items():
        if name not in search.user_attrs:
            search.set_user_attr(name, value)
        elif search.user_attrs[name] != value:
            raise InvalidInput(
                f"study {search.study_name!r} has other {name}: {search.user_attrs[name]}, now {value}",
                field="study",
                hint="name a new study",
            )


def _tidy(search: optuna.Study, base: Recipe, searched: Mapping[str, Range]) -> None:
    """What an earlier process left in the middle is asked again; the recipe at hand comes first of all."""
    for trial in search.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        search.tell(trial.number, state=TrialState.FAIL)
    asked_again = {trial.user_attrs.get("again") for trial in search.get_trials(deepcopy=False)}
    for trial in search.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.number not in asked_again and not trial.user_attrs.get("base"):
            search.enqueue_trial(trial.params, user_attrs={"again": trial.number})
    alive = search.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.COMPLETE))
    if not any(trial.user_attrs.get("base") for trial in alive):
        values = base.as_dict()
        search.enqueue_trial({name: values[name] for name in searched}, user_attrs={"base": True})


def _suggest(trial: optuna.Trial, name: str, where: Range) -> int | float:
    if isinstance(where.low, int):
        return trial.suggest_int(name, where.low, int(where.high), step=where.step, log=where.log)
    return trial.suggest_float(name, where.low, where.high, log=where.log)


def _with(base: Recipe, values: Mapping[str, int | float]) -> Recipe:
    return Recipe.from_dict({**base.as_dict(), **values})


def _done(search: optuna.Study) -> list[FrozenTrial]:
    return search.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _result(search: optuna.Study, base: Recipe, plan: tuple[Fold, ...], digest: str) -> Tuned:
    complete = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    of_base = [trial for trial in complete if trial.user_attrs.get("base")]
    if not of_base:
        raise DataError(f"no trial of study {search.study_name!r} came to an end", hint="run it again")
    done = _done(search)
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    return Tuned(
        search.study_name,
        base if best in of_base else _with(base, best.params),
        float(best.value or 0.0),
        float(of_base[0].value or 0.0),
        len(done),
        len(done) - len(complete),
        plan,
        digest,
    )


def _log(tracking: Tracking, parent: str, trial: FrozenTrial) -> None:
    tags = {"mlflow.parentRunId": parent, "trial_state": trial.state.name}
    run = tracking.start_run(f"trial {trial.number}", trial.params, tags)
    folds = {f"fold_{number}": value for number, value in enumerate(trial.user_attrs.get("folds", []))}
    tracking.log(run, metrics=folds | ({"loss": trial.value} if trial.value is not None else {}))
    tracking.end_run(run, failed=trial.state is TrialState.FAIL)


def _line(trial: FrozenTrial) -> str:
    values = ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items())
    said = "pruned" if trial.state is TrialState.PRUNED else f"{trial.value:.6f}"
    return f"trial {trial.number}: {said}  ({values})"


def _digest(rows: Rows) -> str:
    """Of what is learned from: the same rows in the same order give the same text."""
    digest = hashlib.sha256(rows.spec.hash.encode())
    for array in (rows.issued_at, rows.valid_at, rows.features, rows.target):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(map(str, rows.park_id)).encode())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(file: Path, study: str) -> Iterator[None]:
    """One process a study: what another left running could not be told from what it is running."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(
                f"study {study!r} is being searched by another process", field="study", hint="wait, or name another"
            ) from None
        yield
