"""Decide what MLflow's model registry lacks. Pure: the mirror's index and a registered model in, actions out.

- Each published version is one registered version, known by its source. Nothing is ever deleted.
- A plan that creates does nothing else: the next one, made from what MLflow shows then, sets the tags and,
  last of all, moves the alias. So the alias never points to what is not complete, and a version that was
  created although the reply was lost is found, not created again.
- Where two syncs created one version at the same time, the lower number is the version and the other is
  tagged as its duplicate: both syncs, and every later one, choose the same.
- A registered model that another mirror owns is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyfunc.contract import version_prefix
from pyfunc.index import Index, PublishedModel, PublishedVersion, RowState
from registry_sync.errors import ForeignModelError
from registry_sync.mlflow_registry import (
    CURRENT,
    MIRROR_TAG,
    Action,
    CreateModel,
    CreateVersion,
    MoveAlias,
    RegisteredModel,
    RegisteredVersion,
    TagModel,
    TagVersion,
)
from registry_sync.rows import READY, RETIRED, parse_instant

STATUS_TAG = "tauserve.registry_status"
CREATED_TAG = "tauserve.created_at"
WITHDRAWN, REPLACED, QUARANTINED, DUPLICATE = "withdrawn", "replaced", "quarantined", "duplicate"
LONGEST_TAG = 5000
"""Characters that every release and database of MLflow takes; a longer value would be refused."""


@dataclass(frozen=True, slots=True)
class WantedModel:
    """What the registered model of this name should show.

    `versions` holds each published version's tags, oldest first; `rows` the model's rows by `created_at`,
    which say what became of versions that are no longer published.
    """

    name: str
    mirror: str
    current: str | None
    versions: Mapping[str, Mapping[str, str]]
    rows: Mapping[str, RowState]

    def source(self, version: str) -> str:
        """Where MLflow finds the version's files."""
        return f"{self.mirror}/{version_prefix(self.name, version)}".rstrip("/")


def wanted_models(index: Index, mirror: str) -> dict[str, WantedModel]:
    """Every model of the index by name, with or without published versions.

    Args:
        index: what the mirror serves.
        mirror: where it is, as `s3://bucket`.
    """
    rows: dict[str, list[RowState]] = {}
    for row in index.rows:
        rows.setdefault(row.model_id, []).append(row)
    return {
        name: wanted_model(name, mirror, index.models.get(name), rows.get(name, []))
        for name in sorted(index.models.keys() | rows.keys())
    }


def wanted_model(name: str, mirror: str, model: PublishedModel | None, rows: list[RowState]) -> WantedModel:
    """One model, of which nothing may be published."""
    entries = dict(model.versions) if model else {}
    holders = {row.version: row for row in sorted(rows, key=_precedence) if row.version in entries}
    versions = sorted(entries, key=lambda version: _age(holders.get(version)))
    return WantedModel(
        name,
        mirror,
        model.current if model else None,
        {version: _tags(version, holders.get(version), entries[version]) for version in versions},
        {row.created_at: row for row in rows},
    )


def plan_model(wanted: WantedModel, found: RegisteredModel | None) -> tuple[Action, ...]:
    """What is to be done so that the registered model shows what it should, in order.

    Raises:
        ForeignModelError: another mirror owns the registered model.
    """
    if found is None:
        owned: Mapping[str, str] = {MIRROR_TAG: wanted.mirror}
        return (CreateModel(wanted.name, owned),) if wanted.versions else ()
    owner = found.tags.get(MIRROR_TAG)
    if owner not in (None, wanted.mirror):
        raise ForeignModelError(wanted.name, owner=str(owner), mirror=wanted.mirror)
    ours = _ours(wanted, found)
    creations = [
        CreateVersion(wanted.name, wanted.source(version), tags)
        for version, tags in wanted.versions.items()
        if version not in ours
    ]
    adoption = [] if owner else [TagModel(wanted.name, MIRROR_TAG, wanted.mirror)]
    if creations:
        return (*adoption, *creations)
    if not ours:
        return ()
    return (*adoption, *_tag_changes(wanted, ours), *_alias_moves(wanted, found, ours))


def _ours(wanted: WantedModel, found: RegisteredModel) -> dict[str, list[RegisteredVersion]]:
    """The registered versions of this mirror by the version they show, the lowest number first."""
    ours: dict[str, list[RegisteredVersion]] = {}
    prefix = wanted.source("") + "/"
    for registered in sorted(found.versions, key=lambda one: one.number):
        if registered.source.startswith(prefix):
            ours.setdefault(registered.source.removeprefix(prefix), []).append(registered)
    return ours


def _tag_changes(wanted: WantedModel, ours: Mapping[str, list[RegisteredVersion]]) -> Iterator[TagVersion]:
    for version, (registered, *doubles) in ours.items():
        tags = wanted.versions.get(version)
        if tags is None:
            tags = {STATUS_TAG: _after(wanted, version, registered)}
        for one, its_tags in ((registered, tags), *((double, {STATUS_TAG: DUPLICATE}) for double in doubles)):
            for key, value in its_tags.items():
                if one.tags.get(key) != value:
                    yield TagVersion(wanted.name, one.number, key, value)


def _alias_moves(
    wanted: WantedModel, found: RegisteredModel, ours: Mapping[str, list[RegisteredVersion]]
) -> Iterator[MoveAlias]:
    points_to = found.aliases.get(CURRENT)
    if wanted.current is not None:
        number = ours[wanted.current][0].number
        if points_to != number:
            yield MoveAlias(wanted.name, number)
    elif points_to in {one.number for registered in ours.values() for one in registered}:
        yield MoveAlias(wanted.name, None)


def _after(wanted: WantedModel, version: str, registered: RegisteredVersion) -> str:
    """What became of a version that is published no longer."""
    row = wanted.rows.get(registered.tags.get(CREATED_TAG, ""))
    if row is None:
        return WITHDRAWN
    if row.status == RETIRED:
        return RETIRED
    if row.reason is not None:
        return QUARANTINED
    return REPLACED if row.version not in (None, version) else WITHDRAWN


def _age(row: RowState | None) -> tuple[str, str]:
    """For sorting: instants in UTC, then the row's own text. A faulty row's timestamp may be none."""
    if row is None:
        return "", ""
    try:
        return parse_instant(row.created_at).isoformat(), row.created_at
    except ValueError:
        return "", row.created_at


def _precedence(row: RowState) -> tuple[bool, tuple[str, str]]:
    """Of several rows that hold one version a ready one speaks for it, and the latest of these."""
    return row.status == READY, _age(row)


def _tags(version: str, row: RowState | None, entry: PublishedVersion) -> dict[str, str]:
    tags = {
        "tauserve.version": version,
        "tauserve.manifest_sha256": entry.manifest_sha256,
        "tauserve.certificate": entry.certificate or "",
        "tauserve.certificate_status": entry.certificate_status or "",
    }
    if row is not None:
        tags |= {
            "tauserve.model_id": row.model_id,
            CREATED_TAG: row.created_at,
            "tauserve.model_name": row.model_name,
            "tauserve.model_version": row.model_version,
            "tauserve.execution_id": row.execution_id,
            STATUS_TAG: row.status,
        }
        if row.bundle is not None and row.reason is None:
            # The row of a refused bundle shows that bundle's digest beside the version it had before.
            tags["tauserve.bundle_sha256"] = row.bundle.sha256
    return {key: value.replace("\0", "\ufffd")[:LONGEST_TAG] for key, value in tags.items()}
