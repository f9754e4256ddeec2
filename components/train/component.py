"""Fit the challenger."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def train(
    statuses: list, as_of: str, reason: str, event_id: str, recipe: dict, actor: str = "", pipeline_run: str = ""
) -> dict:
    """Fit and calibrate a challenger on what was known before the hold-out, for all parks that came through.

    Args:
        statuses: One dict a shard, park id -> status.
        as_of: ISO instant with offset.
        reason: Why this run was started; kept with the MLflow run.
        event_id: Id of the drift event that started it, or empty.
        recipe: Settings of the model recipe that differ from the default.
        actor: Who started this run by hand, or empty.
        pipeline_run: Id of the pipeline's run, or empty; kept with the MLflow run.

    Returns:
        The job: parks, MLflow run id, challenger URI, hold-out, id of the promotion it is compared with.
    """
    from pvforecast import clients, jobs
    from pvforecast.settings import load

    return jobs.train(clients.everything(load()), statuses, as_of, reason, event_id, recipe, actor, pipeline_run)
