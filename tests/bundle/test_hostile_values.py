"""Values that no trainer writes, in bundles that are sound otherwise: typed refusals within bounds.

Each case is read in a process of its own, under caps on memory and time: what these values did to a reader
that hashes, compares, prints or multiplies what it is given ends a process, not a test.
"""

from __future__ import annotations

import pytest

from tests.bundle.crafted import (
    SHARED,
    bundle,
    dtype,
    floats,
    forest,
    get,
    joblib_array,
    linear,
    outcome,
    put,
    scaler,
    sharing,
    stump,
    whole,
)
from tests.bundle.pickles import PROTO, call, program, stack_global, text

DEEP = b")" + b"\x85" * 1_000_000
"""A tuple in a tuple, a million times: hashing, comparing or printing it overflows the C stack."""

SURROGATE = b"\x8c\x03\xed\xa0\x80"
"""Half a character, which pickle reads and UTF-8 cannot hold."""

COLLIDING = b"".join(b"\x8a\x20" + (i * (2**61 - 1)).to_bytes(32, "little") + b"N" for i in range(1, 60_000))
"""Keys with one hash: Python's is modulo 2**61 - 1."""

ONE = b"K\x01"
FIELD = call(stack_global("numpy", "dtype"), text("V8"), b"\x89", b"\x88")
CATEGORIES = (
    b"}" + text("feature_columns") + b"]" + text("a") + b"as" + text("scaler") + scaler() + b"s"
    + text("categorical_cols") + b"](" + text("s") + put(SHARED) + get(SHARED) * 60_000 + b"es"
    + text("categorical_levels") + b"}" + text("s")
    + b"](" + text("l") + put(SHARED + 1) + get(SHARED + 1) * 60_000 + b"ess"
)  # fmt: skip

CASES: dict[str, tuple[bytes, str]] = {
    "a sound linear model": (bundle(), "Bundle"),
    "a sound forest": (bundle(forest(b"]" + stump() + b"a", b"]")), "Bundle"),
    "dtype that cannot be hashed": (bundle(joblib_array(dtype(b"]"), (1,), b"")), "UnsupportedModelError"),
    "dtype too deep to be hashed": (bundle(joblib_array(dtype(DEEP), (1,), b"")), "UnsupportedModelError"),
    "dtype too deep to be printed": (
        bundle(scaler=scaler(n_features_in_=ONE, mean_=joblib_array(dtype(DEEP), (1,), bytes(8)))),
        "UnsupportedModelError",
    ),
    "dtype of another script's digits": (
        bundle(joblib_array(dtype(text("U1\u0968")), (1,), b"")),
        "UnsupportedModelError",
    ),
    "dtype whose order is an array": (
        bundle(joblib_array(dtype(text("f8"), order=floats(1, 2)), (1,), b"")),
        "UnsupportedModelError",
    ),
    "array whose order is an array": (
        bundle(joblib_array(dtype(text("f8")), (1,), bytes(8), order=floats(1, 2))),
        "MalformedBundleError",
    ),
    "field name that cannot be hashed": (
        bundle(
            joblib_array(FIELD + b"(K\x03" + text("|") + b"N" + b"]\x85" + b"}K\x08K\x01K\x10tb", (1,), b"")
        ),
        "MalformedBundleError",
    ),
    "key too deep to be hashed": (program(b"}" + DEEP + b"Ns"), "MalformedBundleError"),
    "keys that collide": (program(b"}(" + COLLIDING + b"u"), "MalformedBundleError"),
    "count that is an array": (bundle(linear(treatments=floats(1, 2, 3))), "InvalidModelError"),
    "fewer than no columns": (
        bundle(scaler=scaler(n_features_in_=whole(-1), with_mean=b"\x89", with_std=b"\x89")),
        "MalformedBundleError",
    ),
    "regime name too deep to be printed": (
        bundle(training_results=b"}" + text("regime_names") + b"]" + DEEP + b"as"),
        "Bundle",
    ),
    "notes that share": (
        bundle(training_results=b"}" + text("x") + sharing(10, 200) + b"s"),
        "BundleBudgetError",
    ),
    "half a character in a name": (PROTO + text("os") + SURROGATE + b"\x93.", "MalformedBundleError"),
    "half a character in a key": (bundle(training_results=b"}" + SURROGATE + b"Ns"), "MalformedBundleError"),
    "half a character in an array": (
        bundle(feature_columns=joblib_array(dtype(text("U1")), (1,), b"\x00\xd8\x00\x00")),
        "MalformedBundleError",
    ),
    "categories without end": (bundle(encoder=CATEGORIES), "InvalidModelError"),
    "lzma that asks for two gigabytes": (
        b"]\x00\x00\x00\x7f" + b"\xff" * 8 + bytes(40),
        "MalformedBundleError",
    ),
    "one bag a million times": (
        bundle(
            forest(
                b"]" + stump() + b"a",
                b"]" + joblib_array(dtype(text("i4")), (250_000,), bytes(1_000_000)) + put(SHARED)
                + b"a(" + get(SHARED) * 1_000_000 + b"e",
            )
        ),
        "InvalidModelError",
    ),
    "one tree a million times": (
        bundle(forest(b"]" + stump() + put(SHARED) + b"a(" + get(SHARED) * 1_000_000 + b"e", b"]")),
        "BundleBudgetError",
    ),
    "pickles in pickles": (
        bundle(joblib_array(dtype(text("O8")), (1,), PROTO) * 9 + b"N" + b"." * 10),
        "BundleBudgetError",
    ),
    "calls in calls": (
        program(
            b"(" + stack_global("collections", "OrderedDict") + put(SHARED) + get(SHARED) * 200_000
            + b")" + b"R\x85" * 200_000 + b"t"
        ),
        "MalformedBundleError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_value_is_refused_within_bounds(case: str) -> None:
    """No foreign exception, no crash, no hour of work; and the reason can be written down."""
    data, want = CASES[case]

    assert want == outcome(data)
