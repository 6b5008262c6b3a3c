"""Pickles written by hand, one opcode after the other, and the compressions a bundle may come in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROTO, STOP = b"\x80\x04", b"."
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}


def lz4_frame(data: bytes) -> bytes:
    """An LZ4 frame of blocks that are not compressed, as the frame format allows (its specification, 1.6)."""
    blocks = (data[i : i + 2**22] for i in range(0, len(data), 2**22))
    stored = b"".join(struct.pack("<I", len(block) | 2**31) + block for block in blocks)
    return b"\x04\x22\x4d\x18\x60\x70\x73" + stored + bytes(4)


ALL_COMPRESSIONS = COMPRESSIONS | {"lz4": lz4_frame}
"""Those that are read, and the one that is refused."""


def text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    encoded = value.encode()
    return b"\x8c" + struct.pack("<B", len(encoded)) + encoded


def stack_global(module: str, name: str) -> bytes:
    """A name, looked up the modern way."""
    return text(module) + text(name) + b"\x93"


def global_line(module: str, name: str) -> bytes:
    """A name, looked up the old way."""
    return f"c{module}\n{name}\n".encode()


def call(callee: bytes, *args: bytes) -> bytes:
    """Call something with arguments (REDUCE)."""
    return callee + b"(" + b"".join(args) + b"tR"


def bytes_of(data: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(data)) + data


def program(*steps: bytes) -> bytes:
    """A whole pickle."""
    return PROTO + b"".join(steps) + STOP


def code_running(marker: Path, port: int = 9) -> dict[str, bytes]:
    """Pickles that would create `marker`, or connect to the port, if anything of them ran, by family.

    Each is what `pickle.load` would execute; the test suite proves that of the first ones.
    """
    touch = text(f"touch {marker}")
    shell = call(stack_global("os", "system"), touch)
    evaluated = text(f"__import__('os').system('touch {marker}')")
    inner = program(shell)
    return {
        "os.system": program(shell),
        "posix.system": program(call(stack_global("posix", "system"), touch)),
        "old global": program(call(global_line("os", "system"), touch)),
        "builtins.eval": program(call(stack_global("builtins", "eval"), evaluated)),
        "builtins.exec": program(call(stack_global("builtins", "exec"), evaluated)),
        "subprocess": program(call(stack_global("subprocess", "getoutput"), touch)),
        "inst": PROTO + b"(" + touch + b"ios\nsystem\n" + STOP,
        "obj": PROTO + b"(" + stack_global("os", "system") + touch + b"o" + STOP,
        "dotted name": program(call(stack_global("os", "path.os.system"), touch)),
        "name from memo": program(
            text("os") + b"\x94" + text("system") + b"\x94" + b"00" + call(b"h\x00h\x01\x93", touch)
        ),
        "getattr": program(
            call(call(stack_global("builtins", "getattr"), stack_global("os", "path"), text("os")), touch)
        ),
        "methodcaller": program(
            call(
                call(stack_global("operator", "methodcaller"), text("system"), touch), stack_global("os", "x")
            )
        ),
        "partial": program(
            call(call(stack_global("functools", "partial"), stack_global("os", "system"), touch))
        ),
        "resolve_name": program(
            call(call(stack_global("pkgutil", "resolve_name"), text("os:system")), touch)
        ),
        "importlib": program(call(stack_global("importlib", "import_module"), text("antigravity"))),
        "runpy": program(call(stack_global("runpy", "run_path"), touch)),
        "numpy.load": program(call(stack_global("numpy", "load"), touch)),
        "joblib.load": program(call(stack_global("joblib", "load"), touch)),
        "torch.load": program(call(stack_global("torch", "load"), touch)),
        "dill": program(call(stack_global("dill", "loads"), bytes_of(inner))),
        "extension": PROTO + b"\x82\x01" + STOP,
        "persistent id": program(text("os.system") + b"Q"),
        "attrgetter": program(
            call(call(stack_global("operator", "attrgetter"), text("system")), stack_global("os", "path"))
        ),
        "object, then popped": PROTO + b"(" + stack_global("os", "system") + touch + b"o0N" + STOP,
        "called, then built": program(shell + b"}b"),
        "ctypes": program(call(stack_global("ctypes", "CDLL"), b"N")),
        "pty": program(call(stack_global("pty", "spawn"), touch)),
        "cProfile": program(call(stack_global("cProfile", "run"), evaluated)),
        "pydoc": program(call(stack_global("pydoc", "pipepager"), text(""), touch)),
        "uuid": program(call(stack_global("uuid", "_get_command_stdout"), touch)),
        "_osx_support": program(call(stack_global("_osx_support", "_read_output"), touch)),
        "platform": program(call(stack_global("platform", "popen"), touch)),
        "exec": program(
            call(stack_global("os", "execv"), text("/bin/touch"), text("touch") + text(str(marker)) + b"\x86")
        ),
        "environment": program(call(stack_global("os", "getenv"), text("TAUSERVE_SECRET"))),
        "name": program(call(stack_global("socket", "getaddrinfo"), text("canary.invalid"), b"K\x50")),
        "connection": program(
            call(
                stack_global("socket", "create_connection"),
                text("127.0.0.1") + b"M" + struct.pack("<H", port) + b"\x86",
            )
        ),
        "frame that ends early": PROTO + b"\x95" + struct.pack("<Q", 1) + b"N0" + shell + STOP,
        "polyglot": program(shell) + b"PK\x05\x06" + bytes(18),
        "zip": b"PK\x03\x04" + program(shell),
        "7z": b"7z\xbc\xaf\x27\x1c" + program(shell),
        "payload, then cut off": PROTO + shell,
        "payload, then junk": program(shell) + b"\xff" * 64,
        "payload beside a bundle": program(b"}(" + text("model_state") + shell + b"u"),
    }


def planted(marker: Path) -> dict[str, bytes]:
    """Payloads inside what a real bundle carries: a nested storage, an object array, a state."""
    shell = call(stack_global("os", "system"), text(f"touch {marker}"))
    storage = call(stack_global("torch.storage", "_load_from_bytes"), bytes_of(program(shell)))
    tensor = call(
        stack_global("torch._utils", "_rebuild_tensor_v2"),
        storage,
        b"K\x00",
        b"K\x01\x85",
        b"K\x01\x85",
        b"\x89",
    )
    wrapper = stack_global("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}("
    dtype = call(stack_global("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    array = wrapper + text("dtype") + dtype + text("shape") + b"K\x01\x85" + b"ub" + program(shell)
    function = stack_global("econml.utilities", "add_intercept") + b"}" + text("__code__") + shell + b"sb"
    state = (
        stack_global("sklearn.preprocessing._data", "StandardScaler")
        + b")\x81}"
        + text("mean_")
        + shell
        + b"sb"
    )
    transformer = stack_global("sklearn.preprocessing._function_transformer", "FunctionTransformer")
    return {
        "function of a transformer": with_entry(
            "causal_model", transformer + b")\x81}" + text("func") + stack_global("os", "system") + b"sb"
        ),
        "nested torch storage": with_entry(
            "regime_classifier_state", b"}" + text("net.0.weight") + tensor + b"s"
        ),
        "object array": with_entry("causal_model", array),
        "state of a function": with_entry("causal_model", function),
        "state of an estimator": with_entry("causal_model", state),
    }


def with_entry(name: str, value: bytes) -> bytes:
    """A small bundle's frame whose `model_state` has this value under this name."""
    notes: dict[str, Any] = {"feature_columns": ["a"], "training_timestamp": "", "execution_id": ""}
    head = pickle.dumps(notes, protocol=4)[:-1]
    return head + text("model_state") + b"}" + text(name) + value + b"ss" + STOP
