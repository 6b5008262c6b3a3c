"""The worker process: converts and certifies bundles for the sync, which never opens one itself.

    python -P -m registry_sync.worker

It says when it is ready, then takes one job a line and answers it with a line; files stand where the job
says. It has no credentials and takes from itself, before it looks at the first bundle, what converting does
not need: the network, other programs, most of memory. The sync looks at what it wrote as at a stranger's.
"""

from __future__ import annotations

import errno
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyfunc.child_process import replies
from pyfunc.confinement import (
    NETWORK_EVENTS,
    PROCESS_EVENTS,
    deny_calls,
    end_with_input,
    give_way,
    limit,
    limit_cpu,
    limit_memory,
    refuse,
)
from pyfunc.errors import ModelError
from registry_sync.certify import LibraryCertifier
from registry_sync.convert import convert_bundle, load_converter
from registry_sync.errors import ConfigurationError

MEMORY = 8 * 2**30
"""Beyond what the libraries took to load; a container's own limit comes first if it is lower."""
CPU_S = 900
"""Of one job; who waits for it gives up before, unless this process gets no processor."""
FILE_SIZE = 2**31
OPEN_FILES = 256
Answer = dict[str, Any]


def main() -> int:
    """Serve jobs until standard input ends."""
    end_with_input()
    answers = replies()
    certifier = LibraryCertifier()
    certifier.prepare()  # the one program it starts, and only now; it loads while the converter does
    try:
        load_converter()
    except ConfigurationError as exc:
        answers.write(json.dumps({"absent": str(exc)}) + "\n")
        return 0
    answers.write(json.dumps({"ready": True, "unfiltered": confine()}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), certifier)) + "\n")
    return 0


def confine() -> str:
    """Take from this process what converting does not need; says why system calls are not filtered, if so."""
    limit_memory(MEMORY)
    limit(resource.RLIMIT_FSIZE, FILE_SIZE)
    limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    limit(resource.RLIMIT_CORE, 0)
    give_way()
    refuse(NETWORK_EVENTS | PROCESS_EVENTS)
    return deny_calls()


def answer(job: dict[str, Any], certifier: LibraryCertifier) -> Answer:
    """Do a job; what goes wrong is told, not raised."""
    jobs: dict[str, Callable[[], Answer]] = {
        "convert": lambda: _convert(job),
        "certify": lambda: _certify(job, certifier),
    }
    limit_cpu(CPU_S)
    try:
        return jobs[job["job"]]()
    except ModelError as exc:
        return {"refused": {"code": exc.code, "message": str(exc)}}
    except MemoryError:
        return {"out_of_memory": True}
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            message = f"expected files of at most {FILE_SIZE} bytes to come of it, found more"
            return {"refused": {"code": "model_too_large", "message": message}}
        return {"os_error": [exc.errno or 0, str(exc)]}
    except Exception as exc:  # a bundle nobody foresaw must not cost its neighbours
        return {"bug": f"{type(exc).__name__}: {exc}"}


def _convert(job: dict[str, Any]) -> Answer:
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
        # The reference may be gone, and this process cannot start another one any more.
        "spent": not certificate.is_final,
    }


if __name__ == "__main__":
    sys.exit(main())
