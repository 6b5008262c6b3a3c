"""Bundles written by hand that are sound but for one thing, and child processes to read them in."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

from tests.bundle.pickles import call, program, stack_global, text

ROOT = Path(__file__).parents[2]
SHARED = 500
"""A memo number no other part of a crafted bundle uses."""

READ = """
import pathlib, resource, sys
import numpy
from pyfunc.bundle import read_bundle
from pyfunc.contract import canonical_json
from pyfunc.errors import BundleError
in_use = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + {memory}, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
data = sys.stdin.buffer.read()
try:
    bundle = read_bundle(data)
    canonical_json([dict(bundle.training_results), bundle.regime_names, bundle.execution_id])
    print("Bundle")
except BundleError as exc:
    canonical_json(str(exc))  # as the quarantine's reason it must be possible to write it down
    assert len(str(exc)) < 2_000
    print(type(exc).__name__)
"""


def outcome(data: bytes, *, memory: int = 512 * 2**20, seconds: int = 20) -> str:
    """Read a bundle in a process of its own under caps; `Bundle`, or the name of the error.

    Raises:
        subprocess.CalledProcessError: anything but a `BundleError` came out of it, or a cap was met.
    """
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ.format(memory=memory, seconds=seconds)],
        input=data,
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return child.stdout.decode().strip()


def whole(number: int) -> bytes:
    """BININT."""
    return b"J" + struct.pack("<i", number)


def put(index: int) -> bytes:
    """LONG_BINPUT."""
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    """LONG_BINGET."""
    return b"j" + struct.pack("<I", index)


def thing(module: str, name: str, **state: bytes) -> bytes:
    """An object with this state."""
    entries = b"".join(text(key) + value + b"s" for key, value in state.items())
    return stack_global(module, name) + b")\x81}" + entries + b"b"


def dtype(code: bytes, order: bytes = text("<")) -> bytes:
    """A numpy dtype as it is pickled; the code is itself a piece of pickle."""
    made = call(stack_global("numpy", "dtype"), code, b"\x89", b"\x88")
    return made + b"(K\x03" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def joblib_array(kind: bytes, shape: tuple[int, ...], data: bytes, order: bytes = text("C")) -> bytes:
    """An array as joblib writes it, its bytes behind its wrapper."""
    sizes = b"(" + b"".join(map(whole, shape)) + b"t"
    wrapper = stack_global("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}("
    return wrapper + text("dtype") + kind + text("shape") + sizes + text("order") + order + b"ub" + data


def floats(*numbers: float) -> bytes:
    """A vector of float64."""
    return joblib_array(dtype(text("f8")), (len(numbers),), struct.pack(f"<{len(numbers)}d", *numbers))


def linear(treatments: bytes = b")", **more: bytes) -> bytes:
    """A fitted LinearDML of one feature; `treatments` is its `_d_t`, `more` are other attributes."""
    model = thing(
        "econml.sklearn_extensions.linear_model", "StatsModelsLinearRegression", _param=floats(1, 2)
    )
    final = thing("econml.dml.dml", "_FinalWrapper", _model=model, _fit_cate_intercept=b"\x88")
    return _estimator("econml.dml.dml", "LinearDML", final, treatments, **more)


def forest(trees: bytes, slices: bytes) -> bytes:
    """A fitted CausalForestDML of one feature, with these lists of trees and bags."""
    grf = thing(
        "econml.grf.classes", "CausalForest",
        n_outputs_=b"K\x01", n_relevant_outputs_=b"K\x01", estimators_=trees, slices_=slices,
    )  # fmt: skip
    model = thing("econml.grf.classes", "MultiOutputGRF", estimators_=b"]" + grf + b"a")
    final = thing("econml.dml.causal_forest", "_CausalForestFinalWrapper", _model=model)
    inference = thing("econml.inference._inference", "StatsModelsInference", alpha=b"N")
    return _estimator("econml.dml.causal_forest", "CausalForestDML", final, b")", inference)


def _estimator(
    module: str, name: str, final: bytes, treatments: bytes, inference: bytes = b"N", **more: bytes
) -> bytes:
    stage = thing("econml.dml._rlearner", "_ModelFinal", _model_final=final)
    return thing(
        module,
        name,
        _d_t=treatments,
        _d_y=b")",
        _inference=inference,
        _ortho_learner_model_final=stage,
        **more,
    )


Node = tuple[int, int, int, float]
LEAF: Node = (-1, -1, -2, -2.0)


def stump(*nodes: Node, count: int | None = None) -> bytes:
    """A tree of these nodes (left, right, feature, threshold), by default one inner node and two leaves.

    `count` is how many it says it has.
    """
    nodes = nodes or ((1, 2, 0, 0.5), LEAF, LEAF)
    n = len(nodes)
    names = ("left_child", "right_child", "feature", "threshold")
    kinds = ("i8", "i8", "i8", "f8")
    fields = b"}" + b"".join(
        text(name) + dtype(text(kind)) + whole(8 * i) + b"\x86s"
        for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
    )
    record = (
        call(stack_global("numpy", "dtype"), text("V32"), b"\x89", b"\x88")
        + b"(K\x03" + text("|") + b"N(" + b"".join(map(text, names)) + b"t" + fields + b"K\x20K\x01K\x10tb"
    )  # fmt: skip
    packed = b"".join(struct.pack("<qqqd", *node) for node in nodes)
    moments = joblib_array(dtype(text("f8")), (n, 1), struct.pack(f"<{n}d", *[1.0] * n))
    tree = thing(
        "econml.tree._tree", "Tree",
        node_count=whole(n if count is None else count), nodes=joblib_array(record, (n,), packed),
        precond=moments, jac=moments,
    )  # fmt: skip
    return thing("econml.grf._base_grftree", "GRFTree", tree_=tree)


def scaler(**state: bytes) -> bytes:
    """A fitted StandardScaler of one column, or with another state."""
    sound = {"n_features_in_": b"K\x01", "mean_": floats(0), "scale_": floats(1)}
    return thing("sklearn.preprocessing._data", "StandardScaler", **(state or sound))


def bundle(model: bytes | None = None, **parts: bytes) -> bytes:
    """A sound bundle of generation 2 with one feature, but for the parts given."""
    content = {
        "feature_columns": b"]" + text("a") + b"a",
        "scaler": scaler(),
        "versions": b"}",
        "training_results": b"}",
        "model_state": b"}" + text("causal_model") + (model or linear()) + b"s",
    } | parts
    return program(b"}" + b"".join(text(key) + value + b"s" for key, value in content.items()))


def array(value: bytes) -> bytes:
    """A bundle whose estimator is an array written like this."""
    return bundle(value)


def sharing(levels: int, width: int) -> bytes:
    """Lists that hold the list before them many times: few bytes, width ** levels elements."""
    first = b"]" + put(SHARED)
    rest = (b"](" + get(SHARED + i) * width + b"e" + put(SHARED + i + 1) for i in range(levels))
    return b"(" + first + b"".join(rest) + b"t"
