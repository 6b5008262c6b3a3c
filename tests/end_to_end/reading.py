"""A reader in a process of its own: loads the current version and predicts, again and again.

    python -m tests.end_to_end.reading MODEL_ID

reads the mirror its environment names as the server does, and asks it for the expected rows of both samples.
Each line on its standard input is a JSON object of variables to set from now on; the answer is what it has
seen since the last line: counts by sample whose numbers came out, or by what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from functools import lru_cache

import numpy as np

from pyfunc.places import Bucket, Folder, Places
from server.catalog import Ref
from server.index import IndexFollower
from server.memory import Memory
from server.mirror import Mirror, open_mirror
from server.versions import VersionLoader
from tests.bundles import Expected, expected
from tests.end_to_end.deployment import MODELS


@lru_cache(maxsize=1)
def _mirror(place: Bucket | Folder) -> Mirror:
    return open_mirror(place)


def _observe(model_id: str, answers: dict[str, Expected]) -> str:
    mirror = _mirror(Places.from_environ(os.environ).artifacts)
    index = IndexFollower(mirror)
    if (found_index := index.look()) is None:
        raise RuntimeError(str(index.state.error))
    published = found_index.models[model_id]
    ref = Ref(model_id, published.current)
    loader = VersionLoader(mirror, None, Memory())
    model = loader.load(ref, published.versions[ref.version], lambda: False).model
    for name, want in answers.items():
        found = model.predict(want.rows).effects
        size = np.maximum(np.abs(want.effects), np.median(np.abs(want.effects)))
        if float((np.abs(found - want.effects) / size).max()) <= 1e-9:
            return name
    return "numbers of neither"


def _watch(model_id: str, seen: Counter[str], lock: threading.Lock) -> None:
    answers = {name: expected(name) for name in MODELS}
    while True:
        try:
            what = _observe(model_id, answers)
        except Exception as exc:  # whatever a reader meets is an observation
            what = f"{type(exc).__name__}: {exc}"
        with lock:
            seen[what] += 1


def report(model_id: str) -> None:
    """Watch, and tell when asked; an observation begun after the question is always among the answer."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()
    threading.Thread(target=_watch, args=(model_id, seen, lock), daemon=True).start()
    for line in sys.stdin:
        os.environ.update(json.loads(line))
        with lock:
            before = sum(seen.values())
        while sum(seen.values()) < before + 2:  # the first of them may have begun before the question
            time.sleep(0.001)
        with lock:
            counts = dict(seen)
            seen.clear()
        sys.stdout.write(json.dumps(counts) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    report(sys.argv[1])
