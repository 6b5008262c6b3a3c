"""A row's bundle becomes a version in the store, whatever a killed run left there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pyfunc.bundle import container
from pyfunc.contract import MANIFEST, Manifest, check_bytes, sha256, version_prefix
from pyfunc.index import PublishedVersion
from registry_sync import publish
from registry_sync.errors import ObjectDeniedError, UnavailableError
from registry_sync.folder import FolderStore
from registry_sync.plan import Code
from registry_sync.publish import Publisher
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.settle import Converted, Outcome, Refused
from registry_sync.store import Fingerprint, ObjectStat
from tests.registry_sync.cheap import BROKEN, CRASHING, FILES, cheap_converter
from tests.registry_sync.source_conformance import NOW, item

CODE = Code(sha256(b"run time"), sha256(b"converter"))
BUNDLE = "models/run-1/hybrid_causal_model.pkl"


class Bench:
    """A store with one bundle, its row, and a converter that counts."""

    def __init__(self, store: FolderStore, bundle: bytes = b"bundle", **attributes: Any) -> None:
        store.create(BUNDLE, bundle)
        row = parse_row(item(**attributes), bucket=None, now=NOW)
        assert isinstance(row, RegistryRow)
        self.store, self.row, self.conversions = store, row, 0
        self.publisher = Publisher(store, self.convert, CODE)
        self.prefix = version_prefix(row.model_id, CODE.version(row, sha256(bundle)))

    def convert(self, bundle: Path, folder: Path, **names: Any) -> Manifest:
        """Count, then convert."""
        self.conversions += 1
        return cheap_converter(bundle, folder, **names)

    @property
    def listed(self) -> ObjectStat:
        """The bundle as listed now."""
        (found,) = self.store.list(BUNDLE)
        return found

    def publish(self, published: Mapping[str, PublishedVersion] | None = None) -> Outcome:
        """Publish the row's bundle."""
        return self.publisher.publish(self.row, self.listed, published or {})

    def refusal(self) -> Refused:
        """Publish and expect a refusal."""
        outcome = self.publish()
        assert isinstance(outcome, Refused)
        return outcome

    def assert_stands(self, outcome: Outcome) -> None:
        """The whole version is there and right, from the digest the index will carry down."""
        assert isinstance(outcome, Converted)
        listing = self.store.read(self.prefix + MANIFEST, max_bytes=2**20).data
        check_bytes(MANIFEST, listing, digest=outcome.entry.manifest_sha256, size=outcome.entry.manifest_size)
        manifest = Manifest.from_bytes(listing)
        assert sorted(FILES) == [entry.path for entry in manifest.files]
        for entry in manifest.files:
            data = self.store.read(self.prefix + entry.path, max_bytes=entry.size).data
            check_bytes(entry.path, data, digest=entry.sha256, size=entry.size)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A folder."""
    return FolderStore(tmp_path / "artifacts")


def test_writes_the_whole_version(store: FolderStore) -> None:
    """Every file, the manifest, and the digest the index will carry; the stamp is the bundle's."""
    bench = Bench(store)
    outcome = bench.publish()
    bench.assert_stands(outcome)
    assert isinstance(outcome, Converted)
    assert (bench.listed.etag, 6, sha256(b"bundle")) == (
        outcome.bundle.etag,
        outcome.bundle.size,
        outcome.bundle.sha256,
    )


def test_a_published_version_is_not_made_again(store: FolderStore) -> None:
    """Another row with the same bundle and names gets the entry that is there."""
    bench = Bench(store)
    first = bench.publish()
    assert isinstance(first, Converted)
    assert first == bench.publish({first.version: first.entry})
    assert 1 == bench.conversions


def test_a_complete_leftover_is_taken_as_it_is(store: FolderStore) -> None:
    """A run killed before its index write has done this row's work already."""
    bench = Bench(store)
    first = bench.publish()
    assert first == bench.publish()
    assert 1 == bench.conversions


@pytest.mark.parametrize("left", range(len(FILES) + 1))
def test_an_incomplete_leftover_is_completed(store: FolderStore, left: int) -> None:
    """Whichever files were written, and though the last of them has other bytes."""
    bench, complete = Bench(store), Bench(FolderStore(Path(store.name).with_name("complete")))
    complete.publish()
    for path in FILES[:left]:
        key = bench.prefix + path
        store.create(key, complete.store.read(key, max_bytes=2**20).data)
    if left < len(FILES):
        store.create(bench.prefix + FILES[left], b"of another converter")
    bench.assert_stands(bench.publish())


def test_a_manifest_without_its_files_is_no_version(store: FolderStore) -> None:
    """A file that was lost is written again."""
    bench = Bench(store)
    bench.publish()
    (Path(store.name) / bench.prefix / FILES[0]).unlink()
    bench.assert_stands(bench.publish())
    assert 2 == bench.conversions


def test_a_refused_bundle_leaves_nothing(store: FolderStore) -> None:
    """The reason is the reader's own; trying the same again would be in vain."""
    bench = Bench(store, BROKEN)
    refusal = bench.refusal()
    assert "bundle_malformed" == refusal.reason.code
    assert refusal.refused is not None
    assert [BUNDLE] == [found.key for found in store.list("")]


def test_a_crash_of_the_converter_is_a_refusal(store: FolderStore) -> None:
    """The neighbours go on, and the next sync tries again."""
    refusal = Bench(store, CRASHING).refusal()
    assert ("converter_failed", None) == (refusal.reason.code, refusal.refused)
    assert "ZeroDivisionError" in refusal.reason.message


@pytest.mark.parametrize(
    "attributes", [{"bundle_size": 7}, {"bundle_sha256": sha256(b"other")}], ids=["size", "digest"]
)
def test_a_bundle_that_is_not_its_rows_is_refused(store: FolderStore, attributes: dict[str, Any]) -> None:
    """What the trainer wrote down is checked before anything is parsed."""
    bench = Bench(store, **attributes)
    assert "bundle_mismatch" == bench.refusal().reason.code
    assert 0 == bench.conversions


def test_a_bundle_replaced_meanwhile_is_not_read(store: FolderStore) -> None:
    """Only the bytes that were listed are read."""
    bench = Bench(store)
    listed = bench.listed
    store.replace(BUNDLE, b"other!", expected=store.read(BUNDLE, max_bytes=10))
    outcome = bench.publisher.publish(bench.row, listed, {})
    assert isinstance(outcome, Refused)
    assert ("bundle_changed", 0) == (outcome.reason.code, bench.conversions)


def test_a_bundle_beyond_the_limit_is_not_read(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its listed size is enough to refuse it."""
    monkeypatch.setattr(publish, "MAX_BUNDLE_BYTES", 5)
    assert "bundle_too_large" == Bench(store).refusal().reason.code


def test_the_limit_is_the_readers() -> None:
    """More would be read in vain, less would refuse what could be read."""
    assert container.MAX_BUNDLE_BYTES == publish.MAX_BUNDLE_BYTES


def test_an_empty_bundle_is_refused_unread(store: FolderStore) -> None:
    """As an interrupted upload may leave it."""
    bench = Bench(store, b"")
    assert ("bundle_empty", 0) == (bench.refusal().reason.code, bench.conversions)


def test_a_bundle_that_is_gone_meanwhile_is_told(store: FolderStore) -> None:
    """Listed, then deleted: nobody's fault, and nothing to parse."""
    bench = Bench(store)
    listed = bench.listed
    (Path(store.name) / BUNDLE).unlink()
    outcome = bench.publisher.publish(bench.row, listed, {})
    assert isinstance(outcome, Refused)
    assert ("bundle_missing", 0) == (outcome.reason.code, bench.conversions)


class _ClosedStore(FolderStore):
    """Holds one object that nobody may read."""

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Say so."""
        if key == BUNDLE:
            raise ObjectDeniedError(key, "AccessDenied")
        return super().fetch(key, path, max_bytes=max_bytes, etag=etag)


def test_a_bundle_that_may_not_be_read_costs_its_own_row(tmp_path: Path) -> None:
    """Its own access rules are to blame; the run goes on to others."""
    assert "bundle_denied" == Bench(_ClosedStore(tmp_path)).refusal().reason.code


def test_a_full_disk_stops_the_run(store: FolderStore) -> None:
    """It says nothing about the bundle, so the bundle is not refused."""
    bench = Bench(store)

    def convert(bundle: Path, folder: Path, **names: Any) -> Manifest:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace(bench.publisher, converter=convert).publish(bench.row, bench.listed, {})


def test_conversion_is_private_and_leaves_no_trace(store: FolderStore) -> None:
    """The scratch folder is ours alone, and goes, also when the converter fails."""
    seen: list[tuple[Path, int]] = []
    for bundle in (b"bundle", BROKEN):
        bench = Bench(FolderStore(Path(store.name) / bundle.decode()), bundle)

        def convert(bundle: Path, folder: Path, **names: Any) -> Manifest:
            seen.append((folder, stat.S_IMODE(folder.stat().st_mode)))
            return cheap_converter(bundle, folder, **names)

        replace(bench.publisher, converter=convert).publish(bench.row, bench.listed, {})
    assert [(False, 0o700)] * 2 == [(folder.exists(), mode) for folder, mode in seen]


def flip(path: Path) -> None:
    """Other bytes."""
    path.write_bytes(b"flipped")


def link(path: Path) -> None:
    """A link to a file with the right bytes."""
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def pipe(path: Path) -> None:
    """A pipe, which whoever opens it would wait for."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [flip, link, pipe, Path.unlink])
def test_scratch_files_are_checked(store: FolderStore, damage: Callable[[Path], None]) -> None:
    """Bytes that are not those of the manifest never reach the store; the row is tried again."""
    bench = Bench(store)

    def convert(bundle: Path, folder: Path, **names: Any) -> Manifest:
        manifest = cheap_converter(bundle, folder, **names)
        damage(folder / FILES[0])
        return manifest

    outcome = replace(bench.publisher, converter=convert).publish(bench.row, bench.listed, {})
    assert isinstance(outcome, Refused)
    assert ("converter_failed", None) == (outcome.reason.code, outcome.refused)
    assert FILES[0] in outcome.reason.message
    assert [BUNDLE] == [found.key for found in store.list("")]


class _ForgetfulStore(FolderStore):
    """Says it wrote, and wrote something else."""

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Cut one file."""
        if key.endswith(FILES[0]):
            super().create(key, file.read()[:-1])
        else:
            super().upload(key, file, promised)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """A version that is not there as it was written is never named."""
    bench = Bench(_ForgetfulStore(tmp_path))
    with pytest.raises(UnavailableError, match="read back"):
        bench.publish()
