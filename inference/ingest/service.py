"""The telemetry service: session, committer and refresher together."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from inference.ingest.committer import Committer
from inference.ingest.held import Allowance
from inference.ingest.inbox import Inbox
from inference.ingest.metrics import Metrics
from inference.ingest.options import Options
from inference.ingest.refresher import Refresher
from inference.ingest.session import Session
from inference.ingest.touched import Touched
from pvforecast import fleet, wiring
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.settings import Settings
from pvforecast.telemetry import mapping
from pvforecast.telemetry.topics import Pattern
from pvforecast.telemetry.translate import Limits, Translator

log = logging.getLogger(__name__)

_LAST_COMMIT_S = 8.0  # a part of the local stack has 15 s to end


class Service:
    """Runs until `stop`.

    Raises
    ------
    InvalidInput
        a setting or the mapping file is wrong.
    NotReady
        the registry of parks can't be read: every message would be refused.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        rules = mapping.load(options.mapping_file) if options.mapping_file else mapping.CANONICAL
        self.metrics = Metrics()
        self._lake = wiring.lake(settings)
        limits = Limits(options.max_age_days * 86_400, options.max_ahead_s)
        self._translator = Translator(rules, self._parks(), limits, options.max_payload_bytes)
        self._seed_counters()
        touched = Touched()
        inbox = Inbox(options.batch_rows, options.max_waiting_bytes // 2, options.flush_s)
        self.session = Session(
            wiring.needed(settings.mqtt_url, "PVF_MQTT_URL"),
            settings.mqtt_user,
            settings.mqtt_password.get_secret_value(),
            [Pattern.parse(rule.topic).filter for rule in rules.rules],
            options,
            inbox,
            self.metrics,
        )
        self.committer = Committer(
            self._lake,
            inbox,
            self._translator,
            self._parks,
            self.session.acknowledge,
            touched,
            Allowance(options.quarantine_per_minute),
            self.metrics,
        )
        self.refresher = Refresher(touched, options.refresh_s, self.metrics, always=options.rest_file is not None)
        self._inbox = inbox

    def start(self) -> None:
        log.info("telemetry: %d parks are registered", len(self._translator.parks))
        self.committer.start()
        self.refresher.start()
        self.session.start()

    def stop(self) -> None:
        """Commit and acknowledge what is at hand, leave the broker in order, end the child process."""
        self.refresher.stop()
        self.committer.give_up_after(_LAST_COMMIT_S)
        self._inbox.close()
        self.committer.join(_LAST_COMMIT_S)
        self.session.stop()
        self.session.join(3.0)
        self.refresher.join(3.0)

    def troubles(self) -> dict[str, str]:
        """Part -> why it can't do its work now."""
        found = {}
        if not self.session.connected:
            found["mqtt"] = self.session.state
        if self.committer.failure:
            found["lake"] = self.committer.failure
        if self.refresher.failure:
            found["refresh"] = self.refresher.failure
        return found

    def dead(self) -> list[str]:
        threads = (self.session, self.committer, self.refresher)
        return [thread.name for thread in threads if not thread.is_alive()]

    def _parks(self) -> dict[str, float]:
        return {park.id: park.ac_capacity_kw for park in fleet.registered(self._lake)}

    def _seed_counters(self) -> None:
        """Where counters stood at the end of their last stored period: a restart loses no energy between."""
        readers = {r.rule.stored_source: r for r in self._translator.readers if r.rule.values == "counter"}
        if not readers:
            return
        since = datetime.now(UTC) - timedelta(days=1)
        stored = self._lake.query(
            RAW_GENERATION,
            "SELECT park_id, inverter_id, source, max(measured_at) AS at, "
            "last_value(energy_total_kwh ORDER BY measured_at, received_at) AS total, "
            "last_value(period_s ORDER BY measured_at, received_at) AS period_s FROM t "
            f"WHERE measured_at >= TIMESTAMP '{since.isoformat()}' AND month >= '{since:%Y-%m}' "
            "AND energy_total_kwh IS NOT NULL GROUP BY park_id, inverter_id, source",
        )
        for row in [] if stored is None else stored.to_pylist():
            if row["source"] in readers:
                end = round(row["at"].timestamp() * 1e6) + row["period_s"] * 1_000_000
                readers[row["source"]].seed(row["park_id"], row["inverter_id"], end, row["total"])
