"""MLflow's model registry over the wire: a real server, and what the way to it may do."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from pyfunc.index import Index
from registry_sync.mlflow_registry import CURRENT, ModelRegistry
from registry_sync.mlflow_registry_worker import Registrar
from tests.mlflow_server import MlflowServer, Proxy, proxy_to, running_mlflow
from tests.registry_sync.mlflow_book import Book
from tests.registry_sync.mlflow_conformance import RegistryConformance
from tests.registry_sync.test_mlflow_registry_plan import index_of, name_of, row

_NUMBERS = itertools.count(1)


@pytest.fixture
def mirror() -> str:
    """A mirror of the test's own, so that tests share a server without meeting."""
    return f"s3://artifacts-{next(_NUMBERS)}"


class TestBook(RegistryConformance):
    """The one in memory."""

    @pytest.fixture
    def registry(self) -> ModelRegistry:
        """Empty."""
        return Book()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Started once."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def proxy(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A way to the server that does no harm yet; MLflow's client takes it."""
    with proxy_to(server) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # as the worker's environment has it
        monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield proxy


def connect() -> ModelRegistry:
    """What the worker process opens."""
    from registry_sync.mlflow_registry_client import MlflowRegistry  # noqa: PLC0415 - slow to import

    return MlflowRegistry()


def register(index: Index, mirror: str) -> list[str]:
    """As the worker process does it, without its pauses."""
    registrar = Registrar(connect(), backoff_s=0.0)
    pending = registrar.look(index, mirror, None)
    for name in pending:
        registrar.settle(name)
    return pending


def numbers(name: str) -> dict[str, list[int]]:
    """Numbers of a model's registered versions, by the version they show."""
    found = connect().read(name)
    assert found is not None
    by_version: dict[str, list[int]] = {}
    for one in sorted(found.versions, key=lambda one: one.number):
        by_version.setdefault(one.source.rpartition("/")[2], []).append(one.number)
    return by_version


def aliases(name: str) -> dict[str, int]:
    """A model's aliases."""
    found = connect().read(name)
    assert found is not None
    return dict(found.aliases)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestMlflow(RegistryConformance):
    """The real one."""

    @pytest.fixture
    def registry(self, proxy: Proxy) -> ModelRegistry:
        """Through a proxy that does no harm."""
        return connect()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", ["lost", "down", "throttled", "nonsense"])
def test_any_one_request_may_fail(proxy: Proxy, mirror: str, fault: str) -> None:
    """Or its reply be lost: no version is there twice, and the alias is where it belongs."""
    failed = 0
    for number in itertools.count(1):
        name = f"{mirror.removeprefix('s3://')}-{fault}-{number}"
        proxy.requests.clear()
        proxy.fault = lambda request, number=number: fault if request == number else None  # type: ignore[misc]
        register(index_of(row(name, 1), row(name, 2)), mirror)
        requests = len(proxy.requests)
        proxy.fault = lambda _: None
        assert {name_of(1): [1], name_of(2): [2]} == numbers(name)
        assert {CURRENT: 2} == aliases(name)
        if requests < number:
            break
        failed += 1
    assert failed >= 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_alias_is_the_last_write(proxy: Proxy, mirror: str) -> None:
    """On the wire, for a new model, a new version, a retired one."""
    name = mirror.removeprefix("s3://")
    retired = row(name, 2, status="retired", version=None)
    for index in (
        index_of(row(name, 1)),
        index_of(row(name, 1), row(name, 2)),
        index_of(row(name, 1), retired),
    ):
        proxy.requests.clear()
        register(index, mirror)
        alias = ("POST", "/api/2.0/mlflow/registered-models/alias")
        assert (alias, 1) == (proxy.writes()[-1], proxy.writes().count(alias))
    proxy.requests.clear()
    register(index_of(row(name, 1, status="retired", version=None), retired), mirror)
    assert ("DELETE", "/api/2.0/mlflow/registered-models/alias") == proxy.writes()[-1]
    assert ({}, {name_of(1): [1], name_of(2): [2]}) == (aliases(name), numbers(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_unchanged_costs_a_request_a_page(
    proxy: Proxy, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve models of two versions in pages of five: three pages of models, five of versions, no write."""
    names = [f"{mirror.removeprefix('s3://')}-{number:02}" for number in range(12)]
    index = index_of(*(row(name, day) for name in names for day in (1, 2)))
    register(index, mirror)
    monkeypatch.setattr("registry_sync.mlflow_registry_client.MODELS_A_PAGE", 5)
    monkeypatch.setattr("registry_sync.mlflow_registry_client.VERSIONS_A_PAGE", 5)
    proxy.requests.clear()
    assert [] == register(index, mirror)
    assert (8, []) == (len(proxy.requests), proxy.writes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_at_once_end_well(proxy: Proxy, mirror: str) -> None:
    """Whichever versions both created: one is current, the others say that they are its duplicates."""
    names = [f"{mirror.removeprefix('s3://')}-{number}" for number in range(4)]
    index = index_of(*(row(name, 1) for name in names))
    threads = [threading.Thread(target=register, args=(index, mirror)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        found = connect().read(name)
        assert found is not None
        first, *doubles = sorted(found.versions, key=lambda one: one.number)
        assert (1, {CURRENT: 1}, "ready") == (
            first.number,
            found.aliases,
            first.tags["tauserve.registry_status"],
        )
        assert all(one.tags["tauserve.registry_status"] == "duplicate" for one in doubles)
    assert [] == register(index, mirror)
