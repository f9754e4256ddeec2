"""Fit the winner on everything."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def refit(job: dict) -> str:
    """Fit the winning recipe on everything known at `as_of`; this bundle will serve.

    Args:
        job: As `compare` gives it.

    Returns:
        URI of the bundle.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.refit(clients.everything(load()), job)
