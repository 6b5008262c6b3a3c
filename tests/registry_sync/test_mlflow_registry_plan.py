"""What is asked of MLflow's model registry, in which order, and what comes of faults and others' writes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfunc.contract import sha256
from pyfunc.index import BundleStamp, Index, PublishedModel, PublishedVersion, Reason, RowState
from registry_sync.errors import ForeignModelError, UnavailableError
from registry_sync.mlflow_registry import (
    CURRENT,
    MIRROR_TAG,
    Action,
    CreateModel,
    CreateVersion,
    MoveAlias,
    RegisteredModel,
    TagModel,
    TagVersion,
)
from registry_sync.mlflow_registry_worker import ATTEMPTS, Registrar
from tests.registry_sync.mlflow_book import Book, FaultyBook

MIRROR = "s3://artifacts"
STATUS = "tauserve.registry_status"


def name_of(day: int) -> str:
    """The version a row of this day made."""
    return sha256(f"version {day}".encode())


def row(model_id: str, day: int, **more: object) -> RowState:
    """A published row, unless `more` says otherwise."""
    fields: dict[str, object] = {
        "status": "ready",
        "model_version": str(day),
        "execution_id": f"run-{day}",
        "version": name_of(day),
        "bundle": BundleStamp("tag", 7, sha256(f"bundle {day}".encode())),
        **more,
    }
    return RowState(model_id, f"2026-05-{day:02}T00:00:00", **fields)  # type: ignore[arg-type]


def index_of(*rows: RowState, certificate: str = "verified") -> Index:
    """An index of these rows; the last one with a version is its model's current one."""
    entry = PublishedVersion(sha256(b"manifest"), 1, sha256(b"certificate"), certificate)
    models: dict[str, PublishedModel] = {}
    for one in rows:
        if one.version is not None:
            before = models[one.model_id].versions if one.model_id in models else {}
            models[one.model_id] = PublishedModel(one.version, {**before, one.version: entry})
    return Index(models, rows)


def register(book: Book, index: Index, model_id: str | None = None) -> list[str]:
    """Settle all that differs; returns what differed."""
    registrar = Registrar(book, backoff_s=0.0)
    pending = registrar.look(index, MIRROR, model_id)
    for name in pending:
        registrar.settle(name)
    return pending


def versions(book: Book, name: str = "m") -> dict[str, int]:
    """The registered versions' numbers by what they show; each is there once."""
    found = {one.source: one.number for one in book.models[name].versions}
    assert len(book.models[name].versions) == len(found)
    return found


def source(day: int, model_id: str = "m") -> str:
    """Where a version's files are."""
    return f"{MIRROR}/mlflow/{model_id}/{name_of(day)}"


def statuses(book: Book, name: str = "m") -> list[str]:
    """Each version's registry status, by number."""
    return [one.tags[STATUS] for one in book.models[name].versions]


def kinds(actions: list[Action]) -> list[type[Action]]:
    """What kind of action each is."""
    return [type(action) for action in actions]


def test_versions_come_oldest_first_and_the_alias_last() -> None:
    """So that MLflow's numbers grow with age; until then the alias points to nothing that is not complete."""
    book = Book()
    register(book, index_of(row("m", 1), row("m", 2), row("m", 3)))
    assert [CreateModel, CreateVersion, CreateVersion, CreateVersion, MoveAlias] == kinds(book.written)
    assert {source(1): 1, source(2): 2, source(3): 3} == versions(book)
    assert {CURRENT: 3} == book.models["m"].aliases
    assert {MIRROR_TAG: MIRROR} == book.models["m"].tags


def test_a_version_says_where_it_comes_from() -> None:
    """The row, the bundle's and the version's digests, the certificate, the row's status."""
    book = Book()
    register(book, index_of(row("m", 4, model_name="Rates")))
    assert {
        "tauserve.model_id": "m",
        "tauserve.created_at": "2026-05-04T00:00:00",
        "tauserve.model_name": "Rates",
        "tauserve.model_version": "4",
        "tauserve.execution_id": "run-4",
        "tauserve.version": name_of(4),
        "tauserve.manifest_sha256": sha256(b"manifest"),
        "tauserve.bundle_sha256": sha256(b"bundle 4"),
        "tauserve.certificate": sha256(b"certificate"),
        "tauserve.certificate_status": "verified",
        "tauserve.registry_status": "ready",
    } == book.models["m"].versions[0].tags


def test_a_second_time_writes_nothing_and_reads_once() -> None:
    """However many models there are."""
    book = Book()
    index = index_of(*(row(f"m{number}", day) for number in range(50) for day in (1, 2)))
    register(book, index)
    written, book.reads = len(book.written), 0
    assert [] == register(book, index)
    assert (written, 1) == (len(book.written), book.reads)


def test_what_changed_is_tagged_anew() -> None:
    """One write for each tag."""
    book = Book()
    register(book, index_of(row("m", 1), certificate="unverified"))
    before = len(book.written)
    register(book, index_of(row("m", 1, execution_id=""), certificate="verified"))
    assert {
        TagVersion("m", 1, "tauserve.certificate_status", "verified"),
        TagVersion("m", 1, "tauserve.execution_id", ""),
    } == set(book.written[before:])


def test_a_retired_version_stays_and_says_so() -> None:
    """The alias goes back to the version that answers now, and goes where the model went."""
    book = Book()
    register(book, index_of(row("m", 1), row("m", 2)))
    before = len(book.written)
    register(book, index_of(row("m", 1), row("m", 2, status="retired", version=None)))
    assert [TagVersion("m", 2, STATUS, "retired"), MoveAlias("m", 1)] == book.written[before:]
    gone = [row("m", day, status="retired", version=None) for day in (1, 2)]
    register(book, index_of(*gone))
    assert (["retired", "retired"], {}) == (statuses(book), book.models["m"].aliases)
    assert [] == register(book, index_of(*gone))


@pytest.mark.parametrize(
    ("after", "status"),
    [
        (None, "withdrawn"),
        (row("m", 1, version=None, reason=Reason("parity", "differs")), "quarantined"),
        (row("m", 1, version=name_of(9)), "replaced"),
        (row("m", 1, version=None, status="absent"), "withdrawn"),
    ],
)
def test_a_version_that_is_published_no_longer_says_why(after: RowState | None, status: str) -> None:
    """Its row was pruned, was quarantined, made another version."""
    book = Book()
    register(book, index_of(row("m", 1)))
    register(book, index_of(*([] if after is None else [after])))
    assert status == statuses(book)[0]


def test_of_two_rows_with_one_version_the_ready_one_speaks() -> None:
    """One registered version, with the tags of the row that serves it."""
    book = Book()
    later = row("m", 2, version=name_of(1), status="absent")
    register(book, index_of(row("m", 1), later))
    assert ({source(1): 1}, ["ready"]) == (versions(book), statuses(book))


def test_a_refused_bundle_does_not_lend_its_digest() -> None:
    """A row that was refused shows the refused bundle's digest beside the version it had before."""
    book = Book()
    register(book, index_of(row("m", 1)))
    refused = row("m", 1, bundle=BundleStamp("t", 1, sha256(b"other")), reason=Reason("malformed", "no"))
    register(book, index_of(refused))
    assert sha256(b"bundle 1") == book.models["m"].versions[0].tags["tauserve.bundle_sha256"]


def test_texts_that_mlflow_would_refuse_are_cut() -> None:
    """And a second time writes nothing."""
    book = Book()
    index = index_of(row("m", 1, execution_id="x\0" * 9000))
    register(book, index)
    assert "x\ufffd" * 2500 == book.models["m"].versions[0].tags["tauserve.execution_id"]
    assert [] == register(book, index)


def test_another_mirrors_model_is_left_alone() -> None:
    """Two deployments on one MLflow server do not take the alias from each other; the others go on."""
    book = Book()
    theirs = RegisteredModel("m", {MIRROR_TAG: "s3://theirs"}, {CURRENT: 7}, ())
    book.models["m"] = theirs
    registrar = Registrar(book)
    index = index_of(row("m", 1), row("n", 1))
    assert ["m", "n"] == registrar.look(index, MIRROR, None)
    with pytest.raises(ForeignModelError, match="s3://theirs owns it"):
        registrar.settle("m")
    registrar.settle("n")
    assert (theirs, {source(1, "n"): 1}) == (book.models["m"], versions(book, "n"))


def test_a_model_somebody_made_by_hand_is_taken_over() -> None:
    """One that no mirror owns; its versions and other aliases stay."""
    book = Book()
    book.apply(CreateModel("m", {}))
    book.apply(CreateVersion("m", "s3://elsewhere/model", {}))
    book.apply(TagModel("m", "team", "quants"))
    register(book, index_of(row("m", 1)))
    assert ({"team": "quants", MIRROR_TAG: MIRROR}, {CURRENT: 2}) == (
        book.models["m"].tags,
        book.models["m"].aliases,
    )
    assert ({}, "s3://elsewhere/model") == (
        book.models["m"].versions[0].tags,
        book.models["m"].versions[0].source,
    )


def test_a_model_of_somebody_else_is_not_touched() -> None:
    """One that the mirror does not serve."""
    book = Book()
    book.apply(CreateModel("other", {}))
    assert ["m"] == register(book, index_of(row("m", 1)))
    assert {} == book.models["other"].tags


def test_one_model_alone() -> None:
    """The rest stays as it is, and is not read."""
    book = Book()
    assert ["b"] == register(book, index_of(row("a", 1), row("b", 1)), "b")
    assert ["b"] == list(book.models)
    assert [] == register(book, index_of(row("a", 1), row("b", 1)), "b")


# ---- faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_any_one_call_may_fail(when: str) -> None:
    """Or its reply be lost: no version is there twice, and the alias is where it belongs."""
    calls = 0
    for number in range(1, 100):
        book = FaultyBook()
        book.fault = lambda call, number=number: when if call == number else None  # type: ignore[misc]
        register(book, index_of(row("m", 1), row("m", 2)))
        assert ({source(1): 1, source(2): 2}, {CURRENT: 2}) == (versions(book), book.models["m"].aliases)
        calls = book.calls
        if calls < number:
            break
    assert 8 <= calls < 100


def test_the_alias_never_points_to_half_a_version() -> None:
    """Whatever call is the last before a kill, the alias names the old version or the new one, complete."""
    old, new = index_of(row("m", 1)), index_of(row("m", 1), row("m", 2))
    seen = set()
    for last in range(1, 20):
        book = FaultyBook()
        register(book, old)
        stop = book.calls + last
        book.fault = lambda call, stop=stop: "before" if call > stop else None  # type: ignore[misc]
        with suppress(UnavailableError):
            register(book, new)
        number = book.models["m"].aliases[CURRENT]
        pointed = book.models["m"].versions[number - 1]
        assert pointed.tags["tauserve.version"] in (name_of(1), name_of(2))
        assert 11 == len(pointed.tags)
        seen.add(number)
        book.fault = lambda _: None
        register(book, new)
        assert ({source(1): 1, source(2): 2}, {CURRENT: 2}) == (versions(book), book.models["m"].aliases)
    assert {1, 2} == seen


def test_a_registry_that_stays_down_is_given_up() -> None:
    """After so many attempts; the next sync goes on."""
    book = FaultyBook()
    book.fault = lambda _: "before"
    with pytest.raises(UnavailableError):
        register(book, index_of(row("m", 1)))
    assert ATTEMPTS == book.calls


def test_two_at_once_choose_the_same_version() -> None:
    """Both created it, since MLflow lets them: the lower number is it, the other is tagged, none deleted."""
    book, index = FaultyBook(), index_of(row("m", 1))

    def other(action: Action) -> None:
        if isinstance(action, CreateVersion):
            book.meanwhile = lambda _: None
            register(book, index)

    book.meanwhile = other
    register(book, index)
    assert [source(1), source(1)] == [one.source for one in book.models["m"].versions]
    assert (["ready", "duplicate"], {CURRENT: 1}) == (statuses(book), book.models["m"].aliases)
    assert [] == register(book, index)


_DAYS = st.lists(st.integers(1, 6), unique=True, max_size=4).map(sorted)
_INDEXES = st.dictionaries(st.sampled_from("mn"), _DAYS)


def _index(days: Mapping[str, list[int]]) -> Index:
    held = [row(model_id, day) for model_id, its_days in days.items() for day in its_days]
    gone = [
        row(model_id, day, status="retired", version=None)
        for model_id in "mn"
        for day in range(1, 7)
        if day not in days.get(model_id, [])
    ]
    return index_of(*gone, *held)


@given(
    history=st.lists(st.tuples(_INDEXES, st.sets(st.integers(1, 30)), st.sampled_from(["before", "after"]))),
    last=_INDEXES,
)
def test_whatever_happened_before_a_quiet_sync_ends_it_well(
    history: list[tuple[dict[str, list[int]], set[int], str]], last: dict[str, list[int]]
) -> None:
    """Any indexes, any faults at any calls: each version is there once, aliases and statuses are right."""
    book = FaultyBook()
    for days, faults, when in history:
        start = book.calls
        book.fault = lambda call, faults=faults, start=start, when=when: (  # type: ignore[misc]
            when if call - start in faults else None
        )
        with suppress(UnavailableError):
            register(book, _index(days))
    book.fault = lambda _: None
    register(book, _index(last))
    for name, model in book.models.items():
        served = last.get(name, [])
        numbers = versions(book, name)
        assert {source(day, name) for day in served} <= numbers.keys()
        wanted = {CURRENT: numbers[source(served[-1], name)]} if served else {}
        assert wanted == model.aliases
        ready = {one.source for one in model.versions if one.tags[STATUS] == "ready"}
        assert {source(day, name) for day in served} == ready
    assert [] == register(book, _index(last))
