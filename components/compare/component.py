"""Challenger against champion."""

from typing import NamedTuple

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def compare(job: dict, report: dsl.Output[dsl.Markdown]) -> NamedTuple(  # type: ignore[valid-type] # KFP reads the names of the outputs off this form
    "Outputs", [("job", dict), ("verdict", str), ("promotes", bool)]
):
    """Decide in one word - promote, refresh, keep, reject - by a paired block bootstrap over days.

    Args:
        job: As `evaluate` gives it.
        report: The verdict and what it stands on.

    Returns:
        The job with its verdict; the verdict; whether it makes the challenger's recipe serve.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.compare(clients.everything(load()), job, report.path)
