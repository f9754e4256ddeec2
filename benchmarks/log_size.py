"""What a logged forecast takes in Postgres: `make bench NAME=log_size`. The last line is JSON.

Real predictor, transformer and log; one park, 48 hours, the levels of the default recipe.
"""

from __future__ import annotations

import json
import shutil
import sys

import psycopg

from inference.prediction_log import store
from pvf.stack.local import Stack
from pvforecast.model.recipe import Recipe
from tests.bundles import record, site, tiny_bundle
from tests.serving import PARKS, eventually, serving
from tests.stack_fixtures import new_home

REQUESTS = 200


def main() -> int:
    home = new_home()
    with Stack(home, ["seaweedfs", "postgres"]) as stack, serving(stack.settings, "sink", "predictor") as made:
        made.deploy(tiny_bundle(record(site(PARKS[0])), quantiles=Recipe().quantiles), "1")
        made.services["transformer"].start()
        made.services["transformer"].wait()
        eventually(lambda: made.ask({"park_id": PARKS[0]}).status_code == 200, 60)
        for _ in range(REQUESTS - 1):
            made.ask({"park_id": PARKS[0]}).raise_for_status()
        eventually(lambda: store.count(made.dsn) >= 2 * REQUESTS, 60)
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            connection.execute("VACUUM FULL prediction_log")
            row = connection.execute("SELECT pg_total_relation_size('prediction_log'), count(*) FROM prediction_log")
            size, events = row.fetchone() or (0, 1)
    shutil.rmtree(home)
    print(json.dumps({"requests": events // 2, "bytes_a_request": round(2 * size / events)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
