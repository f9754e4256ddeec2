"""Score the challenger on the hold-out."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def evaluate(job: dict, metrics: dsl.Output[dsl.Metrics], report: dsl.Output[dsl.Markdown]) -> dict:
    """Score the challenger on days that it has not seen, beside the baselines.

    Args:
        job: As `train` gives it.
        metrics: Daylight nMAE, skill and band coverage of each park.
        report: The table a human reads; says first when the weather was observed, not forecast.

    Returns:
        The job.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.evaluate(clients.everything(load()), job, metrics.log_metric, report.path)
