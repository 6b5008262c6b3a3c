"""The planner's rules, one by one and as properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfunc.contract import sha256
from pyfunc.index import BundleStamp, Index, PublishedVersion, Reason, RowState
from registry_sync.plan import Code, Kind, SyncPlan, plan_sync
from registry_sync.rows import RegistryRow, RowFault, RowKey, parse_row
from registry_sync.settle import Converted, Outcome, Refused, settle
from registry_sync.store import ObjectStat
from tests.registry_sync.source_conformance import NOW, item

CODE = Code(sha256(b"run time"), sha256(b"converter"))
REFUSED_BYTES = "broken"


def row(day: int = 1, model_id: str = "m", bundle: str = "a", **more: Any) -> RegistryRow | RowFault:
    """A row of the given day of May, whose bundle holds the given text."""
    more = {"model_path": f"models/{bundle}.pkl"} | more
    return parse_row(item(model_id, f"2026-05-{day:02}T00:00:00", **more), bucket="artifacts", now=NOW)


def listing(*bundles: str) -> dict[str, ObjectStat]:
    """The store with these bundles; each one's bytes are its name."""
    return {
        f"models/{name}.pkl": ObjectStat(f"models/{name}.pkl", f"tag-{name}", len(name)) for name in bundles
    }


EVERYTHING = listing("a", "b", "c", "d", REFUSED_BYTES)


def convert(plan: SyncPlan, code: Code = CODE) -> dict[RowKey, Outcome]:
    """What a converter gives that refuses one bundle."""
    outcomes: dict[RowKey, Outcome] = {}
    for action in plan.actions:
        if action.kind is not Kind.CONVERT:
            continue
        assert action.row is not None
        assert action.bundle is not None
        name = action.bundle.key.removeprefix("models/").removesuffix(".pkl")
        stamp = BundleStamp(action.bundle.etag, action.bundle.size, sha256(name.encode()))
        version = code.version(action.row, stamp.sha256)
        if name == REFUSED_BYTES:
            outcomes[action.key] = Refused(Reason("bundle_malformed", "broken"), stamp, code.refusal(version))
        else:
            outcomes[action.key] = Converted(version, PublishedVersion(sha256(version.encode()), 1), stamp)
    return outcomes


def synced(
    rows: Iterable[RegistryRow | RowFault],
    index: Index | None = None,
    *,
    bundles: Mapping[str, ObjectStat] = EVERYTHING,
    code: Code = CODE,
    **options: Any,
) -> tuple[Index, dict[str, int]]:
    """The index after a sync, and how many actions of each kind it took."""
    plan = plan_sync(rows, bundles, index or Index(), code, options.pop("now", NOW), **options)
    kinds: dict[str, int] = {}
    for action in plan.actions:
        kinds[action.kind.value] = kinds.get(action.kind.value, 0) + 1
    return settle(plan, convert(plan, code)), kinds


def version(bundle: str, code: Code = CODE, **more: Any) -> str:
    """Name of the version of this bundle."""
    found = row(1, "m", bundle, **more)
    assert isinstance(found, RegistryRow)
    return code.version(found, sha256(bundle.encode()))


def served(index: Index, model_id: str = "m") -> tuple[str, set[str]]:
    """A model's current version and all its versions."""
    model = index.models[model_id]
    return model.current, set(model.versions)


def listed(index: Index) -> list[tuple[str, str | None]]:
    """Status of every row, and its reason's code."""
    return [(state.status, state.reason.code if state.reason else None) for state in index.rows]


def test_a_ready_row_makes_a_version() -> None:
    """New rows are converted and listed; the latest is current, the older one stays addressable."""
    index, kinds = synced([row(1, bundle="a"), row(2, bundle="b"), row(3, status="training", bundle="c")])
    assert {"convert": 2, "list": 1} == kinds
    assert (version("b"), {version("a"), version("b")}) == served(index)
    assert [("ready", None), ("ready", None), ("training", None)] == listed(index)


def test_instants_are_compared_not_texts() -> None:
    """A later text may be an earlier instant."""
    early = parse_row(
        item("m", "2026-05-01T12:00:00+10:00", model_path="models/a.pkl"), bucket="artifacts", now=NOW
    )
    late = parse_row(
        item("m", "2026-05-01T11:00:00Z", model_path="models/b.pkl"), bucket="artifacts", now=NOW
    )
    index, _ = synced([early, late])
    assert version("b") == index.models["m"].current


def test_a_second_sync_changes_nothing() -> None:
    """C9: no conversion, equal bytes."""
    rows = [row(1), row(2, bundle=REFUSED_BYTES), row(3, status="draft"), row(1, "n", "none")]
    index, _ = synced(rows)
    again, kinds = synced(rows, index)
    assert {"keep": 1, "quarantine": 2, "list": 1} == kinds
    assert index.to_bytes() == again.to_bytes()


def test_retired_withdraws_and_current_falls_back() -> None:
    """The retired row's version goes; the latest remaining ready row is current."""
    index, _ = synced([row(1, bundle="a"), row(2, bundle="b"), row(3, bundle="c")])
    index, kinds = synced(
        [row(1, bundle="a"), row(2, bundle="b"), row(3, bundle="c", status="retired")], index
    )
    assert {"keep": 2, "retire": 1} == kinds
    assert (version("b"), {version("a"), version("b")}) == served(index)
    index, _ = synced(
        [row(day, bundle=b, status="retired") for day, b in ((1, "a"), (2, "b"), (3, "c"))], index
    )
    assert {} == index.models
    assert [("retired", None)] * 3 == listed(index)


def test_retired_keeps_what_another_row_still_holds() -> None:
    """Two rows of the same bundle hold one version."""
    index, _ = synced([row(1, bundle="a"), row(2, bundle="a")])
    index, _ = synced([row(1, bundle="a"), row(2, bundle="a", status="retired")], index)
    assert (version("a"), {version("a")}) == served(index)


def test_a_fall_back_prefers_ready_rows() -> None:
    """A row that is no longer ready stays addressable, but does not become current again."""
    index, _ = synced([row(1, bundle="a"), row(2, bundle="b"), row(3, bundle="c")])
    draft = row(2, bundle="b", status="draft")
    index, _ = synced([row(1, bundle="a"), draft, row(3, bundle="c")], index)
    index, _ = synced([row(1, bundle="a"), draft, row(3, bundle="c", status="retired")], index)
    assert (version("a"), {version("a"), version("b")}) == served(index)


def test_a_fall_back_looks_at_rows_not_at_versions() -> None:
    """A draft that holds the same version as the retired row does not become current by it."""
    draft = row(2, bundle="b", status="draft")
    index, _ = synced([row(1, bundle="a"), row(2, bundle="b"), row(3, bundle="b")])
    index, _ = synced([row(1, bundle="a"), draft, row(3, bundle="b")], index)
    index, _ = synced([row(1, bundle="a"), draft, row(3, bundle="b", status="retired")], index)
    assert (version("a"), {version("a"), version("b")}) == served(index)


def test_a_current_row_stays_current_though_its_twin_is_retired() -> None:
    """The version is still held by the row that made it current."""
    twins = [row(1, bundle="a"), row(2, bundle="b"), row(3, bundle="b")]
    index, _ = synced(twins)
    twins[2] = row(3, bundle="b", status="draft")
    index, _ = synced(twins, index)
    twins[1] = row(2, bundle="b", status="retired")
    index, _ = synced(twins, index)
    assert (version("b"), {version("a"), version("b")}) == served(index)


@pytest.mark.parametrize(
    ("change", "listing_after"),
    [
        ([row(1, bundle="a"), row(2, bundle="b", status="draft")], ("draft", None)),
        ([row(1, bundle="a"), row(2, bundle="b", ttl=int(NOW.timestamp()))], ("expired", None)),
        ([row(1, bundle="a")], ("absent", None)),
        ([row(1, bundle="a"), row(2, bundle="b", model_name=7)], ("ready", "attribute_type")),
        ([row(1, bundle="a"), row(2, bundle="none")], ("ready", "bundle_missing")),
        ([row(1, bundle="a"), row(2, bundle=REFUSED_BYTES)], ("ready", "bundle_malformed")),
        (
            [row(1, bundle="a"), row(2, bundle="b", model_path="s3://foreign/x")],
            ("ready", "model_path_foreign"),
        ),
    ],
)
def test_nothing_but_retired_withdraws(
    change: list[RegistryRow | RowFault], listing_after: tuple[str, str | None]
) -> None:
    """C11: another status, an expired, deleted, faulty or re-pointed row changes its listing only."""
    index, _ = synced([row(1, bundle="a"), row(2, bundle="b")])
    after, _ = synced(change, index)
    assert served(index) == served(after)
    assert [("ready", None), listing_after] == listed(after)
    again, kinds = synced(change, after)
    assert after.to_bytes() == again.to_bytes()
    assert "convert" not in kinds


def test_prune_withdraws_absent_rows() -> None:
    """Deleted and expired rows go with their versions when asked for, others do not."""
    index, _ = synced([row(day, bundle=b) for day, b in ((1, "a"), (2, "b"), (3, "c"))])
    rows = [row(1, bundle="a"), row(2, bundle="b", ttl=1), row(4, bundle="d", status="draft")]
    index, kinds = synced(rows, index, prune=True)
    assert {"keep": 1, "prune": 2, "list": 1} == kinds
    assert (version("a"), {version("a")}) == served(index)
    assert ["ready", "draft"] == [state.status for state in index.rows]


def test_rows_that_never_were_published_are_forgotten() -> None:
    """An absent row without a version leaves the listing."""
    index, _ = synced([row(1), row(2, status="draft"), row(3, bundle=REFUSED_BYTES)])
    index, kinds = synced([row(1)], index)
    assert {"keep": 1, "forget": 2} == kinds
    assert [("ready", None)] == listed(index)


def test_an_expired_row_counts_as_absent_even_if_retired() -> None:
    """The table may return it for days; it gives no orders any more."""
    index, _ = synced([row(1)])
    index, _ = synced([row(1, status="retired", ttl=1)], index)
    assert (version("a"), {version("a")}) == served(index)
    assert [("expired", None)] == listed(index)


def test_equal_instants_are_quarantined() -> None:
    """Which of two is the latest is not ours to guess; what was published stays."""
    index, _ = synced([row(1, bundle="a")])
    twin = parse_row(
        item("m", "2026-05-01T00:00:00Z", model_path="models/b.pkl"), bucket="artifacts", now=NOW
    )
    other = parse_row(
        item("n", "2026-05-01T00:00:00Z", model_path="models/b.pkl"), bucket="artifacts", now=NOW
    )
    index, _ = synced([row(1, bundle="a"), twin, other], index)
    assert [("ready", "created_at_doubled")] * 2 + [("ready", None)] == listed(index)
    assert (version("a"), {version("a")}) == served(index)


def test_a_replaced_bundle_makes_a_new_version() -> None:
    """Another tag means reading again; the row lets its old version go only when it has a new one."""
    rows = [row(1, bundle="a")]
    index, _ = synced(rows)
    broken = {"models/a.pkl": replace(EVERYTHING["models/a.pkl"], etag="other")}
    plan = plan_sync(rows, broken, index, CODE, NOW)
    assert [Kind.CONVERT] == [action.kind for action in plan.actions]
    stamp = BundleStamp("other", 1, sha256(b"new"))
    refused = Refused(Reason("bundle_malformed", "broken"), stamp, CODE.refusal("x"))
    after = settle(plan, {("m", "2026-05-01T00:00:00"): refused})
    assert (version("a"), {version("a")}) == served(after)
    assert [("ready", "bundle_malformed")] == listed(after)
    converted = Converted(version("new"), PublishedVersion(sha256(b"x"), 1), stamp)
    after = settle(plan, {("m", "2026-05-01T00:00:00"): converted})
    assert (version("new"), {version("new")}) == served(after)


def test_new_code_converts_again() -> None:
    """Another run-time part makes another version of an unchanged bundle; nothing is lost meanwhile."""
    new = Code(sha256(b"new run time"), sha256(b"new converter"))
    index, _ = synced([row(1)])
    plan = plan_sync([row(1)], EVERYTHING, index, new, NOW)
    assert [Kind.CONVERT] == [action.kind for action in plan.actions]
    assert served(index) == served(settle(plan, {}))
    index, _ = synced([row(1)], index, code=new)
    assert (version("a", new), {version("a", new)}) == served(index)


def test_a_refused_bundle_is_tried_again_by_another_converter_only() -> None:
    """A converter that learnt more gets its chance; the same one is not asked twice."""
    rows = [row(1, bundle=REFUSED_BYTES)]
    index, _ = synced(rows)
    _, kinds = synced(rows, index)
    assert {"quarantine": 1} == kinds
    _, kinds = synced(rows, index, code=replace(CODE, converter_sha256=sha256(b"better")))
    assert {"convert": 1} == kinds


def test_edited_descriptions_do_not_convert() -> None:
    """C1: name, version and execution stand in the index only; treatment names are part of the version."""
    index, _ = synced([row(1)])
    after, kinds = synced([row(1, model_name="New name", model_version="8")], index)
    assert {"keep": 1} == kinds
    assert ("New name", "8") == (after.rows[0].model_name, after.rows[0].model_version)
    after, kinds = synced([row(1, treatment_names=["rate"])], index)
    assert {"convert": 1} == kinds
    assert version("a", treatment_names=["rate"]) == after.models["m"].current


def test_a_published_bundle_may_go() -> None:
    """A version does not need its bundle any more; an unpublished row does."""
    index, _ = synced([row(1, bundle="a")])
    after, kinds = synced([row(1, bundle="a"), row(2, bundle="b")], index, bundles={})
    assert {"keep": 1, "quarantine": 1} == kinds
    assert [("ready", None), ("ready", "bundle_missing")] == listed(after)


def test_a_bundle_must_be_as_its_row_says() -> None:
    """Size and digest, once known, are held against a row that is edited; mending the row mends all."""
    as_it_is = row(1, bundle_size=1, bundle_sha256=sha256(b"a"))
    index, _ = synced([as_it_is])
    assert [("ready", None)] == listed(index)
    for other in (row(1, bundle_size=2), row(1, bundle_sha256=sha256(b"other"))):
        after, kinds = synced([other], index)
        assert {"quarantine": 1} == kinds
        assert [("ready", "bundle_mismatch")] == listed(after)
        assert (version("a"), {version("a")}) == served(after)
        assert index.to_bytes() == synced([as_it_is], after)[0].to_bytes()


def test_one_model_at_a_time() -> None:
    """Rows and versions of other models stay as they are."""
    index, _ = synced([row(1, "m"), row(1, "n", "b")])
    after, kinds = synced([row(1, "m"), row(2, "m", "c")], index, model_id="m")
    assert {"keep": 1, "convert": 1} == kinds
    assert served(index, "n") == served(after, "n")
    assert ["m", "m", "n"] == [state.model_id for state in after.rows]


# ---- properties --------------------------------------------------------------------------------------------

_ROWS = st.builds(
    row,
    st.integers(1, 4),
    st.sampled_from(["m", "n"]),
    st.sampled_from(["a", "b", "c", REFUSED_BYTES, "none"]),
    status=st.sampled_from(["ready", "ready", "ready", "draft", "retired"]),
    ttl=st.sampled_from([None, None, None, 1]),
)
_REGISTRIES = st.lists(_ROWS, max_size=6, unique_by=lambda found: found.key)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_REGISTRIES, min_size=1, max_size=4))
def test_histories(history: list[list[RegistryRow | RowFault]]) -> None:
    """Over any history of the registry the index keeps its promises.

    A second sync takes no action (C9); nothing goes that no row withdrew or replaced (C11); current is the
    latest ready row that has a version, unless a later row that was current stands there still.
    """
    index = Index()
    for rows in history:
        before, (index, _) = index, synced(rows, index)
        again, kinds = synced(rows, index)
        assert index.to_bytes() == again.to_bytes()
        assert index.to_bytes() == Index.from_bytes(index.to_bytes()).to_bytes()
        assert {"keep", "list", "quarantine", "absent", "forget"} >= kinds.keys()
        _check_nothing_lost(before, index, {found.key: found for found in rows})
        _check_current(before, index)


def _check_nothing_lost(before: Index, after: Index, rows: Mapping[RowKey, RegistryRow | RowFault]) -> None:
    states = {(state.model_id, state.created_at): state for state in after.rows}
    for state in before.rows:
        if state.version is None:
            continue
        found = rows.get((state.model_id, state.created_at))
        retired = isinstance(found, RegistryRow) and found.status == "retired" and not found.expired(NOW)
        now = states[state.model_id, state.created_at]
        if retired:
            assert now.version is None
        else:
            assert now.version in after.models[state.model_id].versions


def _check_current(before: Index, after: Index) -> None:
    for model_id, model in after.models.items():
        held = [state for state in after.rows if state.model_id == model_id and state.version is not None]
        assert {state.version for state in held} == set(model.versions)
        was = before.models[model_id].current if model_id in before.models else None
        latest_ready = max((s for s in held if s.status == "ready"), key=_created, default=None)
        if latest_ready is None or model.current == latest_ready.version:
            continue
        current = max((state for state in held if state.version == model.current), key=_created)
        assert was == model.current
        assert current.created_at > latest_ready.created_at


def _created(state: RowState) -> str:
    return state.created_at
