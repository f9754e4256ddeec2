"""Maintain the lake."""

from kfp import dsl

from components.image import APP_IMAGE


@dsl.component(base_image=APP_IMAGE, install_kfp_package=False)
def maintain(as_of: str, report: dsl.Output[dsl.Markdown], metrics: dsl.Output[dsl.Metrics]) -> dict:
    """Merge small files of every table, delete what no kept version needs; fails when a table could not be maintained.

    Args:
        as_of: ISO instant with offset; ages are counted from here.
        report: What was done, a line a table.
        metrics: Files and bytes of the lake.

    Returns:
        Table -> number of its files.
    """
    from pvforecast import maintaining, shards
    from pvforecast.settings import load

    done = maintaining.run(load(), shards.instant(as_of, "as_of"))
    maintaining.write(done, report.path, metrics.log_metric)
    maintaining.check(done)
    return {row["table"]: row["files_after"] for row in done}
