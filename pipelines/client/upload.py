"""A compiled pipeline on the server: a version named by its content, so that the same pipeline is there once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from kfp_server_api import PipelineServiceApi, PipelineUploadServiceApi, V2beta1Pipeline

from pipelines.client.connection import Server, Taken, equals
from pipelines.compile import built_in, compile_one, content_hash
from pipelines.profile import Profile

PREFIX = "pvforecast-"  # a server is shared


class Version(NamedTuple):
    """A pipeline version on the server.

    Attributes
    ----------
    name : ``<pipeline>-<hash of the compiled YAML>``.
    created : whether it was uploaded just now.
    """

    pipeline: str
    name: str
    pipeline_id: str
    version_id: str
    created: bool


def upload(server: Server, name: str, profile: Profile) -> Version:
    """Compile pipeline `name` and have that very content on the server; nothing is sent when it is there.

    A second client that does the same at the same time is no trouble: names are unique on the server, and who comes
    second takes what is there.
    """
    with tempfile.TemporaryDirectory(prefix="pvf-") as scratch:
        file = compile_one(name, Path(scratch) / f"{name}.yaml", profile)
        version = f"{name}-{content_hash(file)}"
        pipeline_id = _pipeline(server, name)
        found = _version(server, pipeline_id, version)
        if found is not None:
            return Version(name, version, pipeline_id, found, created=False)
        try:
            made = server.call(
                f"uploading {version}",
                PipelineUploadServiceApi(server.client).upload_pipeline_version_with_http_info,
                str(file),
                name=version,
                display_name=version,
                pipelineid=pipeline_id,
            ).pipeline_version_id
        except Taken:
            there = _version(server, pipeline_id, version)
            if there is None:
                raise
            return Version(name, version, pipeline_id, there, created=False)
        return Version(name, version, pipeline_id, made, created=True)


def _pipeline(server: Server, name: str) -> str:
    """Id of the pipeline; made when it is not there."""
    full = f"{PREFIX}{name}"
    found = _find_pipeline(server, full)
    if found is not None:
        return found
    body = V2beta1Pipeline(
        name=full, display_name=full, namespace=server.namespace or None, description=built_in(name).description
    )
    try:
        made = server.call(
            f"making the pipeline {full}",
            PipelineServiceApi(server.client).pipeline_service_create_pipeline_with_http_info,
            body,
        )
        return str(made.pipeline_id)
    except Taken:
        found = _find_pipeline(server, full)
        if found is None:
            raise
        return found


def _find_pipeline(server: Server, full: str) -> str | None:
    listed = server.pages(
        "listing pipelines",
        PipelineServiceApi(server.client).pipeline_service_list_pipelines_with_http_info,
        "pipelines",
        namespace=server.namespace or None,
        filter=equals("display_name", full),
    )
    return next((str(item.pipeline_id) for item in listed if full in (item.name, item.display_name)), None)


def _version(server: Server, pipeline_id: str, version: str) -> str | None:
    listed = server.pages(
        "listing versions",
        PipelineServiceApi(server.client).pipeline_service_list_pipeline_versions_with_http_info,
        "pipeline_versions",
        pipeline_id,
        filter=equals("display_name", version),
    )
    return next((str(item.pipeline_version_id) for item in listed if version in (item.name, item.display_name)), None)
