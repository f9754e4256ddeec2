"""What passes is tried again, what does not is said at once, and no answer can fill the memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from pvforecast.errors import DataError, NotReady
from pvforecast.sources.fetching import Answer, Fetcher, Patience, Refused, retry_after
from tests.open_meteo import served

PATIENCE = Patience(attempts=4, timeout_s=0.5, first_pause_s=0.001, longest_pause_s=5.0, most_bytes=100_000)


@dataclass
class Script:
    """Answers in their order; the last one for ever."""

    answers: list[Response]
    asked: int = 0
    pauses: list[float] = field(default_factory=list)

    def next(self) -> Response:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


@pytest.fixture
def script() -> Script:
    return Script([Response(b"fine")])


@pytest.fixture
def fetcher(script: Script) -> Iterator[tuple[Fetcher, str]]:
    app = FastAPI()
    app.get("/")(lambda: script.next())
    with served(app) as url, Fetcher("a server", PATIENCE, sleep=script.pauses.append) as fetcher:
        yield fetcher, url


def whole(body: bytes) -> bytes:
    if body.endswith(b"cut"):
        raise DataError("cut off")
    return body


def test_errors_that_pass_are_tried_again_with_growing_pauses(script: Script, fetcher: tuple[Fetcher, str]) -> None:
    script.answers = [Response("x", 503), Response(b"half, cut"), Response("y", 502), Response(b"fine")]
    tries = []
    assert fetcher[0].get(fetcher[1], {}, whole, before=lambda: tries.append(1)) == b"fine"
    assert (script.asked, len(tries)) == (4, 4)
    for i, pause in enumerate(script.pauses):
        assert 0.0005 * 2**i <= pause <= 0.001 * 2**i


def test_a_refusal_is_said_at_once(script: Script, fetcher: tuple[Fetcher, str]) -> None:
    script.answers = [Response('{"error": true, "reason": "no such variable"}', 400)]
    with pytest.raises(Refused, match=r"a server refused: 400 .*no such variable") as caught:
        fetcher[0].get(fetcher[1], {}, whole)
    assert (caught.value.status, script.asked) == (400, 1)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Response("overloaded", 503), NotReady, "answered 503 overloaded"),
        (Response(b"always cut"), DataError, "cut off"),
        (Response(b"x" * 200_000), NotReady, "did not answer: DecodingError"),
        (Response("elsewhere", 302, {"location": "http://127.0.0.1:1/"}), Refused, "302 elsewhere"),
    ],
)
def test_what_never_passes_is_an_error_in_the_end(
    script: Script, fetcher: tuple[Fetcher, str], answer: Response, error: type[Exception], said: str
) -> None:
    script.answers = [answer]
    with pytest.raises(error, match=said):
        fetcher[0].get(fetcher[1], {}, whole)
    assert script.asked == (1 if error is Refused else 4)


def test_an_answer_without_end_is_cut_off(script: Script, fetcher: tuple[Fetcher, str]) -> None:
    def for_ever() -> Iterator[bytes]:
        while True:
            yield b"x" * 10_000

    script.answers = [StreamingResponse(for_ever()), Response(b"fine")]
    assert fetcher[0].get(fetcher[1], {}, whole) == b"fine"


def test_a_server_that_hangs_is_left(script: Script, fetcher: tuple[Fetcher, str]) -> None:
    def slow() -> Iterator[bytes]:
        time.sleep(1.0)
        yield b"late"

    script.answers = [StreamingResponse(slow()), Response(b"fine")]
    assert fetcher[0].get(fetcher[1], {}, whole) == b"fine"


def test_a_server_that_says_how_long_is_obeyed(script: Script, fetcher: tuple[Fetcher, str]) -> None:
    script.answers = [Response("busy", 429, {"retry-after": "3"}), Response(b"fine")]
    assert fetcher[0].get(fetcher[1], {}, whole) == b"fine"
    assert script.pauses == [3.0]
    script.answers, script.asked = [Response("come tomorrow", 429, {"retry-after": "86400"})], 0
    with pytest.raises(NotReady, match="429 come tomorrow"):
        fetcher[0].get(fetcher[1], {}, whole)
    assert script.asked == 1  # longer than anyone waits


def test_retry_after_is_a_number_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    found = [retry_after(Answer(429, {"retry-after": text}, b"")) for text in ("7", soon, "soon", "-3")]
    assert found[0] == 7.0
    assert found[1] == pytest.approx(30, abs=2)
    assert found[2:] == [None, 0.0]
    assert retry_after(Answer(429, {}, b"")) is None
