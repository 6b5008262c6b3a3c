"""Arrays and scalars of numpy as a pickle describes them: whitelisted dtypes, sizes checked before use."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyfunc.bundle.recorders import Recorded
from pyfunc.errors import MalformedBundleError, UnsupportedModelError

MAX_DIMENSIONS = 8
MAX_FIELDS = 64
PLAIN_CODES = frozenset(("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"))
OBJECT_CODES = frozenset(("O8", "O4", "O", "|O"))
NATIVE = ("<", "=", "|")
MAX_DESCRIPTION = 64
TEXT_CODE = re.compile(r"U[1-9][0-9]{0,3}")
MAX_TEXTS = 2**16
SURROGATES, MAX_CODE_POINT = (0xD800, 0xDFFF), 0x10FFFF

AnyArray = NDArray[Any]


class Readable(Protocol):
    """Where array bytes stand in the stream."""

    @property
    def left(self) -> int:
        """Bytes that have not been read."""

    def take(self, size: int) -> memoryview:
        """Read so many bytes."""


def read_wrapped_array(state: object, stream: Readable, nested: Callable[[], object]) -> AnyArray | object:
    """Read the array whose bytes joblib 1.6 writes behind its wrapper (`NumpyArrayWrapper.read_array`).

    Args:
        state: of the wrapper.
        stream: positioned behind the wrapper's BUILD.
        nested: reads the pickle that stands there for an array of objects.

    Returns:
        A read-only view of the stream's bytes; for objects, the recorder of the nested pickle.

    Raises:
        MalformedBundleError: the wrapper is none, or promises more bytes than are left.
        UnsupportedModelError: a dtype no bundle has.
    """
    if not isinstance(state, dict):
        raise MalformedBundleError("expected a joblib array wrapper's state")
    if _is_object(state.get("dtype")):
        return nested()
    dtype, shape = decode_dtype(state.get("dtype")), _shape(state.get("shape"))
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.take(stream.take(1)[0])
    return _view(
        stream.take(_size(dtype, shape, stream.left)), dtype, shape, fortran=_is_fortran(state.get("order"))
    )


def as_array(value: object) -> AnyArray:
    """The array a value is or describes, read-only.

    Raises:
        MalformedBundleError: it is none, or its bytes do not fill its shape.
        UnsupportedModelError: a dtype no bundle has.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Recorded) and value.name.name == "_reconstruct":
        match value.state:
            case (_, tuple() as shape, dtype, bool() as fortran, bytes() as data):
                return _checked_view(data, dtype, shape, fortran=fortran)
    if isinstance(value, Recorded) and value.name.name == "_frombuffer":
        match value.args:
            case (bytes() as data, dtype, tuple() as shape, order):
                return _checked_view(data, dtype, shape, fortran=_is_fortran(order))
    raise MalformedBundleError(f"expected an array, found {type(value).__name__}")


def as_texts(value: object) -> tuple[str, ...]:
    """A list, tuple or array that holds text alone.

    Raises:
        MalformedBundleError: it holds anything else.
    """
    elements = value
    if isinstance(value, Recorded) and isinstance(value.state, tuple) and value.state:
        elements = value.state[-1]  # an array of objects
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.size <= MAX_TEXTS:
        elements = items(value)
    if isinstance(elements, list | tuple) and len(elements) <= MAX_TEXTS:
        texts = tuple(as_scalar(element) for element in elements)
        if all(isinstance(text, str) for text in texts):
            return tuple(map(str, texts))
    raise MalformedBundleError(f"expected a list of at most {MAX_TEXTS} texts")


def as_scalar(value: object) -> object:
    """A numpy scalar as a Python number or text; anything else unchanged."""
    if isinstance(value, Recorded) and value.name.name == "scalar":
        match value.args:
            case (dtype, bytes() as data):
                return items(_checked_view(data, dtype, (), fortran=False))
        raise MalformedBundleError("expected a numpy scalar of dtype and bytes")
    return value


def items(array: AnyArray) -> object:
    """An array as lists of Python's own numbers and texts; a scalar without dimensions.

    Raises:
        MalformedBundleError: text outside Unicode, or that UTF-8 cannot hold.
    """
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), dtype="<u4")
        if ((codes >= SURROGATES[0]) & (codes <= SURROGATES[1]) | (codes > MAX_CODE_POINT)).any():
            raise MalformedBundleError("expected text in UTF-32")
    return array.tolist()


def decode_dtype(value: object) -> np.dtype[Any]:
    """The dtype a recorder describes: a native number, text of fixed length, or a record of numbers.

    Raises:
        UnsupportedModelError: any other dtype.
    """
    match value:
        case Recorded(args=(str() as code, *_), state=(int(), str() as order, None, None, None, *_)) if (
            code in PLAIN_CODES or TEXT_CODE.fullmatch(code)
        ) and order in NATIVE:
            return np.dtype(code).newbyteorder("<")
        case Recorded(
            args=(str() as code, *_),
            state=(int(), _, None, tuple() as names, dict() as fields, int() as itemsize, *_),
        ) if code.startswith("V") and len(names) <= MAX_FIELDS:
            return _record_dtype(names, fields, itemsize)
    raise UnsupportedModelError("array dtype", found=_describe(value), supported=sorted(PLAIN_CODES))


def _record_dtype(names: tuple[object, ...], fields: dict[object, object], itemsize: int) -> np.dtype[Any]:
    formats: list[np.dtype[Any]] = []
    offsets: list[int] = []
    for name in names:
        # Anything but text may be too deep to be hashed.
        match fields.get(name) if isinstance(name, str) else None:
            case (Recorded(args=(str() as code, *_)) as inner, int() as offset, *_) if code in PLAIN_CODES:
                formats.append(decode_dtype(inner))
                offsets.append(offset)
            case _:
                raise MalformedBundleError("expected a record of numbers")
    try:
        return np.dtype(
            {
                "names": [str(name) for name in names],
                "formats": formats,
                "offsets": offsets,
                "itemsize": itemsize,
            }
        )
    except (ValueError, TypeError, OverflowError) as exc:
        raise MalformedBundleError("expected fields that fit into their record") from exc


def _is_object(dtype: object) -> bool:
    match dtype:
        case Recorded(args=(str() as code, *_)):
            return code in OBJECT_CODES
    return False


def _is_fortran(order: object) -> bool:
    """Whether the first axis runs fastest; numpy's and joblib's words for it."""
    if isinstance(order, str) and order in {"C", "F"}:
        return order == "F"
    raise MalformedBundleError("array order: expected C or F")


def _describe(value: object) -> str:
    match value:
        case Recorded(args=(str() as code, *_)):
            return code[:MAX_DESCRIPTION]
    return type(value).__name__


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise MalformedBundleError(f"expected a shape of at most {MAX_DIMENSIONS} dimensions")
    if not all(type(size) is int and 0 <= size < 2**48 for size in value):
        raise MalformedBundleError("expected sizes from 0 to 2**48")
    return tuple(value)


def _size(dtype: np.dtype[Any], shape: tuple[int, ...], left: int) -> int:
    size = math.prod(shape) * dtype.itemsize
    if size > left:
        raise MalformedBundleError(f"an array of {size} bytes where {left} are left")
    return size


def _checked_view(data: bytes, dtype: object, shape: tuple[object, ...], *, fortran: bool) -> AnyArray:
    decoded, sizes = decode_dtype(dtype), _shape(shape)
    if _size(decoded, sizes, len(data)) != len(data):
        raise MalformedBundleError(f"an array of shape {sizes} with {len(data)} bytes")
    return _view(memoryview(data), decoded, sizes, fortran=fortran)


def _view(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran: bool) -> AnyArray:
    if not len(data):
        # An empty axis may stand beside one too long to exist; nothing but its emptiness counts.
        return np.empty([min(size, 1) for size in shape], dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
