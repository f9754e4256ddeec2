"""Credentials that a pod gets for its service account, in place of keys: EKS Pod Identity, IAM roles for accounts."""

from __future__ import annotations

import os
from collections.abc import Mapping

_SOURCES = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE")
_DETAILS = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME")


def offered(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What AWS's webhook put into this pod's environment, as storage options of Delta; empty where it put nothing."""
    environment = os.environ if environment is None else environment
    if not any(environment.get(name) for name in _SOURCES):
        return {}
    return {name.lower(): environment[name] for name in (*_SOURCES, *_DETAILS) if environment.get(name)}
