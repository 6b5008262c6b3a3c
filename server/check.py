"""`python -m server check`: load, verify and warm every current model, say how it went, exit."""

from __future__ import annotations

import sys
import time

import orjson

from server import exits
from server.catalog import Catalog, Ref
from server.opening import open_models
from server.settings import Settings


def check(settings: Settings) -> int:
    """Load what a server with these settings would, and print a summary as JSON.

    Golden rows are answered on the way, so a model that passes is warm as well as right.

    Returns:
        The exit code: 0, or that of the refusals.

    Raises:
        ServerError, ArtifactError: the index cannot be read.
    """
    started = time.perf_counter()
    # From the mirror itself: what this machine's disk keeps says nothing of what others will find.
    catalog = open_models(settings, with_cache=False).load_all()
    summary = {
        "models": [_outcome(catalog, ref) for ref in (*catalog.wanted, *_unknown(catalog))],
        "loaded": len(catalog.served),
        "refused": len(catalog.refused),
        "seconds": round(time.perf_counter() - started, 3),
    }
    sys.stdout.write(orjson.dumps(summary, option=orjson.OPT_INDENT_2).decode() + "\n")
    return exits.exit_code_of_all(catalog.refused.values())


def _outcome(catalog: Catalog, ref: Ref) -> dict[str, object]:
    outcome: dict[str, object] = {
        "model_id": ref.model_id,
        "version": ref.version,
        "loaded": ref in catalog.served,
    }
    if (error := catalog.refused.get(ref)) is not None:
        outcome["reason"] = {"code": error.code, "message": str(error)}
    return outcome


def _unknown(catalog: Catalog) -> list[Ref]:
    return [ref for ref in catalog.refused if ref not in catalog.wanted]
