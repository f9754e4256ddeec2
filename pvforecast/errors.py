"""Every error of the platform, in one tree.

    PvForecastError
    ├── InvalidInput          a field of a request, file or setting is wrong       -> 400
    │   └── UnknownPark       no such park (or not one this client may see)        -> 404
    ├── NotReady              a part that is needed is not there yet               -> 503
    │   └── NoChampion        nothing has been promoted
    ├── DataError             stored or delivered data breaks its contract
    │   └── NotEnoughData     too little of it to do what was asked
    ├── BundleError           a model bundle is broken, or not the one expected
    │   └── SpecMismatch      features and model disagree on the feature spec
    ├── PromotionConflict     two promotions named the same predecessor
    └── StackError            a part of the local stack failed

Each carries what went wrong, the field it went wrong in, and what to do about it.
"""

from __future__ import annotations


class PvForecastError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : what is wrong, in one sentence.
    field : the field, column, file or setting it is wrong in, where there is one.
    hint : what the reader can do about it.
    """

    code = "internal"

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class InvalidInput(PvForecastError):
    code = "invalid_input"


class UnknownPark(InvalidInput):
    code = "unknown_park"


class NotReady(PvForecastError):
    code = "not_ready"


class NoChampion(NotReady):
    code = "no_champion"


class DataError(PvForecastError):
    code = "data_error"


class NotEnoughData(DataError):
    code = "not_enough_data"


class BundleError(PvForecastError):
    code = "bundle_error"


class SpecMismatch(BundleError):
    code = "spec_mismatch"


class PromotionConflict(PvForecastError):
    code = "promotion_conflict"


class StackError(PvForecastError):
    code = "stack_error"
