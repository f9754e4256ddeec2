"""Plain objects in S3: bundles, snapshots, pointers, reports. Tables live in the lake, not here."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlparse

import urllib3
from minio import Minio
from minio.credentials.providers import IamAwsProvider
from minio.error import MinioException, S3Error

from pvforecast import pod_identity
from pvforecast.errors import InvalidInput, NotReady

_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")
_FAILURES = (MinioException, urllib3.exceptions.HTTPError)


class ObjectStore:
    """One bucket of an S3 server.

    Parameters
    ----------
    endpoint : URL with scheme, e.g. ``http://127.0.0.1:8333``.
    access_key, secret_key : empty where the pod's service account is known to the store (`pod_identity`).
    timeout_s : for each connection and read; a dead server raises `NotReady` instead of hanging.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        *,
        region: str = "us-east-1",
        timeout_s: float = 10.0,
    ) -> None:
        pool = urllib3.PoolManager(timeout=timeout_s, maxsize=16, retries=urllib3.Retry(2, backoff_factor=0.2))
        self.bucket = bucket
        self._endpoint = endpoint
        try:
            url = urlparse(endpoint)
            if url.scheme not in ("http", "https") or not _HOST.fullmatch(url.netloc) or url.path.strip("/"):
                raise ValueError
            keyless = IamAwsProvider() if not access_key and pod_identity.offered() else None
            self._client = Minio(
                url.netloc,
                access_key,
                secret_key,
                credentials=keyless,
                secure=url.scheme == "https",
                region=region,
                http_client=pool,
            )
        except ValueError as error:
            raise InvalidInput(
                f"{endpoint!r} is not the URL of a server",
                field="PVF_S3_ENDPOINT",
                hint="e.g. http://127.0.0.1:8333, or start `pvf up`",
            ) from error

    def get(self, key: str) -> bytes:
        """Raises KeyError when there is no such object."""
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        try:
            response = self._client.get_object(self.bucket, key)
            try:
                return response.read(), response.headers.get("ETag", "")
            finally:
                response.close()
                response.release_conn()
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                raise KeyError(key) from error
            raise self._unavailable(error) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def etag(self, key: str) -> str:
        """Raises KeyError when there is no such object."""
        try:
            return str(self._client.stat_object(self.bucket, key).etag)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject", "NoSuchBucket"):
                raise KeyError(key) from error
            raise self._unavailable(error) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def exists(self, key: str) -> bool:
        try:
            self.etag(key)
        except KeyError:
            return False
        return True

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write the whole object; readers see the old one or the new one, never a part."""
        try:
            self._client.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def get_file(self, key: str, file: Path) -> None:
        """Into a file, whatever its size; raises KeyError when there is no such object."""
        try:
            self._client.fget_object(self.bucket, key, str(file))
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject", "NoSuchBucket"):
                raise KeyError(key) from error
            raise self._unavailable(error) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def put_file(self, key: str, file: Path) -> None:
        """As `put`, in parts, so that it need not fit into memory."""
        try:
            self._client.fput_object(self.bucket, key, str(file))
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def remove(self, key: str) -> None:
        """Delete one object; none there is no error."""
        try:
            self._client.remove_object(self.bucket, key)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below `prefix`, ascending."""
        try:
            for item in self._client.list_objects(self.bucket, prefix, recursive=True):
                yield cast(str, item.object_name)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """All keys below `prefix`, ascending, with when each was written (UTC)."""
        try:
            for item in self._client.list_objects(self.bucket, prefix, recursive=True):
                yield cast(str, item.object_name), cast(datetime, item.last_modified)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def etags(self, prefix: str) -> Iterator[tuple[str, str]]:
        """All keys below `prefix`, ascending, each with the ETag of its content."""
        try:
            for item in self._client.list_objects(self.bucket, prefix, recursive=True):
                yield cast(str, item.object_name), str(item.etag).strip('"')
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def get_json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def put_json(self, key: str, value: Any) -> None:
        self.put(key, json.dumps(value, sort_keys=True).encode(), "application/json")

    def _unavailable(self, error: Exception) -> NotReady:
        said = " ".join(str(error).split())[:300]  # what is no S3 may answer with a whole page
        return NotReady(
            f"the object store at {self._endpoint} did not answer: {said}", hint="is it running? see its log"
        )
