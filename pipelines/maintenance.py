"""The maintenance pipeline: one task over the whole lake, daily."""

from kfp import dsl

from components.maintain.component import maintain


@dsl.pipeline(name="maintenance", description="Merges small files and deletes what no kept version needs.")
def maintenance() -> dict:
    """Maintain the lake.

    Returns:
        Table -> number of its files.
    """
    return maintain().set_caching_options(False).outputs["Output"]
