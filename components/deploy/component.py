"""Make a bundle the champion."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def deploy(job: dict, bundle_uri: str) -> dict:
    """Register the bundle in MLflow, append the promotion, and point serving at it.

    Fails when another run promoted since the comparison: exactly one of two wins.

    Args:
        job: As `compare` gives it.
        bundle_uri: As `refit` gives it.

    Returns:
        The promotion: model version, bundle id, verdict, predecessor.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.deploy(clients.everything(load()), job, bundle_uri)
