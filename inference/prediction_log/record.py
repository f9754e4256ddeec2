"""One event of the prediction log, as it comes in and as it is stored. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"


@dataclass(frozen=True)
class Received:
    """A checked event. `data` is the JSON text as it came."""

    id: str
    type: str
    time: datetime
    park_ids: list[str]
    inferenceservice: str
    namespace: str
    component: str
    endpoint: str
    request_id: str | None
    data: str


@dataclass(frozen=True)
class Row:
    """One stored event. `data["predictions"]` of a response is what `forecast.log_entry` wrote."""

    id: str
    type: str
    time: datetime
    park_ids: list[str]
    inferenceservice: str
    namespace: str
    component: str
    endpoint: str
    request_id: str | None
    data: dict[str, Any]
    received_at: datetime
