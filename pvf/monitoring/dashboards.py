"""Grafana's dashboards out of the list of panels; for development only: the SDK is not part of the platform."""

from __future__ import annotations

import string

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statushistory, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, FieldColorModeId, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from inference.panels import DASHBOARDS, Kind, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _HEIGHT = 12, 8
_PSI = (
    dashboard.ThresholdsConfig()
    .mode(ThresholdsMode.ABSOLUTE)
    .steps([Threshold(None, "green"), Threshold(0.1, "yellow"), Threshold(0.2, "red")])
)
_Made = timeseries.Panel | stat.Panel | table.Panel | statushistory.Panel
_KINDS: dict[Kind, type[_Made]] = {
    "heatmap": statushistory.Panel,  # a row a series, a column a day
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
}
_FROM = {"pvforecast-operations": "now-6h"}


def files() -> dict[str, str]:
    """File name -> JSON, one dashboard each."""
    return {f"{uid}.json": render(uid, title, panels) for uid, (title, panels) in DASHBOARDS.items()}


def render(uid: str, title: str, panels: tuple[Panel, ...]) -> str:
    """The JSON of one dashboard."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["pvforecast"])
        .readonly()
        .time(_FROM.get(uid, "now-30d"), "now")
        .timezone("utc")
        .refresh("1m")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for panel in panels:
        made.with_panel(_panel(panel))
    text: str = JSONEncoder(sort_keys=True, indent=1).encode(made.build())
    return text + "\n"


def _panel(panel: Panel) -> _Made:
    built = _KINDS[panel.kind]().title(panel.title).description(panel.help).unit(panel.unit).datasource(_SOURCE)
    built.span(_WIDTH).height(_HEIGHT)
    if isinstance(built, stat.Panel):
        built.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if isinstance(built, statushistory.Panel):
        built.interval("1d").thresholds(_PSI).color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    for letter, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).datasource(_SOURCE).ref_id(letter)
        built.with_target(target.instant().format(PromQueryFormat.TABLE) if panel.kind == "table" else target.range())
    return built
