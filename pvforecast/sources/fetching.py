"""GET with patience: time limits, a size limit, retries with exponential back-off and jitter, `Retry-After`."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self, TypeVar

import httpx

from pvforecast.errors import DataError, InvalidInput, NotReady

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long one answer is waited for, and how often it is asked for.

    Attributes
    ----------
    first_pause_s : of the pauses between attempts, which double; each is drawn between its half and its whole.
    longest_pause_s : no pause is longer; a server that asks for more is not asked again.
    most_bytes : of one answer; a longer one is not read to its end.
    """

    attempts: int = 6
    timeout_s: float = 30.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 90.0
    most_bytes: int = 64_000_000


class Refused(InvalidInput):
    """The server says that the question is wrong: asking again is of no use.

    Attributes
    ----------
    status : of the answer.
    """

    def __init__(self, message: str, *, status: int, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, field=field, hint=hint)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """One HTTP answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Pause = Callable[[Answer], float | None]


class Fetcher:
    """An HTTP client for one source; a context manager.

    Parameters
    ----------
    name : of the source, for errors. Neither URL nor headers appear in one: they may carry a key.
    pause : seconds that an answer of 429 or 5xx asks to wait, None when it does not say; `Retry-After` by default.
    slot : held during each request: bounds how many run at once.
    sleep : for tests.
    """

    def __init__(
        self,
        name: str,
        patience: Patience | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        pause: Pause | None = None,
        slot: Callable[[], AbstractContextManager[object]] = nullcontext,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._patience = patience or Patience()
        self._pause = pause or retry_after
        self._slot = slot
        self._sleep = sleep
        self._client = httpx.Client(
            headers={"User-Agent": "pvforecast-platform", **(headers or {})},
            timeout=httpx.Timeout(self._patience.timeout_s, connect=10.0),
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(
        self,
        url: str,
        params: Mapping[str, str],
        read: Callable[[bytes], _T],
        *,
        before: Callable[[], object] = lambda: None,
    ) -> _T:
        """What `read` makes of the body of a 200.

        Parameters
        ----------
        read : raises DataError for a body that is broken: the answer is asked for again, as for an error that passes.
        before : called before each attempt, e.g. to take from a budget.

        Raises
        ------
        Refused
            the server refuses the question.
        DataError
            every answer was broken.
        NotReady
            no answer came, or only errors that pass.
        """
        last: DataError | NotReady | None = None
        for attempt in range(self._patience.attempts):
            if attempt:
                _log.info("%s: %s; attempt %s", self._name, last, attempt + 1)
            before()
            pause = self._patience.first_pause_s * 2**attempt * random.uniform(0.5, 1.0)
            try:
                with self._slot():
                    answer = self._ask(url, params)
            except httpx.HTTPError as error:
                last = NotReady(f"{self._name} did not answer: {type(error).__name__}", hint="it is asked again later")
            else:
                if answer.status == httpx.codes.OK:
                    try:
                        return read(answer.body)
                    except DataError as error:
                        last = error
                elif answer.status not in _PASSING:
                    raise Refused(f"{self._name} refused: {answer.status} {said(answer.body)}", status=answer.status)
                else:
                    last = NotReady(f"{self._name} answered {answer.status} {said(answer.body)}", hint="asked later")
                    asked = self._pause(answer)
                    if asked is not None and asked > self._patience.longest_pause_s:
                        raise last
                    pause = pause if asked is None else asked
            if attempt + 1 < self._patience.attempts:
                self._sleep(min(pause, self._patience.longest_pause_s))
        assert last is not None
        raise last

    def _ask(self, url: str, params: Mapping[str, str]) -> Answer:
        with self._client.stream("GET", url, params=params or None) as response:
            parts, size = [], 0
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > self._patience.most_bytes:
                    raise httpx.DecodingError(f"longer than {self._patience.most_bytes} bytes")
            return Answer(response.status_code, dict(response.headers), b"".join(parts))


def retry_after(answer: Answer) -> float | None:
    """Seconds from the header `Retry-After`, which is a number or a date; None without one."""
    text = answer.headers.get("retry-after", "")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def said(body: bytes) -> str:
    """The beginning of a body, on one line."""
    return " ".join(body[:300].decode(errors="replace").split())[:200]
