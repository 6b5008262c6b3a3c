"""torch tensors as a pickle carries them: legacy storage bytes, and a dense view on them.

The argument of `torch.storage._load_from_bytes` is what `torch.save` wrote in its legacy layout (torch 2.13
`torch.serialization._legacy_save`): five pickles in a row (magic number, protocol version, system facts, one
persistent reference to a storage, its key list), then an int64 count and the storage's raw bytes.
"""

from __future__ import annotations

import math
from struct import Struct

import numpy as np

from pyfunc.bundle.contents import Float32Array
from pyfunc.bundle.recorders import STORAGE_NAMES, Name, Recorded
from pyfunc.bundle.stream import Budget, Cursor
from pyfunc.bundle.unpickle import read_pickle
from pyfunc.errors import BundleBudgetError, MalformedBundleError, UnsupportedModelError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMENSIONS = 4
MAX_NUMBERS = 2**24
"""Of all tensors of a net: far beyond any real one, and little enough to stand in a graph (64 MiB)."""
_COUNT = Struct("<q")


def read_state(value: object, budget: Budget) -> dict[str, Float32Array]:
    """A state dict as arrays by name; None and an empty one give none.

    Raises:
        MalformedBundleError: not a mapping of names to dense tensors.
        BundleBudgetError: more numbers than a net has.
        UnsupportedModelError: a tensor that is not float32.
    """
    if value is None:
        return {}
    if isinstance(value, Recorded) and value.name.name == "OrderedDict":
        value = dict(value.items)
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise MalformedBundleError("expected a state dict of tensors by name")
    tensors: dict[str, Float32Array] = {}
    total = 0
    for name, tensor in value.items():
        tensors[str(name)] = _tensor(tensor, budget)
        # Tensors may share a storage, so that few bytes would make many numbers.
        total += tensors[str(name)].size
        if total > MAX_NUMBERS:
            raise BundleBudgetError("numbers of a net", limit=MAX_NUMBERS, found=total)
    return tensors


def _tensor(value: object, budget: Budget) -> Float32Array:
    match value:
        case Recorded(
            name=Name(name="_rebuild_tensor_v2"),
            args=(
                Recorded(name=Name(name="_load_from_bytes"), args=(bytes() as data,)),
                int() as offset,
                tuple() as size,
                tuple() as stride,
                *_,
            ),
        ):
            return _view(_storage(data, budget), offset, size, stride)
    raise MalformedBundleError("expected a torch tensor")


def _view(
    storage: Float32Array, offset: int, size: tuple[object, ...], stride: tuple[object, ...]
) -> Float32Array:
    """A contiguous block of the storage; strides that say anything else are refused."""
    sizes = [n for n in size if type(n) is int and 0 < n < 2**31]
    if len(sizes) != len(size) or len(size) > MAX_DIMENSIONS:
        raise MalformedBundleError("expected a tensor of few positive sizes")
    dense = tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))
    # torch gives an axis of length 1 any stride: it is never stepped along.
    if len(stride) != len(dense) or any(
        found != wanted for found, wanted, n in zip(stride, dense, sizes, strict=True) if n > 1
    ):
        raise MalformedBundleError("expected a dense, contiguous tensor")
    count = math.prod(sizes)
    if not 0 <= offset <= len(storage) - count:
        raise MalformedBundleError("expected a tensor that lies in its storage")
    return storage[offset : offset + count].reshape(sizes)


def _storage(data: bytes, budget: Budget) -> Float32Array:
    """The one storage of a legacy file, (count,) float32, read-only."""
    cursor = Cursor(data)
    with budget.nested_pickle():
        magic, protocol, facts = (read_pickle(cursor, STORAGE_NAMES, budget) for _ in range(3))
        reference = read_pickle(cursor, STORAGE_NAMES, budget, persistent=lambda value: value)
        keys = read_pickle(cursor, STORAGE_NAMES, budget)
    little = isinstance(facts, dict) and facts.get("little_endian") is True
    if magic != MAGIC or protocol != PROTOCOL or not little:
        raise MalformedBundleError("expected torch's legacy storage layout, little-endian")
    key, count = _storage_reference(reference)
    if keys != [key]:
        raise MalformedBundleError("expected a key list of the one storage referred to")
    (stored,) = _COUNT.unpack(cursor.take(_COUNT.size))
    if stored != count or cursor.left != 4 * count:
        raise MalformedBundleError(
            f"a storage of {count} numbers with {stored} stored in {cursor.left} bytes"
        )
    return np.frombuffer(cursor.take(cursor.left), dtype="<f4")


def _storage_reference(value: object) -> tuple[str, int]:
    match value:
        case ("storage", Name() as kind, str() as key, str(), int() as count, None) if 0 <= count < 2**40:
            if kind.name != "FloatStorage":
                raise UnsupportedModelError("tensor type", found=kind.name, supported=["FloatStorage"])
            return key, count
    raise MalformedBundleError("expected a reference to one storage")
