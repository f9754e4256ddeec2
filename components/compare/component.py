"""Challenger against champion."""

from typing import NamedTuple

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def compare(
    job: dict, metrics: dsl.Output[dsl.Metrics], report: dsl.Output[dsl.Markdown], page: dsl.Output[dsl.HTML]
) -> NamedTuple(  # type: ignore[valid-type] # KFP reads the names of the outputs off this form
    "Outputs", [("job", dict), ("verdict", str), ("promotes", bool)]
):
    """Decide in one word - promote, refresh, keep, reject - by a paired block bootstrap over days.

    Args:
        job: As `evaluate` gives it.
        metrics: Pinball losses of challenger and champion, and their difference.
        report: The verdict and what it stands on.
        page: The same with a picture: challenger against champion in each park. Nothing in it comes from outside.

    Returns:
        The job with its verdict; the verdict; whether it makes the challenger's recipe serve.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.compare(clients.everything(load()), job, metrics.log_metric, report.path, page.path)
