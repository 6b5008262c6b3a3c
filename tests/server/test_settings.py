"""What the environment may say, and how a wrong word stops the start: 78, with key, value and wanted type."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfunc.features import MissingPolicy
from pyfunc.places import Bucket, Places
from server.errors import SettingError, UnknownSettingError
from server.settings import KNOWN, AdmissionRules, EdgeRules, Execution, RequestRules, Settings
from tests.server.running import run

PLACES = (
    "s3://my-bucket",
    "s3://my-bucket/models",
    "https://x/y",
    "file://host/x",
    "file:",
    "file:///a?b",
    "my bucket",
    "arn:aws:s3:::b",
    "file://[",
)
NO_ADDRESS = (
    "http://example.com",
    "http://127.0.0.1.example.com",
    "http://localhost@example.com",
    "issuer.example",
    "ftp://issuer.example",
    "https://",
    "https://issuer example",
    "http://[",
)
WRONG = {
    "ARTIFACTS_BUCKET": PLACES,
    "GOLD_BUCKET": PLACES,
    "MODEL_REGISTRY_TABLE": PLACES,
    "PORT": ("0", "65536", "http", "8080.0", "-1", "٣", "9" * 5000),
    "EXECUTION_MODE": ("step_functions", "STANDALONE"),
    "TAUSERVE_ALLOW_ANONYMOUS": ("true", "yes", "2"),
    "TAUSERVE_PRELOAD": ("a,", "a b", "../x", ","),
    "TAUSERVE_PIN": ("a,", "a@b", "a@" + "0" * 63, "a@" + "0" * 64 + "@", "../x"),
    "TAUSERVE_REFRESH_S": ("0", "0.001", "-1", "1e3", "10s", ".5", "nan", "100000", "1" * 500),
    "TAUSERVE_MEMORY_BYTES": ("0", "512MiB"),
    "TAUSERVE_ON_DEMAND_BYTES": ("0", "-1"),
    "TAUSERVE_CACHE_BYTES": ("0", "2GiB"),
    "TAUSERVE_MISSING_POLICY": ("mean", "IMPUTE"),
    "TAUSERVE_MAX_BODY_BYTES": ("0", "8MiB", "1e6"),
    "TAUSERVE_MAX_ROWS": ("0", "-5"),
    "TAUSERVE_MAX_TABLE_BYTES": ("0", "64MiB"),
    "TAUSERVE_MAX_TABLE_ROWS": ("0", "1e6"),
    "TAUSERVE_DEFAULT_MODEL": ("a b", "../x", "a,b"),
    "TAUSERVE_MAX_CONNECTIONS": ("0", "all", "1000000"),
    "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS": ("0", "none"),
    "TAUSERVE_HANDSHAKE_TIMEOUT_S": ("0", "5s"),
    "TAUSERVE_HEAD_TIMEOUT_S": ("0", "1.5"),
    "TAUSERVE_BODY_TIMEOUT_S": ("0", "-1"),
    "TAUSERVE_IDLE_TIMEOUT_S": ("0", "never"),
    "TAUSERVE_WRITE_TIMEOUT_S": ("0", "4000"),
    "TAUSERVE_MIN_BYTES_PER_S": ("0", "1k"),
    "TAUSERVE_MAX_HELD_BYTES": ("0", "1GiB"),
    "TAUSERVE_MAX_UNSENT_BYTES": ("0", "1GiB"),
    "TAUSERVE_MAX_IN_FLIGHT": ("0", "x"),
    "TAUSERVE_INFERENCE_THREADS": ("0", "all", "2000"),
    "TAUSERVE_MAX_WAITING": ("0", "many"),
    "TAUSERVE_MAX_WAIT_MS": ("0", "1s"),
    "TAUSERVE_REQUEST_TIMEOUT_S": ("0", "-1"),
    "TAUSERVE_PREDICTION_LOG_SHARE": ("1.01", "-0.1", "5%", "nan", "1e-3"),
    "TAUSERVE_PREDICTION_LOG_BYTES": ("0", "32MiB"),
    "TAUSERVE_PREDICTION_LOG_FLUSH_S": ("0", "1m"),
    "TAUSERVE_EMF_INTERVAL_S": ("0", "1m"),
    "TAUSERVE_EMF_NAMESPACE": ("AWS/Lambda", "a b", "x" * 256, ":x"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector:4318", "grpc://x", "http://"),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("x",),
    "TAUSERVE_DRAIN_S": ("0", "soon", "1.5"),
    "TAUSERVE_LOG_LEVEL": ("loud", "INFO"),
    "TAUSERVE_OIDC_ISSUER": NO_ADDRESS,
    "TAUSERVE_OIDC_JWKS_URL": NO_ADDRESS,
}


VERSION = "0f" * 32


def test_with_nothing_set_the_defaults_hold() -> None:
    """Loopback, port 8080, 8 MiB, 10,000 rows, everything below ./.tauserve/."""
    settings = Settings.from_environ({})
    assert Settings(Places.from_environ({})) == settings
    assert ("127.0.0.1", 8080, 8 * 2**20, 10_000, MissingPolicy.IMPUTE) == (
        settings.host,
        settings.port,
        settings.requests.max_body_bytes,
        settings.requests.max_rows,
        settings.requests.missing_policy,
    )


def test_an_empty_variable_counts_as_unset() -> None:
    """As container definitions often have them."""
    assert Settings.from_environ({}) == Settings.from_environ(dict.fromkeys((*KNOWN, *WRONG), ""))


def test_every_variable_is_read() -> None:
    """Each ends up where it belongs."""
    settings = Settings.from_environ(
        {
            "ARTIFACTS_BUCKET": "prod",
            "EXECUTION_MODE": "step-functions",
            "PIPELINE_EXECUTION_ID": "run-1",
            "EXECUTION_START_TIME": "2025-01-01T00:00:00Z",
            "PORT": "9000",
            "TAUSERVE_HOST": "::1",
            "TAUSERVE_PRELOAD": "a, b,a",
            "TAUSERVE_PIN": f"a, b@{VERSION}",
            "TAUSERVE_REFRESH_S": "2.5",
            "TAUSERVE_MEMORY_BYTES": "1000",
            "TAUSERVE_ON_DEMAND_BYTES": "100",
            "TAUSERVE_CACHE": "/var/cache/tauserve",
            "TAUSERVE_CACHE_BYTES": "10000",
            "TAUSERVE_MISSING_POLICY": "reject",
            "TAUSERVE_MAX_BODY_BYTES": "1000",
            "TAUSERVE_MAX_ROWS": "7",
            "TAUSERVE_MAX_TABLE_BYTES": "2000",
            "TAUSERVE_MAX_TABLE_ROWS": "70",
            "TAUSERVE_DEFAULT_MODEL": "a",
            "TAUSERVE_MAX_CONNECTIONS": "11",
            "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS": "12",
            "TAUSERVE_HANDSHAKE_TIMEOUT_S": "13",
            "TAUSERVE_HEAD_TIMEOUT_S": "14",
            "TAUSERVE_BODY_TIMEOUT_S": "15",
            "TAUSERVE_IDLE_TIMEOUT_S": "16",
            "TAUSERVE_WRITE_TIMEOUT_S": "17",
            "TAUSERVE_MIN_BYTES_PER_S": "18",
            "TAUSERVE_MAX_HELD_BYTES": "19",
            "TAUSERVE_MAX_UNSENT_BYTES": "21",
            "TAUSERVE_MAX_IN_FLIGHT": "20",
            "TAUSERVE_INFERENCE_THREADS": "3",
            "TAUSERVE_MAX_WAITING": "5",
            "TAUSERVE_MAX_WAIT_MS": "250",
            "TAUSERVE_REQUEST_TIMEOUT_S": "9",
            "TAUSERVE_DRAIN_S": "3",
            "TAUSERVE_LOG_LEVEL": "warning",
            "TAUSERVE_REQUIRE_CERTIFICATE": "true",
        }
    )
    assert Bucket("prod") == settings.places.artifacts
    assert Execution("step-functions", "run-1", "2025-01-01T00:00:00Z") == settings.execution
    assert ("::1", 9000, ("a", "b")) == (settings.host, settings.port, settings.loading.preload)
    assert RequestRules(MissingPolicy.REJECT, 1000, 7, 2000, 70, "a") == settings.requests
    assert EdgeRules(11, 12, 13, 14, 15, 16, 17, 18, 19, 21) == settings.edge
    assert (
        AdmissionRules(max_in_flight=20, threads=3, max_waiting=5, max_wait_ms=250, timeout_s=9)
        == settings.admission
    )
    assert (3, "warning") == (settings.drain_s, settings.log_level)


@pytest.mark.parametrize(("memory", "kept"), [(2**30, 2**27), (2**40, 2**28), (4, 1)])
def test_what_callers_may_keep_of_the_memory_follows_it(memory: int, kept: int) -> None:
    """An eighth for bodies and an eighth for answers, at most 256 MiB, unless they are set."""
    told = {"TAUSERVE_MEMORY_BYTES": str(memory)}
    edge = Settings.from_environ(told).edge
    assert (kept, kept) == (edge.max_held_bytes, edge.max_unsent_bytes)
    own = Settings.from_environ({**told, "TAUSERVE_MAX_UNSENT_BYTES": "7"}).edge
    assert (kept, 7) == (own.max_held_bytes, own.max_unsent_bytes)


def test_the_cache_is_where_a_bucket_s_files_are_not() -> None:
    """Below TAUSERVE_HOME for a bucket, none for a folder, whose files are on disk already."""
    bucket, folder = {"ARTIFACTS_BUCKET": "b"}, {"ARTIFACTS_BUCKET": "./b"}
    home, none = {"TAUSERVE_HOME": "/srv"}, {"TAUSERVE_CACHE": "none"}
    caches = [
        Settings.from_environ(environ).loading.cache
        for environ in (bucket, {**bucket, **home}, {**bucket, **none}, folder, {})
    ]
    assert [Path(".tauserve/cache"), Path("/srv/cache"), None, None, None] == caches


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_named(key: str, value: str) -> None:
    """Key, value and what is wanted."""
    with pytest.raises(SettingError) as caught:
        Settings.from_environ({key: value})
    assert (key, value) == (caught.value.key, caught.value.value)
    assert key in str(caught.value)
    assert repr(value) in str(caught.value)
    assert caught.value.wanted in str(caught.value)


def test_a_misspelt_variable_names_the_nearest() -> None:
    """It would else be ignored in silence."""
    with pytest.raises(UnknownSettingError) as caught:
        Settings.from_environ({"TAUSERVE_MAXROWS": "1"})
    assert ("TAUSERVE_MAXROWS", "TAUSERVE_MAX_ROWS") == (caught.value.key, caught.value.nearest)


def test_an_issuer_beside_the_address_of_its_keys_is_a_name() -> None:
    """It is compared with tokens and never fetched."""
    text = {"TAUSERVE_OIDC_ISSUER": "accounts.google.com", "TAUSERVE_OIDC_AUDIENCE": "tauserve"}
    with pytest.raises(SettingError):
        Settings.from_environ(text)
    settings = Settings.from_environ({**text, "TAUSERVE_OIDC_JWKS_URL": "https://example.com/keys"})
    assert "accounts.google.com" == settings.access.oidc_issuer


@pytest.mark.parametrize(
    "url", ["https://issuer.example/realm", "http://127.0.0.1:9000", "http://[::1]/x", "http://localhost:80"]
)
def test_a_provider_is_asked_by_https_or_on_loopback(url: str) -> None:
    """Its keys decide who may call."""
    settings = Settings.from_environ({"TAUSERVE_OIDC_ISSUER": url, "TAUSERVE_OIDC_AUDIENCE": "tauserve"})
    assert url == settings.access.oidc_issuer


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_word(host: str) -> None:
    """Nobody else can reach it."""
    Settings.from_environ({"TAUSERVE_HOST": host}).check_exposure()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org"])  # noqa: S104
def test_beyond_loopback_needs_the_word(host: str) -> None:
    """No credentials exist, so openness must be meant."""
    with pytest.raises(SettingError, match="TAUSERVE_ALLOW_ANONYMOUS=1"):
        Settings.from_environ({"TAUSERVE_HOST": host}).check_exposure()
    Settings.from_environ({"TAUSERVE_HOST": host, "TAUSERVE_ALLOW_ANONYMOUS": "1"}).check_exposure()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PORT", "http"),
        ("TAUSERVE_HOST", "0.0.0.0"),  # noqa: S104 - refused
        ("TAUSERVE_MAXROWS", "1"),
        ("TAUSERVE_HOST", "no.invalid"),
        ("TAUSERVE_OIDC_ISSUER", "http://example.com"),
    ],  # noqa: S104
)
def test_the_process_stops_with_78(tmp_path: Path, key: str, value: str) -> None:
    """And says so in a sentence, without a trace."""
    done = run(tmp_path, **{key: value})
    assert (78, "") == (done.returncode, done.stdout)
    assert key in done.stderr
    assert value in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_stops_with_78(tmp_path: Path) -> None:
    """Like any other wrong configuration."""
    assert 78 == run(tmp_path, "chekc").returncode
