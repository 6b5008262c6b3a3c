"""The server as it ships, closed: who gets in, to what, how often, and what is written down of it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from server.access.keys import KeyText, make_key
from server.openapi.security import schemes_of
from server.settings import AccessRules
from tests.access.certificates import issued, write_both, write_certificate
from tests.access.provider import AUDIENCE, provider
from tests.aws import AwsEndpoint, run_stand_in
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder, convert
from tests.server.running import Running, run, serving, wait_for_line
from tests.server.wire import exchange

ALL_KEY, ALL_KEPT = make_key("allmodels")
ONE_KEY, ONE_KEPT = make_key("onemodel")
SLOW_KEY, SLOW_KEPT = make_key("slowly")
THIRD_KEY, THIRD_KEPT = make_key("threeamin")
STALE_KEY, STALE_KEPT = make_key("stale")
PATIENCE_S = 60.0


def entry(kept: KeyText, **more: object) -> dict[str, Any]:
    """A key as the document has it."""
    return {"id": kept.key_id, "sha256": kept.sha256, **more}


def client(
    name: str, *keys: dict[str, Any], models: tuple[str, ...] = ("*",), **more: object
) -> dict[str, Any]:
    """A client as the document has it."""
    return {"name": name, "models": list(models), "keys": list(keys), **more}


def clients(*entries: dict[str, Any]) -> str:
    """A document."""
    return json.dumps({"clients": list(entries)})


DOCUMENT = clients(
    client("everything", entry(ALL_KEPT)),
    client("one", entry(ONE_KEPT), models=("rates",)),
    client("slow", entry(SLOW_KEPT), requests_per_minute=3),
    client("three", entry(THIRD_KEPT), requests_per_minute=3),
    client("stale", entry(STALE_KEPT, expires="2026-01-01T00:00:00Z")),
)


def bearer(key: str) -> dict[str, str]:
    """The header that carries a credential."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> MirrorFolder:
    """The models `rates` and `other`."""
    base = tmp_path_factory.mktemp("closed")
    found = MirrorFolder(base / "mirror")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MLFLOW_TRACKING_URI", str(base / "mlruns"))
        artifact = convert(FOREST, base / "artifact")
    for model_id in ("rates", "other"):
        found.publish(model_id, artifact)
    found.write_index()
    return found


@pytest.fixture(scope="module")
def closed(mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Over those, with the keys above."""
    log = tmp_path_factory.mktemp("closed-log") / "log"
    with serving(mirror.root, log, wait_for="/live", TAUSERVE_KEYS=DOCUMENT) as server:
        until(lambda: 200 == server.client.get("/ready", headers=bearer(ALL_KEY)).status_code)
        yield server


def until(happened: Any) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_every_path_is_closed_but_two(closed: Running) -> None:
    """All that OpenAPI lists, and what nobody lists; without a key, whatever the method."""
    listed = closed.client.get("/openapi.json", headers=bearer(ALL_KEY)).json()["paths"]
    paths = {path.replace("{model_id}", "rates") for path in listed} | {
        "/openapi.json",
        "/docs",
        "/",
        "/nowhere",
    }
    assert {"/health", "/live", "/ready", "/models", "/metrics", "/predict/rates"} <= paths
    found = {
        path: {closed.client.request(method, path).status_code for method in ("GET", "POST", "PUT")}
        for path in paths - {"/health", "/live"}
    }
    # 429 is what comes after the twentieth wrong try of a minute.
    assert {} == {path: codes for path, codes in found.items() if not codes <= {401, 429}}
    assert [200, 200] == [closed.client.get(path).status_code for path in ("/health", "/live")]


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://live/models HTTP/1.1\r\nHost: live",
        b"GET http://x/live/../models HTTP/1.1\r\nHost: x",
        b"GET /models?/live HTTP/1.1\r\nHost: x",
        b"GET /live/../models HTTP/1.1\r\nHost: x",
        b"GET /live%2f..%2fmodels HTTP/1.1\r\nHost: x",
        b"GET //live HTTP/1.1\r\nHost: x",
        b"GET /models;/live HTTP/1.1\r\nHost: x",
        b"GET /models HTTP/1.1\r\nHost: x/live?",
        b"GET /models HTTP/1.1\r\nHost: x#/live",
        b"GET /models HTTP/1.1\r\nHost: live@x",
        b"GET /models HTTP/1.1\r\nHost: x\r\nX-Original-URL: /live\r\nX-Rewrite-URL: /live",
        b"GET /models HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Prefix: /live",
    ],
)
def test_no_way_to_name_a_closed_path_opens_it(closed: Running, head: bytes) -> None:
    """What is refused is refused however it is dressed up, as raw bytes."""
    (reply,) = exchange(closed.port, head + b"\r\nConnection: close\r\n\r\n")
    assert reply.status in {400, 401, 429}
    assert reply.error["code"] in {"malformed_request", "unauthenticated", "too_many_requests"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ALL_KEY},
        {"Authorization": f"Basic {ALL_KEY}"},
        bearer(make_key("allmodels")[0]),
        bearer(make_key("nobody")[0]),
        bearer(STALE_KEY),
        bearer(ALL_KEY[:-1]),
        bearer(ALL_KEY + "x"),
        {"X-Api-Key": ALL_KEY},
        {"Host": "live", "X-Forwarded-For": "127.0.0.1", "X-Original-Url": "/live"},
    ],
    ids=["none", "bare", "basic", "secret", "id", "expired", "cut", "longer", "header", "spoofed"],
)
def test_what_is_no_good_credential(closed: Running, headers: dict[str, str]) -> None:
    """401 with the challenge, or 429 once an address has tried too often; never a word on which it was."""
    reply = closed.client.get("/models", headers=headers)
    assert reply.status_code in {401, 429}
    assert reply.json()["error"]["code"] in {"unauthenticated", "too_many_requests"}
    if reply.status_code == httpx.codes.UNAUTHORIZED:
        assert "Bearer" == reply.headers["WWW-Authenticate"]


def test_a_key_in_the_address_is_none(closed: Running) -> None:
    """And the log does not repeat it."""
    reply = closed.client.get(f"/models?api_key={ALL_KEY}&key={ALL_KEY}")
    assert reply.status_code in {401, 429}
    until(lambda: reply.headers["X-Request-Id"] in closed.log.read_text())
    assert ALL_KEY not in closed.log.read_text()


def test_two_credentials_contradict_each_other(closed: Running) -> None:
    """Whichever comes first."""
    headers = [("Authorization", f"Bearer {ALL_KEY}"), ("Authorization", f"Bearer {ONE_KEY}")]
    assert closed.client.get("/models", headers=headers).status_code in {401, 429}


def test_a_key_asks_the_models_of_its_scope(closed: Running) -> None:
    """403 beyond it, whether there is such a model or not; the list shows its own alone."""
    record = expected(FOREST).records()[0]

    def status(key: str, method: str, path: str) -> int:
        body = record if method == "POST" else None
        return closed.client.request(method, path, headers=bearer(key), json=body).status_code

    for method, path in (("POST", "/predict/{}"), ("GET", "/models/{}/info")):
        assert 200 == status(ONE_KEY, method, path.format("rates"))
        for model in ("other", "nobody", f"other@{'0' * 64}"):
            assert 403 == status(ONE_KEY, method, path.format(model))
        assert 200 == status(ALL_KEY, method, path.format("other"))
    for path in ("/v2/models/{}", "/v2/models/{}/ready"):
        found = [status(ONE_KEY, "GET", path.format(model)) for model in ("rates", "other", "nobody")]
        assert [200, 403, 403] == found
    for path in ("/models/{}/invocations", "/v2/models/{}/infer"):
        assert 403 == status(ONE_KEY, "POST", path.format("other"))
    rows = closed.client.get("/models", headers=bearer(ONE_KEY)).json()
    assert (["rates"], 1) == ([row["model_id"] for row in rows["models"]], rows["count"])


def test_a_scraper_sees_the_series_of_its_scope(closed: Running) -> None:
    """Another model's effects are its own callers' matter; what names no model is everybody's."""
    for model in ("rates", "other"):
        asked = closed.client.post(
            f"/predict/{model}", json=expected(FOREST).records(), headers=bearer(ALL_KEY)
        )
        assert 200 == asked.status_code

    def models(key: str) -> set[str | None]:
        page = closed.client.get("/metrics", headers=bearer(key)).text
        families = text_string_to_metric_families(page)
        return {sample.labels.get("model_id") for family in families for sample in family.samples}

    assert ({None, "rates"}, {None, "rates", "other"}) == (models(ONE_KEY), models(ALL_KEY))


def test_a_path_without_a_model_means_the_one_of_the_scope(closed: Running) -> None:
    """Another model is not even counted; who may ask several has to say which."""
    found = {
        key: closed.client.post(
            "/invocations", json={"dataframe_records": expected(FOREST).records()}, headers=bearer(key)
        )
        for key in (ONE_KEY, ALL_KEY)
    }
    assert (200, 404) == (found[ONE_KEY].status_code, found[ALL_KEY].status_code)
    assert "found 2" in found[ALL_KEY].json()["error"]["message"]


def test_many_records_are_checked_as_few_are(closed: Running) -> None:
    """The framework's route follows the same rule as the fast path."""
    records = expected(FOREST).records() * 5
    found = [
        closed.client.post(f"/predict/{model}", json=records, headers=bearer(ONE_KEY)).status_code
        for model in ("rates", "other")
    ]
    assert [200, 403] == found


def test_an_allowance_is_used_up(closed: Running) -> None:
    """429 with the time to come back; other keys do not notice."""
    found = [closed.client.get("/models", headers=bearer(SLOW_KEY)) for _ in range(5)]
    assert [200, 200, 200, 429, 429] == [reply.status_code for reply in found]
    assert 1 <= int(found[-1].headers["Retry-After"]) <= 20
    assert 200 == closed.client.get("/models", headers=bearer(ALL_KEY)).status_code


def test_a_request_uses_an_allowance_once(closed: Running) -> None:
    """Whichever way it is answered: the short one, the application's, or from the one to the other."""
    records, plain = expected(FOREST).records(), {"Content-Type": "application/json"}
    other = {"Content-Type": 'application/json; charset="utf-8"'}
    bodies = [records[:1], records[:1], [{next(iter(records[0])): 1.0}] * 9]
    found = [
        closed.client.post("/predict/rates", content=json.dumps(body), headers={**kind, **bearer(THIRD_KEY)})
        for body, kind in zip([*bodies, records[:1]], [plain, other, plain, plain], strict=True)
    ]
    assert [200, 200, 200, 429] == [reply.status_code for reply in found]


def test_wrong_keys_without_end(closed: Running) -> None:
    """After twenty a minute the address is told to wait, whatever it says it is; a good key gets in."""
    found = [
        closed.client.get(
            "/models", headers={**bearer(make_key("wrong")[0]), "X-Forwarded-For": f"192.0.2.{number % 250}"}
        ).status_code
        for number in range(300)
    ]
    assert 429 == found[-1]
    assert 20 >= found.count(401)
    assert 200 == closed.client.get("/models", headers=bearer(ALL_KEY)).status_code
    assert 200 == closed.client.get("/health").status_code


def test_the_log_says_who(closed: Running) -> None:
    """One line a request with the client's name and the key's id; no key, no input."""
    reply = closed.client.post("/predict/rates", json=expected(FOREST).records()[0], headers=bearer(ONE_KEY))
    until(lambda: reply.headers["X-Request-Id"] in closed.log.read_text())
    lines = [
        json.loads(line)
        for line in closed.log.read_text().splitlines()
        if reply.headers["X-Request-Id"] in line
    ]
    assert [("one", "onemodel", "rates")] == [
        (line["caller"], line["credential"], line["model_id"]) for line in lines
    ]
    refused = closed.client.get("/models/other/info", headers=bearer(ONE_KEY))
    line = wait_for_line(closed, refused.headers["X-Request-Id"])
    assert ("one", "onemodel", 403) == (line["caller"], line["credential"], line["status"])
    refused = closed.client.post("/predict/other", json={}, headers=bearer(ONE_KEY))
    line = wait_for_line(closed, refused.headers["X-Request-Id"])
    assert (403, "/predict/{model_id}", "other") == (line["status"], line["route"], line["model_id"])
    assert ONE_KEY not in closed.log.read_text()
    assert expected(FOREST).columns[0] not in json.dumps(lines)


def test_keys_change_without_a_restart(mirror: MirrorFolder, tmp_path: Path) -> None:
    """A new key beside the old, the old one gone, a broken file that changes nothing."""
    file, old, new = tmp_path / "keys.json", make_key("old1"), make_key("new1")
    file.write_text(clients(client("desk", entry(old[1]))))
    extra = {"TAUSERVE_KEYS_FILE": str(file), "TAUSERVE_CREDENTIALS_REFRESH_S": "1"}
    with serving(mirror.root, tmp_path / "log", wait_for="/live", **extra) as server:

        def let_in(text: str) -> bool:
            return 200 == server.client.get("/metrics", headers=bearer(text)).status_code

        assert (True, False) == (let_in(old[0]), let_in(new[0]))
        file.write_text(clients(client("desk", entry(old[1]), entry(new[1]))))
        until(lambda: let_in(new[0]))
        assert let_in(old[0])
        file.write_text("{broken")
        until(lambda: "credentials.kept" in server.log.read_text())
        assert let_in(new[0])
        file.write_text(clients(client("desk", entry(new[1]))))
        until(lambda: not let_in(old[0]))
        assert let_in(new[0])


@pytest.mark.slow
def test_keys_from_secrets_manager(mirror: MirrorFolder, tmp_path: Path) -> None:
    """Read at the start and again; an outage keeps what is known."""
    old, new = make_key("old1"), make_key("new1")
    with run_stand_in("ministack", tmp_path) as aws:
        secrets = secrets_of(aws)
        secrets.create_secret(Name="tauserve/keys", SecretString=clients(client("desk", entry(old[1]))))
        extra = {
            **aws.environ,
            "TAUSERVE_KEYS_SECRET": "tauserve/keys",
            "TAUSERVE_CREDENTIALS_REFRESH_S": "1",
        }
        with serving(mirror.root, tmp_path / "server-log", wait_for="/live", **extra) as server:

            def let_in(text: str) -> bool:
                return 200 == server.client.get("/metrics", headers=bearer(text)).status_code

            assert (True, False) == (let_in(old[0]), let_in(new[0]))
            secrets.put_secret_value(
                SecretId="tauserve/keys", SecretString=clients(client("desk", entry(new[1])))
            )
            until(lambda: let_in(new[0]))
            secrets.delete_secret(SecretId="tauserve/keys", ForceDeleteWithoutRecovery=True)
            until(lambda: "credentials.kept" in server.log.read_text())
            assert (False, True) == (let_in(old[0]), let_in(new[0]))


def secrets_of(aws: AwsEndpoint) -> Any:
    """A client of the test's own: the back door."""
    import boto3  # noqa: PLC0415 - of this test alone

    return boto3.client(
        "secretsmanager",
        endpoint_url=aws.url,
        region_name=aws.environ["AWS_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - a stand-in's
    )


def test_tokens_of_a_provider(mirror: MirrorFolder, tmp_path: Path) -> None:
    """Beside the keys; the scope names the models."""
    with provider() as issuer:
        extra = {
            "TAUSERVE_OIDC_ISSUER": issuer.url,
            "TAUSERVE_OIDC_AUDIENCE": AUDIENCE,
            "TAUSERVE_KEYS": DOCUMENT,
        }
        with serving(mirror.root, tmp_path / "log", wait_for="/live", **extra) as server:
            good, narrow = issuer.token(), issuer.token(scope="tauserve:rates")
            until(lambda: 200 == server.client.get("/ready", headers=bearer(good)).status_code)

            def status(text: str, model: str) -> int:
                return server.client.get(f"/models/{model}/info", headers=bearer(text)).status_code

            assert (200, 200, 403) == (
                status(good, "other"),
                status(narrow, "rates"),
                status(narrow, "other"),
            )
            assert (200, 401) == (status(ALL_KEY, "other"), status(issuer.token(aud="another"), "rates"))


def test_the_document_says_who_may_call(mirror: MirrorFolder, tmp_path: Path) -> None:
    """A credential for all but two paths, and the refusals that each path in fact gives."""
    # A server of its own: so many wrong tries would make the others' callers wait.
    with serving(mirror.root, tmp_path / "log", wait_for="/live", TAUSERVE_KEYS=DOCUMENT) as closed:
        until(lambda: 200 == closed.client.get("/ready", headers=bearer(ALL_KEY)).status_code)
        check_document(closed)


def check_document(closed: Running) -> None:
    """Ask every operation without a credential, and for a model out of its scope."""
    document = closed.client.get("/openapi.json", headers=bearer(ONE_KEY)).json()
    assert {"api_key": "bearer"} == {
        name: scheme["scheme"] for name, scheme in document["components"]["securitySchemes"].items()
    }
    assert {"/predict/rates", "/predict/{model_id}", "/v2", "/metrics"} <= set(document["paths"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            asked = path.format(model_id="other", version="0" * 64)
            statuses = {
                closed.client.request(method, asked, headers=headers).status_code
                for headers in ({}, bearer(ONE_KEY))
            }
            if path in {"/health", "/live"}:
                assert [] == operation["security"]
                assert {200} == statuses
                continue
            assert [{"api_key": []}] == operation["security"]
            assert {"401", "429"} <= set(operation["responses"]), path
            assert statuses & {401, 429}, path
            assert {str(status) for status in statuses & {401, 403, 429}} <= set(operation["responses"]), path
            if path != "/invocations" and "rates" not in path:
                assert ("403" in operation["responses"]) == (403 in statuses), path


def test_the_document_names_the_credentials_that_are_configured(mirror: MirrorFolder, tmp_path: Path) -> None:
    """Keys, tokens, or nothing at all."""
    rules = AccessRules(keys_file="keys.json", oidc_issuer="https://issuer.example")
    schemes = schemes_of(rules)
    assert ("JWT", ["api_key", "token"]) == (schemes["token"]["bearerFormat"], sorted(schemes))
    with serving(mirror.root, tmp_path / "log") as server:
        document = server.client.get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert [] == [
        operation
        for operation in operations
        if "security" in operation or {"401", "403", "429"} & set(operation["responses"])
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TAUSERVE_KEYS": "{"}, "expected JSON"),
        ({"TAUSERVE_KEYS_FILE": "/nowhere/keys.json"}, "/nowhere/keys.json"),
        ({"TAUSERVE_KEYS": "{}", "TAUSERVE_KEYS_FILE": "/nowhere"}, "since TAUSERVE_KEYS is set"),
        ({"TAUSERVE_OIDC_ISSUER": "https://issuer.example"}, "TAUSERVE_OIDC_AUDIENCE"),
        ({"TAUSERVE_TLS_CERT": "/nowhere/cert.pem"}, "TAUSERVE_TLS_KEY"),
        ({"TAUSERVE_TLS_CERT": "/nowhere/cert.pem", "TAUSERVE_TLS_KEY": "/nowhere/key.pem"}, "a certificate"),
        ({"TAUSERVE_HOST": "0.0.0.0"}, "TAUSERVE_KEYS_FILE"),  # noqa: S104 - it must not come to that
    ],
)
def test_credentials_that_cannot_work_stop_the_start(
    mirror: MirrorFolder, settings: dict[str, str], message: str
) -> None:
    """78, or 75 for what may come; what is wrong, without repeating a secret."""
    done = run(mirror.root, **settings)
    assert done.returncode in {75, 78}
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_is_renewed_without_a_restart(mirror: MirrorFolder, tmp_path: Path) -> None:
    """New connections get the new one; half of a renewal changes nothing; old protocols get nothing."""
    authority = trustme.CA()
    first, second = issued(authority, 2, 3)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_both(cert, key, first)
    extra = {
        "TAUSERVE_TLS_CERT": str(cert),
        "TAUSERVE_TLS_KEY": str(key),
        "TAUSERVE_CREDENTIALS_REFRESH_S": "1",
    }
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(mirror.root, tmp_path / "log", wait_for="", **extra) as server:
        url = f"https://127.0.0.1:{server.port}/live"

        def served() -> int:
            with httpx.Client(verify=trusting, trust_env=False) as caller, caller.stream("GET", url) as reply:
                stream = reply.extensions["network_stream"]
                found = stream.get_extra_info("ssl_object").getpeercert()
                return ssl.cert_time_to_seconds(found["notAfter"])

        until(lambda: listens(served))
        before = served()
        write_certificate(cert, second)
        until(lambda: "certificate.kept" in server.log.read_text())
        assert before == served()
        write_both(cert, key, second)
        until(lambda: before != served())
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)  # nobody it trusts
        with pytest.raises(httpx.TransportError):
            server.client.get("/live")  # in the clear


def listens(ask: Any) -> bool:
    """Whether the call comes through."""
    try:
        ask()
    except httpx.TransportError:
        return False
    return True
