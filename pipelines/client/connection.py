"""One way to the KFP API server: address, token, CA and time limits, and a plain error for each failure.

`kfp_server_api` speaks the protocol. `kfp.Client` above it is not used: it sets no time limit, asks the server for its
health five times with pauses of 5 s when it is made, reads and writes ``~/.config/kfp``, prints, and reads first pages.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import urllib3
from kfp_server_api import ApiClient, Configuration
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from pvforecast.errors import InvalidInput, NotReady
from pvforecast.settings import Settings

_CONNECT_S = 5.0
_TRIES = 3
_PAUSE_S = 0.3  # before the second try, then twice as long each time
_LONGEST_WAIT_S = 10  # whatever Retry-After says
_PASSING = frozenset({429, 500, 502, 503, 504})
_PAGE = 100
_MOST_PAGES = 10_000
_LONGEST = 300  # characters of what a server says


class NotThere(InvalidInput):
    """The server knows nothing under this id (404)."""


class Taken(InvalidInput):
    """The server has it already, or it has changed meanwhile (409)."""


class Server:
    """A KFP API server.

    Parameters
    ----------
    url : with scheme; the API lies below it under ``/apis/v2beta1``.
    token_file : read for each request, because a projected service-account token is renewed in place.
    namespace : empty on a server without profiles.
    timeout_s : seconds that an answer may take.
    pause_s : seconds before the second try of a read.

    Raises
    ------
    InvalidInput
        an address without scheme, a CA file that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        token_file: Path | None = None,
        ca_file: Path | None = None,
        namespace: str = "",
        timeout_s: float = 30.0,
        pause_s: float = _PAUSE_S,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"{url!r} has no scheme", field="PVF_KFP_URL", hint="e.g. https://kubeflow.example.org")
        if ca_file is not None:
            _check_ca(ca_file)
        self.namespace = namespace
        configuration = Configuration(host=url.rstrip("/"))
        configuration.ssl_ca_cert = str(ca_file) if ca_file else None
        # A read is tried again, a write never: whether it arrived is found out by reading. What was never sent may be.
        configuration.retries = urllib3.Retry(
            total=_TRIES,
            other=0,
            redirect=False,  # a login page is no answer
            allowed_methods=frozenset({"GET"}),
            status_forcelist=_PASSING,
            raise_on_status=False,
            backoff_factor=pause_s,
            retry_after_max=_LONGEST_WAIT_S,
        )
        if token_file is not None or token:
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        if token_file is not None:
            configuration.refresh_api_key_hook = lambda known: known.api_key.update(authorization=_token(token_file))
        self.client = ApiClient(configuration)
        # A pair, because the generated code takes a plain float for no limit at all.
        self._timeout = (min(_CONNECT_S, timeout_s), timeout_s)
        self._url = url

    def call(self, what: str, method: Callable[..., Any], *words: Any, **options: Any) -> Any:
        """Call a ``..._with_http_info`` method of a generated API; returns its answer.

        Parameters
        ----------
        what : the doing, for an error's message.
        options : those that are None are left out.

        Raises
        ------
        InvalidInput
            the server refuses: 400, 401, 403; `NotThere` 404, `Taken` 409.
        NotReady
            it cannot be reached, does not answer in time, or answers with what passes: 429, 5xx.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            answer, _, headers = method(*words, _request_timeout=self._timeout, **given)
        except ApiException as error:
            raise self._refusal(what, error) from error
        except (AttributeError, UnicodeDecodeError) as error:  # the generated code trips over a body that is no text
            raise NotReady(f"{what}: answered with what is no JSON", field="PVF_KFP_URL", hint=self._url) from error
        except HTTPError as error:
            raise self._unreachable(what, error) from error
        kind = headers.get("content-type", "")
        if "json" not in kind and options.get("_text") is None:
            raise InvalidInput(
                f"{what}: answered with {kind or 'no type'}, not JSON: perhaps a login page",
                field="PVF_KFP_URL", hint=f"is {self._url} the API server? is a token needed?",
            )  # fmt: skip
        return answer

    def pages(self, what: str, method: Callable[..., Any], name: str, *words: Any, **options: Any) -> Iterator[Any]:
        """Every item of a list, page after page.

        Parameters
        ----------
        name : of the answer's list.
        """
        token, seen, told = "", 0, 0
        for _ in range(_MOST_PAGES):
            page = self.call(what, method, *words, page_size=_PAGE, page_token=token, **options)
            items = getattr(page, name) or []
            seen, told = seen + len(items), max(told, int(page.total_size or 0))
            yield from items
            if not page.next_page_token:
                break
            if page.next_page_token == token:
                raise NotReady(f"{what}: the same page again and again", field="PVF_KFP_URL", hint=self._url)
            token = page.next_page_token
        if told and not seen:
            # Taken for an empty list, everything would be made once more.
            raise NotReady(f"{what}: {told} items, but none in the answer", field="PVF_KFP_URL", hint=self._url)

    def text(self, what: str, path: str, **words: str) -> str:
        """An answer that is plain text, of a path that the generated code does not have."""
        try:
            answer = self.client.call_api(
                path, "GET", path_params=words, auth_settings=["Bearer"], _preload_content=False,
                _request_timeout=self._timeout,
            )  # fmt: skip
            return bytes(answer.data).decode(errors="replace")
        except ApiException as error:
            raise self._refusal(what, error) from error
        except HTTPError as error:
            raise self._unreachable(what, error) from error

    def _refusal(self, what: str, error: ApiException) -> InvalidInput | NotReady:
        said = f"{what}: {error.status} {_said(error)}"
        match error.status:
            case 401:
                return InvalidInput(said, field="PVF_KFP_TOKEN", hint="the token is missing, wrong or has run out")
            case 403:
                return InvalidInput(
                    said, field="PVF_KFP_TOKEN", hint="its account lacks the right, perhaps in PVF_KFP_NAMESPACE"
                )
            case 404:
                return NotThere(said, field="PVF_KFP_URL", hint="no such thing, or not the address of the API server")
            case 409:
                return Taken(said, field="PVF_KFP_URL", hint="it was made or changed meanwhile; run it again")
            case 429:
                wait = (error.headers or {}).get("retry-after", "")
                return NotReady(said, field="PVF_KFP_URL", hint=f"too many requests; wait {wait or 'a while'}")
            case status if status and 300 <= status < 400:
                return InvalidInput(said, field="PVF_KFP_URL", hint="it sends to another address: a login?")
            case status if status and status >= 500:
                return NotReady(said, field="PVF_KFP_URL", hint="the server failed; run it again")
        return InvalidInput(said, field="PVF_KFP_URL", hint=self._url)

    def _unreachable(self, what: str, error: HTTPError) -> NotReady:
        cause = error.reason if isinstance(error, MaxRetryError) else error
        match cause:
            case SSLError():
                why, hint = f"TLS: {cause}", "set PVF_KFP_CA_FILE to the CA of the server"
            case NameResolutionError():
                why, hint = "no host of this name", self._url
            case ReadTimeoutError():
                why, hint = f"no answer within {self._timeout[1]:g} s", "PVF_KFP_TIMEOUT_S"
            case NewConnectionError():
                why, hint = "refused, or no way there", f"is {self._url} the address?"
            case ConnectTimeoutError():
                why, hint = f"no connection within {self._timeout[0]:g} s", self._url
            case _:
                why, hint = f"the connection broke: {cause}", "run it again"
        return NotReady(f"{what}: {why}"[:_LONGEST], field="PVF_KFP_URL", hint=hint)


def connect(settings: Settings) -> Server:
    """The server that the settings name.

    Raises
    ------
    InvalidInput
        none is named, or a setting is wrong.
    """
    if not settings.kfp_url:
        raise InvalidInput("is not set", field="PVF_KFP_URL", hint="the KFP API server; or --local for this machine")
    return Server(
        settings.kfp_url,
        token=settings.kfp_token.get_secret_value(),
        token_file=settings.kfp_token_file,
        ca_file=settings.kfp_ca_file,
        namespace=settings.kfp_namespace,
        timeout_s=settings.kfp_timeout_s,
    )


def equals(key: str, value: str) -> str:
    """A KFP filter for one field."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"cannot be read: {error.strerror}", field="PVF_KFP_TOKEN_FILE", hint=str(file)
        ) from error  # fmt: skip


def _check_ca(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"{file} is no file of CAs: {error}", field="PVF_KFP_CA_FILE", hint="PEM") from error


def _said(error: ApiException) -> str:
    """The server's own words: KFP's API answers with `message`, its upload handler with `error_message`."""
    try:
        body = json.loads(error.body or "")
        text = next(str(body[name]) for name in ("message", "error_message", "error") if body.get(name))
    except (ValueError, TypeError, AttributeError, StopIteration):
        text = str(error.reason or "")
    return " ".join(text.split())[:_LONGEST]
