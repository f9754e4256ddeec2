"""What an import found and did, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandera with it, which an import of parks does without
    from pvforecast.refining import ValidationReport

_CLOCKS_SHOWN = 10


@dataclass
class Report:
    """One file.

    Attributes
    ----------
    rows, good, empty, bad : rows of the file; empty ones have no value, bad ones a fault.
    stated : what was taken where the file did not say: period, label, time zone, delay.
    loaded : rows that are new in the raw table (a row of the file can become several, or part of one).
    already : rows that were stored before; `differing` of them with other values (not loaded, or as corrections).
    quarantined : bad rows set aside, by this import and by validation.
    processed : hours of generation and rows of weather that validation passed on.
    set_aside, flags : check -> rows that validation set aside, word -> hours that carry it.
    clocks : park -> what was found about its clock, where it is not in step with the sun.
    """

    kind: str
    file: str
    rows: int = 0
    good: int = 0
    empty: int = 0
    bad: int = 0
    doubled: int = 0
    parks: dict[str, int] = field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    sources: dict[str, int] = field(default_factory=dict)
    runs: int | None = None
    stated: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, float | None]] = field(default_factory=dict)
    first_bad: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False
    loaded: int = 0
    already: int = 0
    differing: int = 0
    quarantined: int = 0
    processed: dict[str, int] = field(default_factory=dict)
    set_aside: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def checked(self, reports: Sequence[ValidationReport]) -> None:
        """Take in what validation said; of a park with several reports the last knows its clock."""
        if self.kind == "weather":
            self.processed = {"new hours of weather": sum(report.weather_rows for report in reports)}
        else:
            self.processed = {"new hours of generation": sum(report.generation_hours for report in reports)}
            last = {report.park_id: report for report in reports}
            self.clocks = {
                park: report.clock.sentence(applied=report.clock_applied)
                for park, report in sorted(last.items())
                if report.clock and not report.clock.in_step
            }
            self.flags = _sum([report.flags for report in reports])
        self.set_aside = _sum([report.reasons for report in reports])
        self.quarantined += sum(report.quarantined for report in reports)

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["first_bad"] = [{"row": row, "reason": reason} for row, reason in self.first_bad]
        return values

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        yield f"{self.kind} from {self.file}"
        yield f"  rows       {self.rows:,}: {self.good:,} good, {self.bad:,} bad, {self.empty:,} without a value"
        if self.parks:
            shown = ", ".join(f"{park} ({count:,})" for park, count in sorted(self.parks.items())[:6])
            more = f" and {len(self.parks) - 6} more" if len(self.parks) > 6 else ""
            yield f"  parks      {len(self.parks)}: {shown}{more}"
        if self.since:
            yield f"  span       {self.since} to {self.until}"
        if self.runs is not None:
            yield f"  runs       {self.runs:,} of {', '.join(self.sources)}"
        for name, said in self.stated.items():
            yield f"  {name:<10} {said}"
        for name, about in self.columns.items():
            if about["values"]:
                yield (
                    f"  {name:<18} {about['min']:>12,.4g} … {about['max']:>10,.4g}   mean {about['mean']:>10,.4g}"
                    f"   missing {about['missing']:,}"
                )
        for row, reason in self.first_bad:
            yield f"  bad row {row}: {reason}"
        if self.bad > len(self.first_bad):
            yield f"  … and {self.bad - len(self.first_bad):,} more bad rows"
        for note in self.notes:
            yield f"  note: {note}"
        if self.dry_run:
            yield "  dry run: nothing was stored"
            return
        known = f"{self.already:,} were stored already; {self.quarantined:,} in quarantine"
        yield f"  loaded     {self.loaded:,} new; {known}"
        if self.processed:
            yield "  usable     " + ", ".join(f"{count:,} {name}" for name, count in self.processed.items())
        if self.set_aside:
            yield f"  set aside  {_counted(self.set_aside)}; see `pvf quarantine list`"
        if self.flags:
            yield f"  flags      {_counted(self.flags)} h"
        for park, said in [*self.clocks.items()][:_CLOCKS_SHOWN]:
            yield f"  clock      {park}: {said}"
        if len(self.clocks) > _CLOCKS_SHOWN:
            yield f"  … and {len(self.clocks) - _CLOCKS_SHOWN:,} more clocks"


def _sum(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in Counter(counts).most_common())
