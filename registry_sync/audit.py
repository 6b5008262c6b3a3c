"""Which published versions are not whole, by a listing alone. Pure.

A listing shows names and sizes: a file that is missing or of another size is found, one whose bytes were
exchanged for as many others is not (`diff` reads them all). Files that do not belong there are none of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyfunc.contract import CODE_FILE, MANIFEST, MLFLOW_FILES, SERVED_FILES, version_prefix
from pyfunc.index import Index, PublishedVersion
from registry_sync.store import ObjectStat

MOST_VERSIONS = 1000
"""Unasked, no more are looked at: a listing has some twenty files of each."""
VersionKey = tuple[str, str]
_FILES = frozenset({*SERVED_FILES, *MLFLOW_FILES})


@dataclass(slots=True)
class _Seen:
    fixed: int = 0
    files: int = 0
    size: int = 0
    manifest_size: int | None = None


def damaged_versions(index: Index, listing: Iterable[ObjectStat]) -> Mapping[VersionKey, str]:
    """What is wrong with which version, by model and version.

    Args:
        index: names the versions.
        listing: every object of theirs; others may be among them.
    """
    published = {
        (model_id, version): entry
        for model_id, model in index.models.items()
        for version, entry in model.versions.items()
    }
    seen = {key: _Seen() for key in published}
    for found in listing:
        _, _, rest = found.key.partition("/")
        model_id, _, rest = rest.partition("/")
        version, _, path = rest.partition("/")
        if (counted := seen.get((model_id, version))) is None:
            continue
        if path == MANIFEST:
            counted.manifest_size = found.size
        elif path in _FILES or CODE_FILE.match(path):
            counted.fixed += path in _FILES
            counted.files += 1
            counted.size += found.size
    return {
        key: f"{version_prefix(*key)}: expected the version as it was published, {wrong}"
        for key, entry in published.items()
        if (wrong := _wrong(entry, seen[key]))
    }


def _wrong(entry: PublishedVersion, seen: _Seen) -> str:
    if seen.manifest_size != entry.manifest_size:
        found = "none" if seen.manifest_size is None else f"one of {seen.manifest_size}"
        return f"with a manifest of {entry.manifest_size} bytes, found {found}"
    if seen.fixed < len(_FILES):
        return f"with the {len(_FILES)} files that each has, found {seen.fixed}"
    # More files than there should be are a question of who put them there, which making the version anew
    # does not answer; an index of an earlier release does not say how many there are.
    if entry.files is not None and seen.files < entry.files:
        return f"with {entry.files} files, found {seen.files}"
    if seen.files == entry.files and seen.size != entry.size:
        return f"with {entry.size} bytes, found {seen.size}"
    return ""
