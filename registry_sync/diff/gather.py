"""Read every side and have the pure parts compare them. Writes nothing.

A side that cannot be read is a finding of its own and does not keep the others from being compared. A sync
that runs meanwhile moves the index: where there are differences and the index is not the same afterwards, all
of it is done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice

from pyfunc.contract import INDEX_KEY, MANIFEST, certificate_key, version_prefix
from pyfunc.errors import ArtifactError, UnknownFormatError
from pyfunc.index import Index, PublishedModel
from registry_sync.diff.answers import Server
from registry_sync.diff.findings import Difference, Finding, Side, in_order
from registry_sync.diff.mirror import (
    CERTIFICATES,
    MIRROR_PREFIX,
    Version,
    compare_certificate,
    compare_files,
    compare_listing,
    compare_unnamed,
    group_of,
    is_manifest_readable,
    read_manifest,
    worth_measuring,
)
from registry_sync.diff.registry import compare_registry, index_faults, moved_bundles
from registry_sync.diff.server import compare_server, parse_models
from registry_sync.errors import ConfigurationError, ObjectMissingError, ObjectTooLargeError, SyncError
from registry_sync.plan import Code
from registry_sync.publish import MAX_BUNDLE_BYTES
from registry_sync.rows import RegistryRow, RowFault
from registry_sync.source import Item, RegistrySource
from registry_sync.store import ArtifactStore, Fingerprint
from registry_sync.sync import is_newer, listed_bundles, read_index

ATTEMPTS = 3
READERS = 8
"""Versions looked at at once; each holds a chunk of one file in memory."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Examination:
    """What is compared with what: the sides, and how closely.

    `read_row` makes a row of an item; `code` is that of the installed converter; `server` is asked if given;
    `shallow` goes by listings and reads no file of a version.
    """

    source: RegistrySource
    store: ArtifactStore
    read_row: Callable[[Item, datetime], RegistryRow | RowFault]
    code: Code
    now: Callable[[], datetime]
    server: Server | None = None
    model_id: str | None = None
    shallow: bool = False


@dataclass(slots=True)
class Drift:
    """What was found, how much was compared, and the sides that could not be read."""

    findings: tuple[Finding, ...] = ()
    compared: Counter[str] = field(default_factory=Counter)
    unread: list[SyncError] = field(default_factory=list)


def examine(examination: Examination) -> Drift:
    """Compare all sides.

    Raises:
        ConfigurationError: nobody knows the one model that was asked for.
        UnknownFormatError: the index is of a newer format.
    """
    for attempt in range(ATTEMPTS):
        examiner = _Examiner(examination)
        drift = examiner.run()
        if not drift.findings or attempt + 1 == ATTEMPTS or not examiner.is_index_moved():
            break
    return drift


class _Examiner:
    """One look at everything."""

    def __init__(self, examination: Examination) -> None:
        self._of = examination
        self._drift = Drift()
        self._findings: list[Finding] = []
        self._index_tag: str | None = None

    def run(self) -> Drift:
        """Look, the index first, as a sync does."""
        rows, index = [], None
        try:
            index = self._read_index()
        except SyncError as exc:
            self._cannot_read(Side.MIRROR, exc, INDEX_KEY)
        now = self._of.now()
        try:
            rows = [self._of.read_row(item, now) for item in self._of.source.scan(self._of.model_id)]
            self._drift.compared["rows"] = len(rows)
            if index is not None:
                self._compare_rows(rows, index, now)
        except SyncError as exc:
            self._cannot_read(Side.REGISTRY, exc)
        if index is not None:
            self._check_known(rows, index)
            try:
                self._compare_mirror(index)
            except SyncError as exc:
                self._cannot_read(Side.MIRROR, exc)
            if self._of.server is not None:
                self._compare_server(self._of.server, index)
        self._drift.findings = in_order(self._findings)
        return self._drift

    def is_index_moved(self) -> bool:
        """Whether the index is another by now."""
        try:
            stored = read_index(self._of.store)
        except SyncError:
            return False
        return (stored.etag if stored else None) != self._index_tag

    def _cannot_read(self, side: Side, error: SyncError, path: str = "") -> None:
        self._drift.unread.append(error)
        self._findings.append(Finding(Difference.UNVERIFIABLE, side, f"cannot be read: {error}", path=path))

    def _read_index(self) -> Index | None:
        """The index, empty where there is none; None if it is not what a sync would have written."""
        stored = read_index(self._of.store)
        if stored is None:
            return Index()
        self._index_tag = stored.etag
        try:
            index = Index.from_bytes(stored.data)
        except ArtifactError as exc:
            if isinstance(exc, UnknownFormatError) and is_newer(exc):
                raise
            self._findings.append(Finding(Difference.TAMPERED, Side.MIRROR, str(exc), path=INDEX_KEY))
            return None
        faults = index_faults(index)
        self._findings += faults
        return None if faults else index

    def _check_known(self, rows: list[RegistryRow | RowFault], index: Index) -> None:
        model_id = self._of.model_id
        listed = any(state.model_id == model_id for state in index.rows) or model_id in index.models
        if model_id is not None and not rows and not listed and not self._drift.unread:
            raise ConfigurationError(
                f"--model-id: expected a model of {self._of.source.name} or of the mirror, found no row of "
                f"{model_id!r}"
            )

    def _compare_rows(self, rows: list[RegistryRow | RowFault], index: Index, now: datetime) -> None:
        try:
            bundles = listed_bundles(self._of.store, rows)
            changed = {}
            for key in () if self._of.shallow else moved_bundles(rows, bundles, index):
                if (found := self._measure(key, MAX_BUNDLE_BYTES)) is not None:
                    changed[key] = found
        except SyncError as exc:
            self._cannot_read(Side.BUNDLE, exc)
            return
        self._drift.compared["bundles"] = len(bundles)
        self._findings += compare_registry(
            rows, bundles, index, self._of.code, now, model_id=self._of.model_id, changed=changed
        )

    def _measure(self, key: str, max_bytes: int) -> Fingerprint | None:
        try:
            return self._of.store.fingerprint(key, max_bytes=max_bytes)
        except (ObjectMissingError, ObjectTooLargeError):
            return None  # it went, or grew, since it was listed

    def _compare_mirror(self, index: Index) -> None:
        certificates: dict[str, int] = {}
        versions = self._versions(index, certificates)
        with ThreadPoolExecutor(READERS) as pool:
            while batch := list(islice(versions, _BATCH)):
                for findings, unread, files in pool.map(self._compare_version, batch):
                    self._findings += findings
                    self._drift.unread += unread
                    self._drift.compared.update(versions=1, files=files)
        for name, model in index.models.items():
            if self._of.model_id in (None, name):
                self._compare_certificates(name, model, certificates)

    def _versions(self, index: Index, certificates: dict[str, int]) -> Iterator[Version]:
        """Every version the index names, with its objects; other objects become findings.

        `certificates` takes the sizes of the certificates that are there, by key.
        """
        model_id, seen = self._of.model_id, set()
        prefix = MIRROR_PREFIX if model_id is None else f"{MIRROR_PREFIX}{model_id}/"
        for (model, name), objects in groupby(
            self._of.store.list(prefix), key=lambda stat: group_of(stat.key)
        ):
            entry = index.models[model].versions.get(name) if model in index.models else None
            if entry is None:
                listed = list(objects)
                self._findings += compare_unnamed(index, model, name, listed)
                if name == CERTIFICATES:
                    certificates.update((stat.key, stat.size) for stat in listed)
                continue
            below = version_prefix(model, name)
            seen.add((model, name))
            yield Version(model, name, entry, {stat.key.removeprefix(below): stat for stat in objects})
        for model, published in index.models.items():
            for name, entry in published.versions.items():
                if (model, name) not in seen and model_id in (None, model):
                    yield Version(model, name, entry, {})

    def _compare_version(self, version: Version) -> tuple[list[Finding], list[SyncError], int]:
        """The version's differences, what kept it from being read, and how many files were compared."""
        if self._of.shallow or not is_manifest_readable(version):
            return compare_listing(version), [], len(version.listed)
        try:
            stored = self._of.store.read(version.prefix + MANIFEST, max_bytes=version.entry.manifest_size)
            manifest = read_manifest(version, stored.data)
            measured = {
                path: self._measure(version.prefix + path, version.listed[path].size)
                for path in worth_measuring(version, manifest)
            }
        except (ObjectMissingError, ObjectTooLargeError, ArtifactError) as exc:
            return [version.finding(Difference.TAMPERED, str(exc), MANIFEST)], [], 1
        except SyncError as exc:
            return [version.finding(Difference.UNVERIFIABLE, f"cannot be read: {exc}")], [exc], 0
        return compare_files(version, manifest, measured), [], 1 + len(measured)

    def _compare_certificates(self, name: str, model: PublishedModel, there: Mapping[str, int]) -> None:
        for version, entry in model.versions.items():
            if (digest := entry.certificate) is None:
                continue
            key = certificate_key(name, digest)
            found = None
            if key in there:
                found = (
                    Fingerprint(there[key], digest) if self._of.shallow else self._measure(key, there[key])
                )
            self._findings += compare_certificate(name, version, digest, found)

    def _compare_server(self, server: Server, index: Index) -> None:
        try:
            rows = parse_models(server.get("/models"), model_id=self._of.model_id)
        except SyncError as exc:
            self._cannot_read(Side.SERVER, exc)
            return
        self._drift.compared["server_rows"] = len(rows)
        self._findings += compare_server(_scoped(index, self._of.model_id), rows)


def _scoped(index: Index, model_id: str | None) -> Index:
    if model_id is None:
        return index
    kept = {name: model for name, model in index.models.items() if name == model_id}
    return Index(kept, tuple(state for state in index.rows if state.model_id == model_id))
