"""The credentials document as a secret of AWS Secrets Manager. Importing this costs botocore."""

from __future__ import annotations

import os

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pyfunc.aws_settings import advice, region
from server.errors import CredentialsUnavailableError

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=2.0,
    read_timeout=5.0,
    user_agent_extra="tauserve",
)


class SecretSource:
    """Reads the secret's current version: during a change of keys both stand in it."""

    def __init__(self, name: str) -> None:
        """`name` is its name or ARN; region, credentials and endpoint are boto3's own settings."""
        self._name = name
        try:
            self._client = boto3.client("secretsmanager", region_name=region(os.environ), config=_CONFIG)
        except (BotoCoreError, ValueError) as exc:
            raise CredentialsUnavailableError(name, found=f"{exc}{advice(exc)}") from exc

    def __call__(self) -> bytes:
        """See `sources.Source`."""
        try:
            reply = self._client.get_secret_value(SecretId=self._name)
        except ClientError as exc:
            found = exc.response.get("Error", {}).get("Code", "an error")
            raise CredentialsUnavailableError(self._name, found=found) from exc
        except BotoCoreError as exc:
            raise CredentialsUnavailableError(self._name, found=type(exc).__name__) from exc
        return reply["SecretString"].encode() if "SecretString" in reply else reply["SecretBinary"]
