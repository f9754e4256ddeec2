"""Make a bundle the champion."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def deploy(job: dict, bundle_uri: str) -> dict:
    """Register the bundle in MLflow, append the promotion, and bring it into service.

    Fails when another run promoted since the comparison: exactly one of two wins. On a cluster it waits for the new
    servers, holds forecasts through the gateway against the bundle, and takes the model back when that fails.

    Args:
        job: As `compare` gives it.
        bundle_uri: As `refit` gives it.

    Returns:
        The promotion: model version, bundle id, verdict, predecessor.
    """
    from functools import partial

    from components.deploy import shipping
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    settings = load()
    every = clients.everything(settings)
    return jobs.deploy(every, job, bundle_uri, partial(shipping.ship, settings, every))
