"""Score the challenger on the hold-out."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def evaluate(
    job: dict, metrics: dsl.Output[dsl.Metrics], report: dsl.Output[dsl.Markdown], page: dsl.Output[dsl.HTML]
) -> dict:
    """Score the challenger on days that it has not seen, beside the baselines.

    Args:
        job: As `train` gives it.
        metrics: Daylight nMAE, skill and band coverage of each park.
        report: The table a human reads; says first when the weather was observed, not forecast.
        page: The same with plots: reliability, error by hour and lead, fan charts, importance of features. Nothing in
            it comes from outside.

    Returns:
        The job, with the daylight nMAE of model and smart persistence over all parks.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.evaluate(clients.everything(load()), job, metrics.log_metric, report.path, page.path)
