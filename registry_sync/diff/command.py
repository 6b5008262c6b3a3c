"""`python -m registry_sync diff`: open the sides, compare, print, exit."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from pyfunc.contract import MODEL_ID
from pyfunc.places import Bucket
from registry_sync.connect import open_source, open_store, read_places
from registry_sync.convert import installed_code
from registry_sync.delivery import deliver
from registry_sync.diff.answers import API_KEY, Server
from registry_sync.diff.gather import Examination, examine
from registry_sync.diff.report import drift_document, render, without
from registry_sync.errors import ConfigurationError
from registry_sync.rows import RegistryRow, RowFault, parse_row
from registry_sync.settings import statuses
from registry_sync.source import Item
from registry_sync.step_functions import Ending


def run_diff(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Ending:
    """Compare, print the report, and end with the exit code that `diff.report` documents.

    Raises:
        SyncError: nothing could be compared.
    """
    model_id = arguments.model_id
    if model_id is not None and not MODEL_ID.match(model_id):
        raise ConfigurationError(f"--model-id: expected the id of a model, found {model_id!r}")
    places = read_places(environ)
    bucket = places.artifacts.name if isinstance(places.artifacts, Bucket) else None
    read_row = partial(_read_row, bucket=bucket, words=statuses(environ))
    examination = Examination(
        open_source(places.registry),
        open_store(places.artifacts),
        read_row,
        installed_code(),
        now=lambda: datetime.now(UTC),
        server=Server(arguments.server, environ.get(API_KEY, "")) if arguments.server else None,
        model_id=model_id,
        shallow=arguments.shallow,
    )
    drift = without(examine(examination), frozenset(arguments.ignore))
    if arguments.format == "json":
        return deliver(drift_document(drift), arguments.report)
    return deliver(drift_document(drift), arguments.report, show=lambda _: render(drift, arguments.format))


def _read_row(
    item: Item, now: datetime, *, bucket: str | None, words: frozenset[str]
) -> RegistryRow | RowFault:
    return parse_row(item, bucket=bucket, now=now, statuses=words)
