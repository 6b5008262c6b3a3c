"""A worker without libraries: what a bundle's bytes begin with says what becomes of it, and of the worker."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from pyfunc.child_process import replies
from pyfunc.errors import ModelError
from tests.registry_sync.cheap import cheap_converter

HANGING, DYING = b"hanging", b"dying"


def main() -> None:
    """Serve jobs until standard input ends."""
    answers = replies()
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        job = json.loads(line)
        bundle = Path(job["bundle"])
        if bundle.read_bytes().startswith(HANGING):
            time.sleep(3600)
        if bundle.read_bytes().startswith(DYING):
            os._exit(1)
        try:
            cheap_converter(bundle, Path(job["folder"]))
        except ModelError as exc:
            answers.write(json.dumps({"refused": {"code": exc.code, "message": str(exc)}}) + "\n")
        else:
            answers.write(json.dumps({"done": True}) + "\n")


if __name__ == "__main__":
    main()
