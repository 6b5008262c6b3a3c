"""Rows as strangers write them, over the wire: each a reason in the quarantine, and nobody else is asked."""

from __future__ import annotations

from typing import Any

import botocore.httpsession
import pytest

from registry_sync.sync import SyncResult
from tests.aws import AwsEndpoint
from tests.registry_sync.answering import answering
from tests.registry_sync.source_conformance import item
from tests.registry_sync.wired import Wired

PATH = "models/good-1/hybrid_causal_model.pkl"


def rows(foreign: str) -> dict[str, tuple[dict[str, Any], str]]:
    """One row a model, and the reason it has to give; `foreign` is a service that nobody may ask."""
    good = {"model_path": PATH}
    return {
        "no-path": ({"model_path": ""}, "attribute_missing"),
        "no-status": ({**good, "status": None}, "attribute_missing"),
        "number-as-version": ({**good, "model_version": 7}, "attribute_type"),
        "set-as-name": ({**good, "model_name": {"a", "b"}}, "attribute_type"),
        "map-as-path": ({"model_path": {"s3": "bucket"}}, "attribute_type"),
        "bytes-as-version": ({**good, "model_version": b"7"}, "attribute_type"),
        "text-as-ttl": ({**good, "ttl": "soon"}, "attribute_type"),
        "unknown-status": ({**good, "status": "redy"}, "status_unknown"),
        "future": ({**good, "created_at": "2099-01-01T00:00:00Z"}, "created_at_future"),
        "no-date": ({**good, "created_at": "yesterday"}, "created_at_invalid"),
        "../escape": (good, "model_id_invalid"),
        "other-bucket": ({"model_path": f"s3://somebody-elses/{PATH}"}, "model_path_foreign"),
        "file": ({"model_path": "file:///etc/passwd"}, "model_path_foreign"),
        "link-local": ({"model_path": "http://169.254.169.254/latest/meta-data/"}, "model_path_foreign"),
        "http": ({"model_path": f"{foreign}/bundle.pkl"}, "model_path_foreign"),
        "up": ({"model_path": "models/../../bundle.pkl"}, "model_path_invalid"),
        "absolute": ({"model_path": "/etc/passwd"}, "model_path_invalid"),
        "gone": ({"model_path": "models/none.pkl"}, "bundle_missing"),
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address this process sends a request to."""
    urls: list[str] = []
    send = botocore.httpsession.URLLib3Session.send

    def noting(session: Any, request: Any) -> Any:
        urls.append(request.url)
        return send(session, request)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", noting)
    return urls


def test_strangers_rows_are_quarantined_and_nobody_else_is_asked(aws: AwsEndpoint, asked: list[str]) -> None:
    """A row for each thing that can be wrong with one, between two that are good."""
    wired = Wired(aws)
    wired.add("good", 1, b"good")
    with answering(lambda _: (200, "")) as (foreign, foreign_asked):
        wanted = {}
        for model_id, (attributes, code) in rows(foreign).items():
            row = {**item(model_id), **attributes}
            wired.put({name: value for name, value in row.items() if value is not None})
            wanted[model_id] = code
        wired.put({**item("large", model_path=PATH), "notes": "x" * 390 * 1024})
        asked.clear()
        _, result = wired.sync()
    assert isinstance(result, SyncResult)
    reasons = {state.model_id: state.reason.code for state in result.index.rows if state.reason}
    assert wanted == reasons
    assert {"good": b"good", "large": b"good"} == wired.served()
    assert [] == foreign_asked
    allowed = (f"{aws.url}/{wired.bucket}", f"{aws.url}/{wired.bucket}?")
    assert [] == [url for url in asked if url != f"{aws.url}/" and not url.startswith(allowed)]


def test_rows_past_their_time_and_doubled_rows(aws: AwsEndpoint) -> None:
    """One that has expired counts as absent; two of one instant are both quarantined."""
    wired = Wired(aws)
    wired.add("good", 1, b"good")
    wired.put(item("expired", model_path=PATH, ttl=1))
    wired.put(item("twice", "2026-05-01T00:00:00", model_path=PATH))
    wired.put(item("twice", "2026-05-01T02:00:00+02:00", model_path=PATH))
    _, result = wired.sync()
    assert isinstance(result, SyncResult)
    assert {"good": b"good"} == wired.served()
    listed = [(state.model_id, state.reason and state.reason.code) for state in result.index.rows]
    assert [("good", None), ("twice", "created_at_doubled"), ("twice", "created_at_doubled")] == listed
