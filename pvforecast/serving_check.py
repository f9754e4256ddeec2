"""Golden rows through the gateway: forecasts as clients get them, against the same ones made here from the bundle."""

from __future__ import annotations

import logging
import time
from typing import Any

import httpx
import numpy as np

from pvforecast import features, snapshot
from pvforecast.errors import BundleError, NotReady
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore

PATH = "/v1/models/pv-forecast:predict"
PARKS, IN_A_ROW, HOURS = 3, 5, 48
_TOLERANCE = bundles.GOLDEN_TOLERANCE  # of capacity; other machine, other last bits
_ROUNDED_KW = 1e-4  # answers have four digits
_PAUSE_S, _TIMEOUT_S = 1.0, 15.0

_log = logging.getLogger(__name__)


def verify(store: ObjectStore, gateway_url: str, api_key: str, bundle_uri: str, patience_s: float = 60.0) -> int:
    """Ask for some parks until `IN_A_ROW` answers in a row are the bundle's; returns how many values were compared.

    Several in a row, since each may come from another replica. A park without a snapshot is not asked for; where none
    has one, there is nothing to ask.

    Parameters
    ----------
    patience_s : for how long answers may still come from servers that are about to go, or not come at all.

    Raises
    ------
    BundleError
        an answer of this bundle is not what the bundle answers here.
    NotReady
        the gateway did not answer, or with another bundle.
    """
    bundle = bundles.load(store, bundle_uri)
    parks = _parks(store, bundle)
    if not parks:
        _log.warning("no park has a snapshot: the gateway is not asked")
        return 0
    until, good, compared = time.monotonic() + patience_s, 0, 0
    while good < IN_A_ROW:
        try:
            predictions = _ask(gateway_url, api_key, parks)
            strangers = {str(p["bundle_id"]) for p in predictions} - {bundle.bundle_id}
            if strangers:
                raise NotReady(f"the gateway answers with bundle {sorted(strangers)[0]}, not {bundle.bundle_id}")
        except NotReady:
            good = 0
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
            continue
        compared += sum(_compare(store, bundle, prediction) for prediction in predictions)
        good += 1
    return compared


def _parks(store: ObjectStore, bundle: Bundle) -> list[str]:
    """Some with a snapshot, those that the model has learned from first."""
    learned = set(bundle.info.get("parks", ()))
    return sorted(snapshot.parks(store), key=lambda park: (park not in learned, park))[:PARKS]


def _ask(gateway_url: str, api_key: str, parks: list[str]) -> list[dict[str, Any]]:
    url = gateway_url.rstrip("/") + PATH
    instances = [{"park_id": park, "horizon_hours": HOURS} for park in parks]
    try:
        response = httpx.post(
            url, json={"instances": instances}, headers={"x-api-key": api_key} if api_key else {}, timeout=_TIMEOUT_S
        )
        if response.status_code != httpx.codes.OK:
            raise NotReady(f"{url} answered {response.status_code}: {response.text[:200]}", hint="see its log")
        predictions: list[dict[str, Any]] = response.json()["predictions"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotReady(f"{url} did not answer: {error!r}", field="PVF_GATEWAY_URL") from error
    return predictions


def _compare(store: ObjectStore, bundle: Bundle, prediction: dict[str, Any]) -> int:
    park = str(prediction["park_id"])
    known = snapshot.read(store, park, prediction["snapshot_id"])
    issued_at = np.datetime64(prediction["issued_at"].removesuffix("Z"), "s")
    hours = np.array([text.removesuffix("Z") for text in prediction["valid_at"]], "datetime64[s]")
    capacity = known.site.ac_capacity_kw
    rows = features.build_known(bundle.spec, known, issued_at, hours)
    ours = bundle.predict(rows, park_id=[park] * len(rows)).astype(np.float64) * capacity
    ours[~features.daylight(known.site, hours, known.site.period)] = 0.0
    served = prediction["possible_kw"] or prediction["power_kw"]
    theirs = np.array([served[str(level)] for level in bundle.quantiles]).T
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    if not difference <= _TOLERANCE * capacity + _ROUNDED_KW:
        raise BundleError(
            f"{park} is answered {difference:.4g} kW away from what bundle {bundle.bundle_id} says here",
            hint="other libraries or another CPU serve? see the image's versions",
        )
    return int(theirs.size)
