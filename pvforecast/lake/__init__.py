"""The lake: Delta tables on S3 (or in a local folder), their contracts, and reads as of an instant."""

from pvforecast.lake.store import Lake

__all__ = ["Lake"]
