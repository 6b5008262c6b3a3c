"""What AWS clients are told beyond boto3's own settings, and what to do where those cannot work.

Standard library only: whoever has neither bucket nor table loads no botocore.
"""

from __future__ import annotations

from collections.abc import Mapping

_REGION = "set AWS_REGION to a region's name, as in eu-central-1"
# By the names of botocore's types.
_ADVICE = {
    "NoRegionError": _REGION,
    "InvalidRegionError": _REGION,
    "ProfileNotFound": "set AWS_PROFILE to a profile of the configuration file, or unset it",
    "ValueError": "set AWS_ENDPOINT_URL to a URL, as in https://host, or unset it",
}


def region(environ: Mapping[str, str]) -> str | None:
    """The region of `AWS_REGION`, which boto3 does not read as the other SDKs do.

    None leaves it to boto3: `AWS_DEFAULT_REGION`, or the profile's.
    """
    return environ.get("AWS_REGION") or None


def advice(error: BaseException) -> str:
    """What to do about an error met when a client was made; empty where its own words say it all.

    >>> advice(ValueError("Invalid endpoint: here"))
    '; set AWS_ENDPOINT_URL to a URL, as in https://host, or unset it'
    """
    known = _ADVICE.get(type(error).__name__)
    return f"; {known}" if known else ""
