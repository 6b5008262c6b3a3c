"""What a row may say, and what sends it into quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_sync.rows import RegistryRow, RowFault, parse_instant, parse_row
from tests.registry_sync.source_conformance import NOW, item


def _fault(changes: Mapping[str, object], bucket: str | None = "artifacts") -> str | None:
    """Code of the reason for which the changed row is refused; None if it is not."""
    row = {name: value for name, value in {**item(), **changes}.items() if value is not ...}
    parsed = parse_row(row, bucket=bucket, now=NOW)
    return parsed.reason.code if isinstance(parsed, RowFault) else None


@pytest.mark.parametrize("model_id", ["a", "A9._-", "0", "macro.rate-shock_v2", "x" * 128, "a..b"])
def test_good_model_ids(model_id: str) -> None:
    """Letters, digits, dot, underscore, hyphen; a letter or digit first; up to 128."""
    assert _fault({"model_id": model_id}) is None


@pytest.mark.parametrize(
    "model_id",
    [".", "..", ".a", "-a", "_a", "a/b", "a\\b", "a b", "a%2e", "é", "a\n", "x" * 129, "a@b", "\u202ea"],
)
def test_bad_model_ids(model_id: str) -> None:
    """Everything that could be a path, an option or a disguise."""
    assert "model_id_invalid" == _fault({"model_id": model_id})


@pytest.mark.parametrize("name", ["model_id", "created_at", "status", "model_path"])
def test_missing_attributes(name: str) -> None:
    """A ready row without one of these makes no version."""
    assert "attribute_missing" == _fault({name: ...})
    assert "attribute_missing" == _fault({name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_name", Decimal(1)),
        ("model_version", 3),
        ("execution_id", ["run"]),
        ("model_path", True),
        ("status", Decimal(1)),
        ("model_version", "\ud800"),
        ("treatment_names", ["\ud800"]),
        ("ttl", "soon"),
        ("ttl", True),
        ("ttl", Decimal(-1)),
        ("ttl", Decimal("Infinity")),
        ("treatment_names", "one"),
        ("treatment_names", ["one", 2]),
        ("outcome_names", [""]),
        ("bundle_sha256", "ABC"),
        ("bundle_size", "12"),
        ("bundle_size", Decimal("560694.9")),
        ("bundle_size", 560694.9),
        ("ttl", Decimal("1E-100")),
        ("ttl", 1e-100),
    ],
)
def test_wrong_types(name: str, value: object) -> None:
    """A value of another type is named, never guessed at."""
    assert "attribute_type" == _fault({name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("bundle_sha256", "ABC", "the text 'ABC'"),
        ("bundle_size", "12", "the text '12'"),
        ("bundle_size", Decimal(-1), "the number -1"),
        ("model_version", 7, "the number 7"),
        ("model_name", None, "null"),
        ("model_path", True, "true"),
        ("treatment_names", ["one", 2], """the list ["one", 2]"""),
        ("model_path", {"M": {"s3": {"S": "bucket"}}}, """the object {"M": {"s3": {"S": "bucket"}}}"""),
        ("treatment_names", "x" * 1000, "the text 'xxx"),
    ],
)
def test_what_was_found_is_shown_in_jsons_words(name: str, value: object, words: str) -> None:
    """Shortened."""
    parsed = parse_row({**item(), name: value}, bucket="artifacts", now=NOW)
    assert isinstance(parsed, RowFault)
    assert f"found {words}" in parsed.reason.message
    assert len(parsed.reason.message) < 300


@pytest.mark.parametrize("number", [7, 7.0, Decimal(7), Decimal("7.0"), Decimal("7E0")])
def test_a_whole_number_is_one_in_either_registry(number: object) -> None:
    """However it is written."""
    parsed = parse_row(item(bundle_size=number), bucket="artifacts", now=NOW)
    assert isinstance(parsed, RegistryRow)
    assert 7 == parsed.bundle_size


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("model_name", "x" * 256, "x" * 257),
        ("model_version", "x" * 256, "x" * 257),
        ("execution_id", "x" * 1024, "x" * 1025),
        ("model_name", "τ, 2nd model", "two\nlines"),
        ("model_version", "1.2", "1\x002"),
        ("treatment_names", ["x" * 256], ["x" * 257]),
        ("treatment_names", ["rate shock"], ["rate\nshock"]),
        ("outcome_names", ["S&P 500"], ["\x1b[2J"]),
        ("outcome_names", ["x"] * 1024, ["x"] * 1025),
    ],
)
def test_names_are_of_one_line_and_of_bounded_length(name: str, good: object, bad: object) -> None:
    """They stand in the index, in every listing and in metrics."""
    assert (None, "attribute_invalid") == (_fault({name: good}), _fault({name: bad}))


def test_what_serves_nothing_is_cut_and_not_refused() -> None:
    """A retired row withdraws whatever else it holds, and takes no more room than another."""
    for changes in ({"status": "retired"}, {"status": "x" * 400_000}):
        parsed = parse_row({**item(model_name="x" * 400_000), **changes}, bucket="artifacts", now=NOW)
        assert (isinstance(parsed, RegistryRow), 2048) == (
            changes["status"] == "retired",
            len(parsed.model_name),
        )
        assert len(parsed.status) <= 2048


@pytest.mark.parametrize(
    "created_at", ["2026-05-01\x0000:00:00", "2026-05-01τ00:00:00", "2026-05-01\n00:00:00"]
)
def test_an_instant_is_written_in_printable_ascii(created_at: str) -> None:
    """Python itself takes any character between date and time."""
    assert "created_at_invalid" == _fault({"created_at": created_at})


@pytest.mark.parametrize(
    "path",
    [
        "mlflow/index.json",
        "mlflow/m/v/MLmodel",
        "sync-reports/x.json",
        "mlflow",
        "s3://artifacts/mlflow/b.pkl",
    ],
)
def test_what_the_sync_writes_is_no_bundle(path: str) -> None:
    """It would be another one at every run."""
    assert "model_path_invalid" == _fault({"model_path": path})


def test_a_key_has_at_most_as_many_bytes_as_s3_allows() -> None:
    """And names beside the sync's own are good."""
    assert (None, "model_path_invalid") == (
        _fault({"model_path": "mlflow2/" + "x" * 1016}),
        _fault({"model_path": "é" * 513}),
    )


@pytest.mark.parametrize("created_at", ["2099-01-01T00:00:00", "2026-06-02T00:00:01+00:00", "9999-12-31"])
def test_instants_far_ahead(created_at: str) -> None:
    """Such a row would be current until then, whatever is trained meanwhile."""
    assert "created_at_future" == _fault({"created_at": created_at})


@pytest.mark.parametrize("created_at", ["2026-06-01T14:00:00", "2026-06-02T00:00:00+00:00"])
def test_clocks_and_time_zones_may_be_off_by_a_day(created_at: str) -> None:
    """A trainer's local time without its offset is no reason to hold a model back."""
    assert _fault({"created_at": created_at}) is None


@pytest.mark.parametrize("status", ["raedy", "Ready", "READY ", "published", "1"])
def test_unknown_statuses(status: str) -> None:
    """A misspelt `ready` would otherwise never be missed."""
    assert "status_unknown" == _fault({"status": status})


def test_statuses_of_the_pipeline_are_named_by_it() -> None:
    """Those are listed; nothing else about such a row need be right."""
    row = {**item(), "status": "shadow", "model_path": None}
    parsed = parse_row(row, bucket=None, now=NOW, statuses={"shadow"})
    assert isinstance(parsed, RegistryRow)


def test_optional_attributes_may_be_missing() -> None:
    """Name, version, execution and all that was added later."""
    missing: dict[str, object] = {"ttl": None, "treatment_names": [], "model_name": ..., "model_version": ...}
    assert _fault({**missing, "execution_id": ...}) is None


@pytest.mark.parametrize(
    ("bucket", "path", "key"),
    [
        ("artifacts", "s3://artifacts/models/run/b.pkl", "models/run/b.pkl"),
        ("artifacts", "models/run/b.pkl", "models/run/b.pkl"),
        (None, "models/run/b.pkl", "models/run/b.pkl"),
        ("artifacts", "models/2026-05-01T00:00:00/b.pkl", "models/2026-05-01T00:00:00/b.pkl"),
        ("artifacts", "b.pkl", "b.pkl"),
    ],
)
def test_good_paths(bucket: str | None, path: str, key: str) -> None:
    """The artifacts bucket's own URL, or a bare key."""
    parsed = parse_row(item(model_path=path), bucket=bucket, now=NOW)
    assert isinstance(parsed, RegistryRow)
    assert key == parsed.bundle_key


@pytest.mark.parametrize(
    ("bucket", "path", "code"),
    [
        ("artifacts", "s3://other/models/b.pkl", "model_path_foreign"),
        ("artifacts", "s3:///models/b.pkl", "model_path_foreign"),
        ("artifacts", "s3://artifacts@other/b.pkl", "model_path_foreign"),
        (None, "s3://artifacts/models/b.pkl", "model_path_foreign"),
        ("artifacts", "S3://artifacts/b.pkl", "model_path_foreign"),
        ("artifacts", "s3:artifacts/b.pkl", "model_path_foreign"),
        ("artifacts", "file:///etc/passwd", "model_path_foreign"),
        ("artifacts", "http://169.254.169.254/latest/meta-data", "model_path_foreign"),
        ("artifacts", "/etc/passwd", "model_path_invalid"),
        (None, "/etc/passwd", "model_path_invalid"),
        (None, "../secret", "model_path_invalid"),
        ("artifacts", "s3://artifacts/models/../../x", "model_path_invalid"),
        ("artifacts", "s3://artifacts//x", "model_path_invalid"),
        ("artifacts", "s3://artifacts/", "model_path_foreign"),
        ("artifacts", "models/./x", "model_path_invalid"),
        ("artifacts", "models/", "model_path_invalid"),
        ("artifacts", "models/a\0b", "model_path_invalid"),
        ("artifacts", "models\\x", "model_path_invalid"),
    ],
)
def test_bad_paths(bucket: str | None, path: str, code: str) -> None:
    """Any other bucket, scheme or absolute path, and everything with a way up."""
    assert code == _fault({"model_path": path}, bucket)


def test_a_row_that_is_not_ready_needs_no_path() -> None:
    """A model still in training has none, and a retired row withdraws whatever else it holds."""
    assert _fault({"status": "training", "model_path": ..., "model_name": 3}) is None
    assert _fault({"status": "retired", "model_path": "http://elsewhere/", "ttl": "never"}) is None


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-05-01T12:00:00", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00Z", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T14:00:00+02:00", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01 12:00:00.25", datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("20260501T120000Z", datetime(2026, 5, 1, 12, tzinfo=UTC)),
    ],
)
def test_instants(text: str, instant: datetime) -> None:
    """ISO 8601 in its forms; without offset it is UTC."""
    assert instant == parse_instant(text)


@pytest.mark.parametrize(
    "text",
    ["yesterday", "1714521600", "2026-13-01", "2026-05-01T25:00", "0001-01-01T00:00:00+12:00", "٢٠٢٦-05-01"],
)
def test_no_instants(text: str) -> None:
    """What is no timestamp is quarantined, also one that does not exist in UTC."""
    assert "created_at_invalid" == _fault({"created_at": text})


def test_time_to_live() -> None:
    """A row counts as absent from the second of its ttl on."""
    row = parse_row(item(ttl=Decimal(1_000)), bucket="artifacts", now=NOW)
    assert isinstance(row, RegistryRow)
    assert [False, True, True] == [row.expired(datetime.fromtimestamp(t, UTC)) for t in (999.9, 1_000, 1_001)]


_TEXTS = st.text(st.characters(codec=None), max_size=8)
_SCALARS = st.none() | st.booleans() | st.integers() | st.decimals() | _TEXTS | st.binary(max_size=4)
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXTS, _SCALARS, max_size=2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(item(ttl=1, treatment_names=[]))), _VALUES))
def test_no_item_crashes_the_reader(changes: dict[str, object]) -> None:
    """Whatever stands in a row, it is a row or a fault with its reason."""
    parsed = parse_row({**item(), **changes}, bucket="artifacts", now=NOW)
    assert isinstance(parsed, RegistryRow) or parsed.reason.message
    assert all(text.encode() is not None for text in (*parsed.key, parsed.status, parsed.model_name))
