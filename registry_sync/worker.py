"""The worker process: converts and certifies bundles for the sync, which never opens one itself.

    python -P -m registry_sync.worker

It says when it is ready, then takes one job a line and answers it with a line; files stand in the folders the
job names. It has no credentials, no way to the network and a limit of memory; the sync looks at what it wrote
as at a stranger's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyfunc.child_process import replies
from pyfunc.confinement import NETWORK_EVENTS, give_way, limit_memory, refuse
from pyfunc.errors import ModelError
from registry_sync.certify import LibraryCertifier
from registry_sync.convert import convert_bundle, load_converter
from registry_sync.errors import ConfigurationError

MEMORY = 8 * 2**30
"""Beyond what the libraries took to load."""
Answer = dict[str, Any]


def main() -> int:
    """Serve jobs until standard input ends."""
    answers = replies()
    try:
        load_converter()
    except ConfigurationError as exc:
        answers.write(json.dumps({"absent": str(exc)}) + "\n")
        return 0
    confine()
    answers.write(json.dumps({"ready": True}) + "\n")
    certifier = LibraryCertifier()
    try:
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line), certifier)) + "\n")
    finally:
        certifier.close()
    return 0


def confine() -> None:
    """Take from this process what converting does not need."""
    limit_memory(MEMORY, for_children=False)  # the reference process sets its own
    give_way()
    refuse(NETWORK_EVENTS)


def answer(job: dict[str, Any], certifier: LibraryCertifier) -> Answer:
    """Do a job; what goes wrong is told, not raised."""
    jobs: dict[str, Callable[[], Answer]] = {
        "convert": lambda: _convert(job, certifier),
        "certify": lambda: _certify(job, certifier),
    }
    try:
        return jobs[job["job"]]()
    except ModelError as exc:
        return {"refused": {"code": exc.code, "message": str(exc)}}
    except MemoryError:
        return {"out_of_memory": True}
    except OSError as exc:
        return {"os_error": [exc.errno or 0, str(exc)]}
    except Exception as exc:  # a bundle nobody foresaw must not cost its neighbours
        return {"bug": f"{type(exc).__name__}: {exc}"}


def _convert(job: dict[str, Any], certifier: LibraryCertifier) -> Answer:
    if job["certify"]:
        certifier.prepare()
    convert_bundle(
        Path(job["bundle"]),
        Path(job["folder"]),
        treatment_names=job["treatment_names"],
        outcome_names=job["outcome_names"],
    )
    return {"done": True}


def _certify(job: dict[str, Any], certifier: LibraryCertifier) -> Answer:
    certificate = certifier.certify(Path(job["bundle"]), Path(job["folder"]), job["version"])
    Path(job["certificate"]).write_bytes(certificate.document)
    return {
        "done": True,
        "status": certificate.status.value,
        "reason": certificate.reason,
        "is_final": certificate.is_final,
    }


if __name__ == "__main__":
    sys.exit(main())
