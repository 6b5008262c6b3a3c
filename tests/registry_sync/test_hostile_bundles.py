"""Every hostile family, in every compression, through a whole sync with real workers: one run, one worker.

What the reader refuses, and why, is tested beside the reader. Here it is the row that counts: quarantined
with a stable code, its neighbours published, nothing of it run, its cost bounded, its worker at work again.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyfunc.bundle import tensors
from pyfunc.bundle.stream import MAX_OPCODES
from registry_sync.folder import FolderStore
from registry_sync.sqlite import SqliteSource
from tests.aws import ROOT
from tests.bundle import pickles
from tests.bundle.crafted import (
    LEAF,
    Node,
    bundle,
    dtype,
    floats,
    forest,
    get,
    joblib_array,
    linear,
    put,
    scaler,
    sharing,
    stump,
    whole,
)
from tests.bundle.pickles import call, program, stack_global, text
from tests.bundle.test_refusals import BOMBS
from tests.bundles import FOREST, LINEAR, bundle_bytes
from tests.registry_sync.source_conformance import item

pytestmark = pytest.mark.slow

MIB = 2**20
MEMORY_CAP = 1_536 * MIB
"""Of a worker with its libraries, which take some 500 MiB before the first bundle."""
CPU_CAP_S = 10.0
BENIGN = frozenset({"open", "object.__getattr__", "sys._getframe", "resource.setrlimit"})
"""Events of reading a file and of telling an error."""


def named(prefix: str, families: Mapping[str, bytes]) -> dict[str, bytes]:
    """The families under names that are paths."""
    return {f"{prefix}/{name.replace(' ', '-').replace(',', '')}": data for name, data in families.items()}


def code_running(marker: Path, port: int) -> dict[str, bytes]:
    """Families (a) to (h) of code-running pickles in every compression there is."""
    families = pickles.code_running(marker, port) | pickles.planted(marker)
    shell = call(stack_global("os", "system"), text(f"touch {marker}"))
    families["nested torch storage"] = with_net(call(LOADER, pickles.bytes_of(program(shell))))
    return {
        name: data
        for compression, compress in pickles.ALL_COMPRESSIONS.items()
        for name, data in named(
            f"runs/{compression}", {key: compress(value) for key, value in families.items()}
        ).items()
    }


def bomb(compress: Any) -> bytes:
    """128 MiB of zeros in a pickle that says so, as tightly as the compression packs them."""
    packed: bytes = compress(pickles.PROTO + b"\x8e" + struct.pack("<Q", 2**27) + bytes(2**27))
    return packed


def nested_zip() -> bytes:
    """A zip in a zip in a zip."""
    data = bytes(2**22)
    for _ in range(3):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", data)
        data = file.getvalue()
    return data


def resources() -> dict[str, bytes]:
    """Bundles that cost more than they weigh."""
    huge = joblib_array(dtype(text("f8")), (2**31 - 1,), b"")
    return named(
        "costs",
        BOMBS
        | {
            "laughs in notes": bundle(training_results=b"}" + text("x") + sharing(10, 200) + b"s"),
            "ten million opcodes": program(b"N" * 2 * MAX_OPCODES),
            "huge shape": bundle(huge),
            "huge memo": pickles.PROTO + b"Nr\xff\xff\xff\x01.",
            "zlib 1000 to 1": bomb(lambda data: zlib.compress(data, 9)),
            "gzip 1000 to 1": bomb(lambda data: gzip.compress(data, 9)),
            "bz2 1000 to 1": bomb(bz2.compress),
            "xz 1000 to 1": bomb(lzma.compress),
            "lzma 1000 to 1": bomb(lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)),
            "nested zip": nested_zip(),
            "zip of a bomb": zlib.compress(nested_zip() * 2_000, 9),
            "one tree a million times": bundle(
                forest(b"]" + stump() + put(500) + b"a(" + get(500) * 1_000_000 + b"e", b"]")
            ),
        },
    )


def tree(*nodes: Node, count: int | None = None) -> bytes:
    """A forest of one tree."""
    return bundle(forest(b"]" + stump(*nodes, count=count) + b"a", b"]"))


def chain(levels: int) -> list[Node]:
    """A tree that goes down on one side."""
    nodes: list[Node] = []
    for level in range(levels):
        nodes += [(2 * level + 2, 2 * level + 1, 0, 0.5), LEAF]
    return [*nodes, LEAF]


LOADER = stack_global("torch.storage", "_load_from_bytes")


def with_net(
    storage: bytes, size: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85", kind: str = "_rebuild_tensor_v2"
) -> bytes:
    """A bundle that is sound but for its net's one tensor, which is seen through a size and strides."""
    made = call(stack_global("torch._utils", kind), storage, b"K\x00", size, stride, b"\x89")
    net = b"}" + text("net.0.weight") + made + b"s"
    state = b"}" + text("causal_model") + linear() + b"s" + text("regime_classifier_state") + net + b"s"
    return bundle(model_state=state)


def four_numbers() -> bytes:
    """A storage as torch writes it."""
    reference = program(
        b"(", text("storage"), pickles.global_line("torch", "FloatStorage"), text("0"), text("cpu"),
        b"K\x04NtQ",
    )  # fmt: skip
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    heads = b"".join(pickle.dumps(head, protocol=2) for head in (tensors.MAGIC, 1001, facts))
    stored = heads + reference + pickle.dumps(["0"], protocol=2) + struct.pack("<q4f", 4, 1, 2, 3, 4)
    return call(LOADER, pickles.bytes_of(stored))


def semantics() -> dict[str, bytes]:
    """Bundles that say what no model can be."""
    two = {"n_features_in_": b"K\x02", "mean_": floats(0, 0), "scale_": floats(1, 1)}
    return named(
        "says",
        {
            "tree cycle": tree((1, 2, 0, 0.5), (0, 2, 0, 0.5), LEAF),
            "tree that is a graph": tree((1, 1, 0, 0.5), LEAF, LEAF),
            "child out of range": tree((1, 3, 0, 0.5), LEAF, LEAF),
            "child far out of range": tree((1, 2**40, 0, 0.5), LEAF, LEAF),
            "negative child": tree((1, -2, 0, 0.5), LEAF, LEAF),
            "feature that is none": tree((1, 2, 1, 0.5), LEAF, LEAF),
            "node count above": tree((1, 2, 0, 0.5), LEAF, LEAF, count=4),
            "node count below": tree((1, 2, 0, 0.5), LEAF, LEAF, count=2),
            "NaN threshold": tree((1, 2, 0, float("nan")), LEAF, LEAF),
            "depth bomb": tree(*chain(1_000)),
            "scale of 0": bundle(scaler=scaler(n_features_in_=b"K\x01", mean_=floats(0), scale_=floats(0))),
            "feature twice": bundle(feature_columns=b"](" + text("a") * 2 + b"e", scaler=scaler(**two)),
            "sparse tensor": with_net(four_numbers(), kind="_rebuild_sparse_tensor"),
            "aliased tensor": with_net(four_numbers(), stride=b"K\x00\x85"),
            "backward tensor": with_net(four_numbers(), stride=whole(-1) + b"\x85"),
        },
    )


CODES = {
    "costs/bomb-in-a-bomb": "bundle_forbidden_opcode",
    "costs/bytearray-that-is-not-there": "bundle_malformed",
    "costs/deep-key": "bundle_malformed",
    "costs/deep-tuple": "bundle_malformed",
    "costs/frame-that-is-not-there": "bundle_malformed",
    "costs/huge-memo": "bundle_malformed",
    "costs/huge-shape": "bundle_malformed",
    "costs/laughs": "bundle_malformed",
    "costs/long-bytes-that-are-not-there": "bundle_malformed",
    "costs/marks-without-end": "bundle_malformed",
    "costs/memo-index": "bundle_malformed",
    "costs/nested-zip": "model_unsupported",
    "costs/text-that-is-not-there": "bundle_malformed",
    "costs/zip-of-a-bomb": "bundle_forbidden_opcode",
    "says/aliased-tensor": "bundle_malformed",
    "says/backward-tensor": "bundle_malformed",
    "says/sparse-tensor": "bundle_forbidden_global",
}
"""Where the family's own code is not the rule below."""


OPCODES = frozenset(
    {"inst", "name-from-memo", "extension", "persistent-id", "frame-that-ends-early", "zip", "7z"}
)
"""Shapes that meet an opcode without use in data before they name anything."""


def code_of(name: str) -> str:
    """The reason code a row must have."""
    kind, what, *rest = name.split("/")
    if kind == "costs":
        return CODES.get(name, "bundle_over_budget")
    if kind == "says":
        return CODES.get(name, "model_invalid")
    if what == "lz4" or (what == "plain" and rest[0] in {"zip", "7z"}):
        return "model_unsupported"
    return "bundle_forbidden_opcode" if rest[0] in OPCODES else "bundle_forbidden_global"


@dataclass(frozen=True)
class Run:
    """What one sync over all of them left."""

    done: subprocess.CompletedProcess[str]
    report: dict[str, Any]
    records: list[dict[str, Any]]
    processes: int
    connections: int
    marker: Path
    hostile: frozenset[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A registry of every hostile bundle, with sound ones before and behind them, and one sync over it."""
    home = tmp_path_factory.mktemp("hostile")
    marker, witnessed = home / "ran", home / "witness"
    witnessed.mkdir()
    connections: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, connections), daemon=True).start()
        hostile = code_running(marker, listener.getsockname()[1]) | resources() | semantics()
        sound = {
            "a-sound-one": bundle_bytes(LINEAR),
            "n-jobs": bundle(thing_with_jobs()),
            "z-sound-one": bundle_bytes(FOREST),
        }
        store, source = FolderStore(home / "artifacts"), SqliteSource(home / "registry.sqlite")
        for number, (name, data) in enumerate((hostile | sound).items()):
            store.create(f"models/{name}/bundle.pkl", data)
            model_id = name.replace("/", ".")
            source.create(
                item(model_id, f"2026-05-01T00:00:00.{number:06}", model_path=f"models/{name}/bundle.pkl")
            )
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "tests.registry_sync.witness"],
            cwd=ROOT,
            env={
                **kept,
                "TAUSERVE_HOME": str(home),
                "TAUSERVE_WITNESS": str(witnessed),
                "TAUSERVE_WORKERS": "1",
                "TAUSERVE_SECRET": "a secret",
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    files = list(witnessed.iterdir())
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    report = json.loads(done.stdout) if done.stdout else {}
    return Run(done, report, records, len(files), len(connections), marker, frozenset(hostile))


def thing_with_jobs() -> bytes:
    """A sound linear model that asks for a million threads, which nobody here starts."""
    return linear(n_jobs=whole(1_000_000))


def accept(listener: socket.socket, connections: list[object]) -> None:
    """Count who comes."""
    while True:
        try:
            connections.append(listener.accept())
        except OSError:
            return


def test_each_is_quarantined_with_its_code_and_its_neighbours_are_published(run: Run) -> None:
    """Exit 65, no trace, every row accounted for."""
    assert 65 == run.done.returncode, run.done.stderr[-2_000:]
    assert "Traceback" not in run.done.stderr
    assert ["a-sound-one", "n-jobs", "z-sound-one"] == [row["model_id"] for row in run.report["published"]]
    found = {row["model_id"]: row["code"] for row in run.report["quarantined"]}
    wanted = {name.replace("/", "."): code_of(name) for name in run.hostile}
    assert wanted == found
    assert 340 < len(found)


def test_nothing_of_them_ran(run: Run) -> None:
    """No file, connection, look-up, program, look at the environment or import: nothing at all."""
    hostile = [record for record in run.records if record["refused"]]
    assert len(run.hostile) == len(hostile)
    assert (False, 0) == (run.marker.exists(), run.connections)
    strange = [
        (record["refused"], event)
        for record in hostile
        for event in record["events"]
        if event[0] not in BENIGN
    ]
    assert [] == strange
    opened = {event[1] for record in hostile for event in record["events"] if event[0] == "open"}
    assert {"bundle"} == {Path(path).name for path in opened}
    assert {"MLFLOW_DISABLE_TELEMETRY"} >= {name for record in hostile for name in record["looked_at"]}


def test_each_cost_little_and_its_worker_went_on(run: Run) -> None:
    """One process answered all of them, the sound one behind them included."""
    assert 1 == run.processes
    dear = [(record["refused"], record["cpu_s"]) for record in run.records if record["cpu_s"] > CPU_CAP_S]
    assert [] == dear
    assert max(record["memory"] for record in run.records) < MEMORY_CAP
