from __future__ import annotations

import numpy as np
import pytest

from inference.drift.cusum import (
    CLEAR_RATIO,
    CLOCK,
    COOL_DOWN_DAYS,
    LEVEL,
    LEVEL_RISE,
    PROVIDER,
    Cusum,
    Path,
    alarms_a_year,
    run,
)

THRESHOLDS = {"cusum_clr": 8.0, "cusum_tc": 4.0}
QUIET = np.zeros(40, bool)


def _run(clr: np.ndarray, tc: np.ndarray | None = None, other: np.ndarray = QUIET) -> dict[str, Path]:
    return run(
        (CLEAR_RATIO, CLOCK),
        {"clr": clr, "tc": np.zeros(len(clr)) if tc is None else tc},
        THRESHOLDS,
        other[: len(clr)],
    )


def test_a_lasting_shift_alarms_when_the_sum_passes_the_threshold_and_tells_since_when() -> None:
    clr = np.concatenate([np.zeros(10), np.full(20, -1.5)])
    path = _run(clr)["cusum_clr"]
    assert np.flatnonzero(path.alarm)[0] == 18  # each day adds 1.0
    assert path.score[18] == pytest.approx(9.0)
    assert (path.direction[18], path.began[18]) == (-1, 10)


def test_one_absurd_day_is_no_alarm() -> None:
    clr = np.zeros(30)
    clr[5] = -1_000.0
    assert not _run(clr)["cusum_clr"].alarm.any()
    assert _run(clr)["cusum_clr"].score.max() == 1.5  # clipped at 2, less the slack


def test_missing_days_leave_the_sum_alone() -> None:
    clr = np.full(20, 1.5)
    clr[3:9] = np.nan
    path = _run(clr)["cusum_clr"]
    assert path.score[8] == path.score[2] == pytest.approx(3.0)
    assert path.direction[8] == 1


def test_an_alarm_resets_and_is_followed_by_seven_silent_days() -> None:
    path = _run(np.full(40, -2.0))["cusum_clr"]
    alarms = np.flatnonzero(path.alarm)
    assert alarms[0] == 5
    assert not path.score[6 : 6 + COOL_DOWN_DAYS].any()
    assert alarms[1] == 5 + COOL_DOWN_DAYS + 6


def test_a_hard_rule_silences_the_sums_too() -> None:
    other = QUIET.copy()
    other[4] = True
    path = _run(np.full(40, -2.0), other=other)["cusum_clr"]
    assert np.flatnonzero(path.alarm)[0] == 4 + COOL_DOWN_DAYS + 6


def test_two_detectors_that_see_one_change_make_one_event() -> None:
    paths = _run(np.full(14, -2.0), tc=np.full(14, 4.0))
    assert np.flatnonzero(paths["cusum_tc"].alarm)[0] == 2
    assert not paths["cusum_clr"].alarm[: 3 + COOL_DOWN_DAYS].any()


@pytest.mark.parametrize("detector", [CLEAR_RATIO, CLOCK])
def test_the_vectorised_count_agrees_with_the_path(detector) -> None:  # type: ignore[no-untyped-def]
    z = np.random.default_rng(3).standard_t(3, (20, 364)) * detector.clip
    z[np.random.default_rng(4).random(z.shape) < 0.2] = np.nan
    one_by_one = sum(
        int(
            run((detector,), {detector.statistic: year}, {detector.name: 5.0}, np.zeros(364, bool))[
                detector.name
            ].alarm.sum()
        )
        for year in z
    )
    assert one_by_one > 20
    assert alarms_a_year(detector, z, 5.0) == pytest.approx(one_by_one / 20 * 365 / 364)


@pytest.mark.parametrize(("detector", "sign"), [(PROVIDER, 1.0), (LEVEL_RISE, 1.0), (LEVEL, -1.0)])
def test_a_one_sided_detector_ignores_the_other_side(detector: Cusum, sign: float) -> None:
    for way, expected in ((sign, True), (-sign, False)):
        z = {detector.statistic: np.full(30, 3.0 * way)}
        path = run((detector,), z, {detector.name: 5.0}, QUIET[:30])[detector.name]
        assert path.alarm.any() == expected
        assert not expected or path.direction[path.alarm][0] == sign


def test_a_distance_alarms_above_its_threshold_and_keeps_the_silence_of_the_others() -> None:
    score = np.full(30, 0.9)
    score[:5] = np.nan
    hard = np.zeros(30, bool)
    hard[3] = True
    up = np.ones(30, np.int64)
    paths = run((), {}, {"ks_level": 0.5}, hard, {"ks_level": (score, up)})
    assert np.flatnonzero(paths["ks_level"].alarm).tolist() == [11, 19, 27]
