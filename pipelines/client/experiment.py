"""The experiment that holds all runs and schedules of the platform on a KFP server."""

from __future__ import annotations

from kfp_server_api import ExperimentServiceApi, V2beta1Experiment

from pipelines.client.connection import Server, Taken, equals


def experiment(server: Server, name: str) -> str:
    """Id of the experiment; made when it is not there."""
    found = _find(server, name)
    if found is not None:
        return found
    body = V2beta1Experiment(display_name=name, namespace=server.namespace or None, description="PV forecast platform")
    try:
        made = server.call(
            f"making the experiment {name}",
            ExperimentServiceApi(server.client).experiment_service_create_experiment_with_http_info,
            body,
        )
        return str(made.experiment_id)
    except Taken:
        found = _find(server, name)
        if found is None:
            raise
        return found


def _find(server: Server, name: str) -> str | None:
    listed = server.pages(
        "listing experiments",
        ExperimentServiceApi(server.client).experiment_service_list_experiments_with_http_info,
        "experiments",
        namespace=server.namespace or None,
        filter=equals("display_name", name),
    )
    return next((str(item.experiment_id) for item in listed if item.display_name == name), None)
