"""Times in the replies of AWS: read as botocore reads them, and those of a listing without dateutil."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from botocore.utils import parse_timestamp
from hypothesis import example, given

from registry_sync.aws import read_timestamp, s3_client
from registry_sync.s3 import S3Store
from tests.aws import AwsEndpoint

ZONES = (UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-9, minutes=-30)))
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.sampled_from(ZONES))  # noqa: DTZ001 - bounds


@example(datetime.fromtimestamp(20_010_101, UTC))  # which might be taken for a day
@given(MOMENTS)
def test_every_form_of_a_time_is_read_as_botocore_reads_it(moment: datetime) -> None:
    """ISO 8601 as S3 writes it and as others do, the form of HTTP, and seconds since 1970."""
    utc = moment.astimezone(UTC)
    forms: tuple[Any, ...] = (
        utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        utc.strftime("%Y%m%dT%H%M%SZ"),
        moment.isoformat(),
        moment.isoformat(" "),
        format_datetime(utc.replace(microsecond=0), usegmt=True),
        str(int(moment.timestamp())),
        moment.timestamp(),
    )
    assert [parse_timestamp(form) for form in forms] == [read_timestamp(form) for form in forms]


@pytest.mark.parametrize("text", ["", "T", "2026-13-01T00:00:00Z", "2026-05-01T25:00:00Z", "no time"])
def test_what_is_no_time_is_refused_as_botocore_refuses_it(text: str) -> None:
    """The parser of a reply makes a fault of the service of it."""
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_timestamp(text)
    with pytest.raises(ValueError, match="Invalid timestamp"):
        read_timestamp(text)


def test_a_listing_is_read_without_dateutil(aws: AwsEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than all else that is done with a listing."""
    bucket = aws.create_bucket()
    aws.s3().put_object(Bucket=bucket, Key="models/a", Body=b"1")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    listed = S3Store(s3_client(), bucket)

    def parse(*_: object, **__: object) -> None:
        pytest.fail("dateutil was asked")

    monkeypatch.setattr("dateutil.parser.parse", parse)
    assert ["models/a"] == [found.key for found in listed.list("models/")]
