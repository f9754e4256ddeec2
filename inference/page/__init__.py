"""The forecast page for people: one file of HTML, its scripts, and what they ask for beside the forecast API.

app       routes, errors, headers; session: the cookie of the log-in
facts     the platform's tables in Postgres: yesterday's forecast, drift, training runs
fleet     the registered parks
series    one park's hours as a table; CSV and Parquet
assets/   HTML, CSS, scripts and uPlot: no request leaves this host
"""
