"""What transformer and predictor say to each other over gRPC v2 (Open Inference Protocol).

Request:  tensor `features` FP32 [n, f], parameter `spec_hash`; parameter `parks`: whose rows they are; `explain` where
          contributions are wanted too; `bundle_id` where a bundle that served before shall answer, not the one that
          serves now. Without `parks` rows are answered as those of the fleet's average.
Response: tensor `quantiles` FP32 [n, q], fraction of `ac_capacity_kw`, ascending; parameters `bundle_id`,
          `model_version`, `spec_hash`, `trained_until`, `quantile_levels` and `band_width` (JSON).
          Where asked: tensor `contributions` FP32 [n, groups + 1], same unit, the base last; parameters
          `contribution_groups` (a JSON list) and `explained_level`.
Errors:   INVALID_ARGUMENT or UNAVAILABLE whose details are a JSON object {"code", "message", "spec_hash"}.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

MODEL_NAME = "pv-forecast"
FEATURES = "features"
QUANTILES = "quantiles"
SPEC_HASH = "spec_hash"
PARKS = "parks"  # a JSON list of [park id, rows], in the order of the rows
TRAINED_UNTIL = "trained_until"  # ISO, UTC: what happened before it was in the training data
BUNDLE_ID = "bundle_id"
MODEL_VERSION = "model_version"
QUANTILE_LEVELS = "quantile_levels"
BAND_WIDTH = "band_width"  # a JSON object: rung -> width of its band, of the full one's; null where not measured
EXPLAIN = "explain"
CONTRIBUTIONS = "contributions"
CONTRIBUTION_GROUPS = "contribution_groups"
EXPLAINED_LEVEL = "explained_level"

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_ROWS = 20_000
"""More than the largest request makes: 100 parks of 168 hours."""
MAX_EXPLAINED_ROWS = 96
"""SHAP values take about 10 ms a row: a second, where quantiles alone take milliseconds."""
MODELS_OF_THEN = 2
"""Bundles that served before: so many a predictor keeps, and so many one request may be about."""
MODEL_GONE, MODEL_LOADING = "model_gone", "model_loading"
"""Codes of refusals: that bundle was never promoted or can't be loaded any more; it will be there in a moment."""


@dataclass(frozen=True)
class Refusal:
    """Why the predictor did not answer. `spec_hash` is the one its model needs, where that is the reason."""

    code: str
    message: str
    spec_hash: str | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, details: str | None) -> Refusal:
        """Of gRPC status details; those that are not ours (a broken connection) become code `unavailable`."""
        try:
            fields = json.loads(details or "")
            return cls(str(fields["code"]), str(fields["message"]), fields.get("spec_hash"))
        except (ValueError, KeyError, TypeError):
            return cls("unavailable", "the predictor did not answer")


class RefusedError(Exception):
    """Raised by the predictor's model: answered as INVALID_ARGUMENT with the refusal as details."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
