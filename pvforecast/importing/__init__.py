"""Files into the lake: parks, weather and generation from CSV or Parquet, checked row by row.

A file is read twice in bounded memory: once to survey it (what it holds, its step, what is wrong with it), which is
all that a dry run does; then to load it. Bad rows go to quarantine with file, row, field and reason.
"""
