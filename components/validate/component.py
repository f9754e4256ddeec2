"""Check a shard's raw rows and store the good ones hourly."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def validate(
    shard: dict,
    status: dict,
    report: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dict:
    """Hold raw rows against their contracts: bad ones go to quarantine, good ones become hours of the park.

    Args:
        shard: As `plan` gives it.
        status: Of the step before; failed parks are left out.
        report: Rows stored and set aside, flags, gaps, clocks, seasons.
        page: The same with a small plot of each park; nothing from outside.
        metrics: Counts over all parks of the shard.

    Returns:
        Park id -> ``ok``, or ``failed: ...``.
    """
    from pvforecast import shards, wiring
    from pvforecast.settings import load

    settings = load()
    return shards.validate(
        wiring.lake(settings),
        shard,
        status,
        report.path,
        page.path,
        metrics.log_metric,
        correct_clocks=settings.correct_clocks,
    )
