"""The last good forecast of each park, for callers that would rather have an older one than none."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from inference.transformer.forecast import Question
from inference.transformer.made import Made
from pvforecast.errors import NotReady

_PARKS = 2_000


class LastGood:
    """Remembers, of each park, the newest forecast "as of now" from the platform's own weather; of two the longer."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Made] = OrderedDict()

    def keep(self, made: Made) -> None:
        if not _as_of_now(made.question):
            return
        park = made.question.instance.park_id
        held = self._kept.get(park)
        if held is not None and _rank(held) > _rank(made):
            return
        self._kept[park] = replace(made)  # without what was told of it
        self._kept.move_to_end(park)
        while len(self._kept) > _PARKS:
            self._kept.popitem(last=False)

    def instead_of(self, question: Question, error: NotReady) -> Made:
        """The park's last forecast, cut to the hours and levels asked for.

        Raises
        ------
        NotReady
            `error`, where there is none, it ended before the hours asked for, or the question is about another time or
            weather.
        """
        held = self._kept.get(question.instance.park_id)
        if held is None or not _as_of_now(question) or question.instance.explain:
            raise error
        wanted = (held.question.hours >= question.hours[0]) & (held.question.hours <= question.hours[-1])
        if not wanted.any():
            raise error
        return Made(
            replace(held.question, field=question.field, instance=question.instance, hours=held.question.hours[wanted]),
            held.rows[wanted],
            replace(held.inference, fractions=held.inference.fractions[wanted], contributions=None),
            held.rungs[wanted],
            held.new_park,
            stale=True,
        )


def _as_of_now(question: Question) -> bool:
    return question.instance.issued_at is None and question.instance.weather is None


def _rank(made: Made) -> tuple[str, int]:
    return str(made.question.issued_at), len(made.question.hours)
