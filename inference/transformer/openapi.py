"""The OpenAPI document of what clients may reach. Pure; requests are described by the models that read them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from inference.protocol import MODEL_NAME
from inference.transformer import openinference
from inference.transformer.portfolio import Portfolio
from inference.transformer.request import MAX_INSTANCES, Body

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_NUMBER: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer"}
_FLAG: Schema = {"type": "boolean"}


def document() -> Schema:
    """OpenAPI 3.1, without servers: it holds wherever it was read from."""
    answers = {"ModelMetadata": _model(), "Prediction": _prediction(), "Together": _portfolio(), "Tensor": _tensor()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PV forecasts",
            "version": "1",
            "description": "Forecasts of PV parks' power. Keys, errors and fields are explained in docs/serving.md.",
        },
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
            "schemas": _requests(Body, Portfolio) | {"Error": _error(), "InferRequest": _infer()} | answers,
        },
    }


def _paths() -> Schema:
    model = f"/v1/models/{MODEL_NAME}"
    v2 = f"/v2/models/{MODEL_NAME}"
    ready = _object({"name": _TEXT, "ready": _FLAG}, "ready")
    metadata = _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}, "name", "extensions")
    return {
        "/v1/models": {"get": _get("Names of the models", _object({"models": _list(_TEXT)}, "models"))},
        model: {"get": _get("Whether a forecast can be made now", ready)},
        f"{model}:predict": {
            "post": _post(
                f"Forecasts of up to {MAX_INSTANCES} parks",
                Body.__name__,
                _object({"predictions": _list(_ref("Prediction"))}, "predictions"),
            )
        },
        "/v1/forecasts": {"get": _newest()},
        "/v1/portfolio": {
            "post": _post("Several parks, each and together", Portfolio.__name__, _ref("Together")),
        },
        "/v1/openapi.json": {"get": _get("This document", {"type": "object"})},
        "/v2": {"get": _get("The server and its extensions", metadata)},
        "/v2/health/live": {"get": _get("Whether the server lives", _object({"live": _FLAG}, "live"))},
        "/v2/health/ready": {"get": _get("Whether a forecast can be made now", _object({"ready": _FLAG}, "ready"))},
        "/v2/models": {"get": _get("Names of the models", _object({"models": _list(_TEXT)}, "models"))},
        v2: {"get": _get("Tensors and versions of the model", _ref("ModelMetadata"))},
        f"{v2}/ready": {"get": _get("Whether a forecast can be made now", ready)},
        f"{v2}/infer": {
            "post": _post(
                "Forecasts as named tensors", "InferRequest", _object({"outputs": _list(_ref("Tensor"))}, "outputs")
            )
        },
    }


def _get(summary: str, answer: Schema) -> Schema:
    return {"summary": summary, "responses": {"200": _json("as asked", answer)} | _refusals("404", "503")}


def _newest() -> Schema:
    predictions = _object({"predictions": _list(_ref("Prediction"))}, "predictions")
    made = _get("The newest forecasts; with If-None-Match 304 where there are none newer", predictions)
    made["responses"] |= {"304": {"description": "nothing new"}} | _refusals("400", "413")
    parks = {"name": "park", "in": "query", "required": True, "schema": _list(_TEXT)}
    hours = {"name": "horizon_hours", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 168}}
    tag = {"name": "if-none-match", "in": "header", "schema": _TEXT}
    return made | {"parameters": [parks, hours, tag]}


def _post(summary: str, body: str, answer: Schema) -> Schema:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {"200": _json("as asked", answer)} | _refusals("400", "404", "413", "503"),
    }


def _refusals(*statuses: str) -> Schema:
    """Those of the service itself, and those that the gateway may give before it."""
    found = {status: _json("refused", _ref("Error")) for status in (*statuses, "401", "405", "408", "429", "504")}
    return dict(sorted(found.items()))


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _requests(*models: type[BaseModel]) -> Schema:
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: Schema = found["$defs"]
    most = f"at most {MAX_INSTANCES}, beyond: 413"  # no maxItems, whose breach would be a 400
    schemas[Body.__name__]["properties"]["instances"]["description"] = most
    return schemas


def _error() -> Schema:
    fields = {"error": _TEXT, "code": _TEXT, "field": _or_null(_TEXT), "hint": _or_null(_TEXT), "request_id": _TEXT}
    return _object(fields, *fields)


def _prediction() -> Schema:
    levels = {"type": "object", "additionalProperties": _list(_NUMBER)}
    explanation = {
        "explains": _TEXT,
        "level": _NUMBER,
        "base_kw": _list(_NUMBER),
        "groups_kw": levels,
        "after_kw": _or_null(_list(_NUMBER)),
    }
    fields = {
        **dict.fromkeys(("park_id", "resolution", "model_version", "bundle_id", "snapshot_id", "spec_hash"), _TEXT),
        "issued_at": _INSTANT,
        "valid_at": _list(_INSTANT),
        "power_kw": levels,
        "possible_kw": _or_null(levels),
        "median_energy_kwh": _or_null(_NUMBER),
        "weather_source": _or_null(_TEXT),
        "weather_run_at": _or_null(_INSTANT),
        "weather_age_minutes": _or_null(_COUNT),
        "generation_age_minutes": _or_null(_COUNT),
        "degraded": _list(_TEXT),
        "band_hours": {"type": "object", "additionalProperties": _COUNT},
        "band_width": _or_null({"type": "object", "additionalProperties": _NUMBER}),
        "explanation": _or_null(_object(explanation)),
    }
    return _object(fields, *fields)


def _portfolio() -> Schema:
    by_level = {"type": "object", "additionalProperties": _list(_NUMBER)}
    total = {
        **dict.fromkeys(("parks", "bundle_id", "model_version"), _list(_TEXT)),
        "left_out": {"type": "object", "additionalProperties": _TEXT},
        "issued_at": _list(_INSTANT),
        "resolution": _TEXT,
        "dependence_fitted": _FLAG,
        "scenarios": _COUNT,
        "seed": _COUNT,
        "valid_at": _list(_INSTANT),
        "power_kw": by_level,
        "energy_kwh": {"type": "object", "additionalProperties": _NUMBER},
        "degraded": {"type": "object", "additionalProperties": _COUNT},
    }
    fields = {"portfolio": _object(total, *total), "predictions": _or_null(_list(_ref("Prediction")))}
    return _object(fields, *fields)


def _model() -> Schema:
    shape = _object({"name": _TEXT, "datatype": _TEXT, "shape": _list(_COUNT)}, "name", "datatype", "shape")
    fields = {
        "name": _TEXT,
        "versions": _list(_TEXT),
        "platform": _TEXT,
        "inputs": _list(shape),
        "outputs": _list(shape),
    }
    return _object(fields, *fields)


def _tensor() -> Schema:
    fields = {"name": _TEXT, "datatype": _TEXT, "shape": _list(_COUNT), "data": {"type": "array"}}
    return _object(fields | {"parameters": {"type": "object"}}, "name", "datatype", "shape")


def _infer() -> Schema:
    """As JSON; raw bytes behind it are described in docs/open-inference.md."""
    tensor = _tensor()
    tensor["properties"] = tensor["properties"] | {"name": {"enum": list(openinference.INPUTS)}}
    tensor["required"] = ["name", "datatype", "shape", "data"]
    output = _object({"name": {"enum": list(openinference.OUTPUTS)}, "parameters": {"type": "object"}}, "name")
    fields = {"id": _TEXT, "inputs": _list(tensor), "outputs": _list(output), "parameters": {"type": "object"}}
    return _object(fields, "inputs")


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
