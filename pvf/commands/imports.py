"""`pvf import`: parks, weather and generation from files. See docs/import.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvforecast.errors import InvalidInput
from pvforecast.settings import load

if TYPE_CHECKING:
    from pvforecast.importing.report import Report

app = typer.Typer(no_args_is_help=True, help="Bring in files: parks, weather, generation (CSV or Parquet).")

File = Annotated[Path, typer.Argument(help="CSV or Parquet, plain, .gz or .zip.")]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="YAML file that says how the columns differ.")]
Rename = Annotated[list[str] | None, typer.Option(help="THEIRS=OURS: a column has another name. Repeat.")]
Ignore = Annotated[list[str] | None, typer.Option(help="A column that is not read. Repeat.")]
Constant = Annotated[list[str] | None, typer.Option(help="OURS=VALUE of all rows. Repeat.")]
Unit = Annotated[list[str] | None, typer.Option(help="Unit of power (W, MW, kWh …), or COLUMN=UNIT. Repeat.")]
Label = Annotated[str | None, typer.Option(help="Which part of its interval a time names: start, middle or end.")]
Timezone = Annotated[str | None, typer.Option(help="Of times without offset: Europe/Amsterdam, +01:00, UTC.")]
TimeFormat = Annotated[str | None, typer.Option(help="As strptime (%d.%m.%Y %H:%M), unix or unix_ms.")]
Period = Annotated[str | None, typer.Option(help="Length of an interval, e.g. 15m; found from the steps otherwise.")]
Delay = Annotated[str | None, typer.Option(help="Until a row could be had, where the file does not say, e.g. 6h.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal sign: , or .")]
Delimiter = Annotated[str | None, typer.Option(help="Between cells; found from the header otherwise.")]
Encoding = Annotated[str | None, typer.Option(help="Of a CSV that is not UTF-8, e.g. cp1252.")]
Missing = Annotated[list[str] | None, typer.Option(help="A text that means no value, e.g. -999. Repeat.")]
Strict = Annotated[bool, typer.Option("--strict", help="One bad row refuses the file.")]
MaxBad = Annotated[float, typer.Option(min=0, max=1, help="Share of bad rows above which the file is refused.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be loaded; store nothing.")]
Plot = Annotated[Path | None, typer.Option(help="Draw what was read to a PNG.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]


@app.command("parks")
def import_parks(
    file: File,
    mapping: MappingFile = None,
    rename: Rename = None,
    ignore: Ignore = None,
    constant: Constant = None,
    unit: Unit = None,
    azimuth: Annotated[
        str | None,
        typer.Option(help="north (clockwise; default), south (west positive) or south-east-positive."),
    ] = None,
    timezone: Timezone = None,
    decimal: Decimal = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="Replace other facts stored under the same valid_from.")
    ] = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Register the parks of a file, one row a park."""
    from pvforecast import wiring
    from pvforecast.importing import fleets
    from pvforecast.importing.mapping import load as load_mapping

    options = _options(rename, ignore, constant, unit, "ac_capacity_kw") | {
        "azimuth": "south-west-positive" if azimuth == "south" else azimuth,
        "timezone": timezone,
        "decimal": decimal,
        "delimiter": _tab(delimiter),
        "encoding": encoding,
    }
    if options["units"] and any("=" not in text for text in unit or ()):
        for name in ("dc_capacity_kw", "export_limit_kw"):
            options["units"].setdefault(name, options["units"]["ac_capacity_kw"])
    known = load_mapping(mapping, options)
    report, _ = fleets.run(wiring.lake(load()), file, known, correct=correct, dry_run=dry_run, strict=strict)
    _show(report, as_json)


@app.command("weather")
def import_weather(
    file: File,
    source: Annotated[str, typer.Option(help="Who made the weather, where the file has no column source.")] = "import",
    observed: Annotated[
        bool, typer.Option("--observed", help="Measured weather without runs; scores on it are optimistic.")
    ] = False,
    mapping: MappingFile = None,
    rename: Rename = None,
    ignore: Ignore = None,
    constant: Constant = None,
    unit: Unit = None,
    label: Label = None,
    timezone: Timezone = None,
    time_format: TimeFormat = None,
    period: Period = None,
    delay: Delay = None,
    decimal: Decimal = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    missing: Missing = None,
    strict: Strict = False,
    max_bad: MaxBad = 0.2,
    dry_run: DryRun = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Load weather forecasts, or measured weather."""
    options = _options(rename, ignore, constant, unit, None) | _times(label, timezone, time_format, period, delay)
    options |= _text(decimal, delimiter, encoding, missing)
    _load("weather", file, mapping, options, source, observed, strict, max_bad, dry_run, plot, as_json)


@app.command("generation")
def import_generation(
    file: File,
    source: Annotated[str, typer.Option(help="Who measured it; kept with the rows.")] = "import",
    mapping: MappingFile = None,
    rename: Rename = None,
    ignore: Ignore = None,
    constant: Constant = None,
    unit: Unit = None,
    label: Label = None,
    timezone: Timezone = None,
    time_format: TimeFormat = None,
    period: Period = None,
    delay: Delay = None,
    decimal: Decimal = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    missing: Missing = None,
    strict: Strict = False,
    max_bad: MaxBad = 0.2,
    dry_run: DryRun = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Load metered power."""
    options = _options(rename, ignore, constant, unit, "power_kw") | _times(label, timezone, time_format, period, delay)
    options |= _text(decimal, delimiter, encoding, missing)
    _load("generation", file, mapping, options, source, False, strict, max_bad, dry_run, plot, as_json)


def _load(
    kind: str,
    file: Path,
    mapping: Path | None,
    options: dict[str, Any],
    source: str,
    observed: bool,
    strict: bool,
    max_bad: float,
    dry_run: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    from pvforecast import wiring
    from pvforecast.importing import load as importing
    from pvforecast.importing.mapping import load as load_mapping

    settings = load()
    how = importing.Options(
        source=source,
        dry_run=dry_run,
        strict=strict,
        max_bad=max_bad,
        observed=observed,
        draw=plot is not None,
        correct_clocks=settings.correct_clocks,
    )
    known = load_mapping(mapping, options)
    report, survey = importing.run(wiring.lake(settings), kind, file, known, how, _progress())
    if plot is not None:
        from pvforecast.importing.plot import draw

        draw(survey, kind, plot)
    _show(report, as_json)
    if plot is not None and not as_json:
        print(f"  plot       {plot}")


def _progress() -> Any:
    """Lines that overwrite each other on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(f"\r\x1b[K  {text}", end="\r", file=sys.stderr, flush=True)


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_dict()))
        return
    print("\n".join(report.lines()))


def _options(
    rename: list[str] | None,
    ignore: list[str] | None,
    constant: list[str] | None,
    unit: list[str] | None,
    plain_unit: str | None,
) -> dict[str, Any]:
    units = {}
    for text in unit or ():
        name, equals, value = text.partition("=")
        if not equals and plain_unit is None:
            raise InvalidInput(f"{text[:60]!r} names no column", field="--unit", hint="e.g. cloud_cover=%")
        units[name if equals else plain_unit] = value if equals else name
    return {
        "rename": _pairs(rename, "--rename"),
        "ignore": ignore,
        "constant": _pairs(constant, "--constant"),
        "units": units or None,
    }


def _times(
    label: str | None, timezone: str | None, time_format: str | None, period: str | None, delay: str | None
) -> dict[str, Any]:
    return {"label": label, "timezone": timezone, "time_format": time_format, "period": period, "delay": delay}


def _text(
    decimal: str | None, delimiter: str | None, encoding: str | None, missing: list[str] | None
) -> dict[str, Any]:
    return {"decimal": decimal, "delimiter": _tab(delimiter), "encoding": encoding, "missing": missing}


def _tab(delimiter: str | None) -> str | None:
    return "\t" if delimiter in ("\\t", "tab") else delimiter


def _pairs(texts: list[str] | None, option: str) -> dict[str, str] | None:
    pairs = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=") if option == "--rename" else text.partition("=")
        if not equals or not name or not value:
            raise InvalidInput(f"{text[:60]!r} is not NAME=VALUE", field=option, hint="e.g. Leistung=power_kw")
        pairs[name] = value
    return pairs or None
