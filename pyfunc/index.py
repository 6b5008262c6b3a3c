"""The mirror's one mutable object: every served model, every version, and what became of each registry row.

Standard library only, reads and writes nothing; rules are cited by their numbers in `contract.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pyfunc.contract import FORMAT_VERSION, INDEX_KEY, canonical_json, parse_document
from pyfunc.documents import count_field, digest_field, text_field
from pyfunc.errors import MalformedArtifactError


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row is in quarantine: a stable code and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BundleStamp:
    """Which bytes of a bundle a row was last read from: the store's tag for them, size in bytes, sha256.

    While tag and size are unchanged the bundle is not read again.
    """

    etag: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RowState:
    """A registry row as the last sync saw it, with the version it made or the reason why it made none.

    `status` is the row's own word; a refused row keeps it and carries a `reason`. `refused` is a digest over
    the bundle and the converter that refused it: while both are the same it is not tried again.
    """

    model_id: str
    created_at: str
    status: str
    model_name: str = ""
    model_version: str = ""
    execution_id: str = ""
    model_path: str = ""
    version: str | None = None
    bundle: BundleStamp | None = None
    reason: Reason | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version readers may load: its manifest's digest and size, and its certificate if it has one.

    `certificate` is the certificate's digest, which names its file; `certificate_status` is `verified` or
    `unverified`; `certified_with` a digest over the libraries and the code that certified. `files` and `size`
    count what the manifest lists, in all, in bytes; an index of an earlier release does not say.
    """

    manifest_sha256: str
    manifest_size: int
    certificate: str | None = None
    certificate_status: str | None = None
    certified_with: str | None = None
    files: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model's addressable versions by name, and the one that answers for the bare id."""

    current: str
    versions: Mapping[str, PublishedVersion]


@dataclass(frozen=True, slots=True)
class Index:
    """The mirror's one mutable object: every served model and every registry row's state."""

    models: Mapping[str, PublishedModel] = field(default_factory=dict)
    rows: tuple[RowState, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal indexes are equal bytes, so that nothing is written in vain (C9)."""
        rows = sorted(self.rows, key=lambda row: (row.model_id, row.created_at))
        return canonical_json(
            {
                "format_version": FORMAT_VERSION,
                "models": dict(self.models),
                "rows": rows,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an index.

        Raises:
            MalformedArtifactError: a field is missing or mistyped, or `current` names no listed version.
            UnknownFormatError: a newer format.
        """
        document = parse_document(INDEX_KEY, data)
        try:
            models = {str(model_id): _model(raw) for model_id, raw in document["models"].items()}
            rows = tuple(_row(raw) for raw in document["rows"])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise MalformedArtifactError(f"{INDEX_KEY}: expected models and rows, found {exc!r}") from exc
        return cls(models, rows)


def _published(raw: Mapping[str, object]) -> PublishedVersion:
    certificate, status, libraries = (
        raw.get(name) for name in ("certificate", "certificate_status", "certified_with")
    )
    return PublishedVersion(
        digest_field(raw["manifest_sha256"]),
        count_field(raw["manifest_size"]),
        None if certificate is None else digest_field(certificate),
        None if status is None else text_field(status),
        None if libraries is None else digest_field(libraries),
        *(None if raw.get(name) is None else count_field(raw[name]) for name in ("files", "size")),
    )


def _model(raw: Mapping[str, Any]) -> PublishedModel:
    versions = {digest_field(name): _published(version) for name, version in raw["versions"].items()}
    current = text_field(raw["current"])
    if current not in versions:
        raise ValueError("current names no listed version")
    return PublishedModel(current, versions)


def _row(raw: Mapping[str, Any]) -> RowState:
    bundle, reason = raw.get("bundle"), raw.get("reason")
    version, refused = raw.get("version"), raw.get("refused")
    return RowState(
        model_id=text_field(raw["model_id"]),
        created_at=text_field(raw["created_at"]),
        status=text_field(raw["status"]),
        model_name=text_field(raw["model_name"]),
        model_version=text_field(raw["model_version"]),
        execution_id=text_field(raw["execution_id"]),
        model_path=text_field(raw["model_path"]),
        version=None if version is None else digest_field(version),
        bundle=None
        if bundle is None
        else BundleStamp(
            text_field(bundle["etag"]), count_field(bundle["size"]), digest_field(bundle["sha256"])
        ),
        reason=None if reason is None else Reason(text_field(reason["code"]), text_field(reason["message"])),
        refused=None if refused is None else digest_field(refused),
    )
