"""Interprets a pickle as data: an opcode machine that can build containers and recorders, nothing else.

Only opcodes that data needs are known; everything else is refused by name. Sizes are compared with the bytes
that are left before anything is allocated, and every step is counted against a budget.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from struct import Struct

from pyfunc.bundle.arrays import as_scalar, read_wrapped_array
from pyfunc.bundle.recorders import Name, Recorded
from pyfunc.bundle.stream import MAX_OPCODES, Budget, Cursor, decode_text
from pyfunc.errors import BundleBudgetError, ForbiddenGlobalError, ForbiddenOpcodeError, MalformedBundleError

MAX_NAME = 256
NEWEST_PROTOCOL = 5
NAMES_OF_OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
MAX_KEY_BITS = 60
"""Python hashes larger ints modulo 2**61 - 1: a million of them can be made to collide."""
MAX_KEY_LENGTH = 8


def read_pickle(
    cursor: Cursor,
    names: Mapping[tuple[str, str], Name],
    budget: Budget,
    *,
    persistent: Callable[[object], object] | None = None,
) -> object:
    """Read one pickle from the cursor, up to and including its STOP.

    Args:
        cursor: where it begins.
        names: every (module, name) pair it may refer to.
        budget: what it may cost.
        persistent: makes sense of BINPERSID; None forbids it.

    Raises:
        ForbiddenGlobalError, ForbiddenOpcodeError, MalformedBundleError, BundleBudgetError: see there.
    """
    return _Machine(cursor, names, budget, persistent).run()


class _Machine:
    def __init__(
        self,
        cursor: Cursor,
        names: Mapping[tuple[str, str], Name],
        budget: Budget,
        persistent: Callable[[object], object] | None,
    ) -> None:
        self.cursor, self.names, self.budget, self.persistent = cursor, names, budget, persistent
        self.stack: list[object] = []
        self.marked: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        cursor, budget = self.cursor, self.budget
        try:
            while True:
                code = cursor.data[cursor.position]
                cursor.position += 1
                budget.opcodes -= 1
                if code == _STOP:
                    return self.pop()
                if budget.opcodes < 0:
                    raise BundleBudgetError("opcodes", limit=MAX_OPCODES, found=MAX_OPCODES + 1)
                step = _STEPS.get(code)
                if step is None:
                    raise ForbiddenOpcodeError(NAMES_OF_OPCODES.get(code, f"0x{code:02x}"))
                step(self)
        except IndexError as exc:  # the stack, the marks or the bytes ran out
            raise MalformedBundleError(f"the pickle breaks off or underflows at {cursor.position}") from exc

    def pop(self) -> object:
        return self.stack.pop()

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[object]:
        elements = self.stack
        self.stack = self.marked.pop()
        return elements

    def number(self, layout: Struct) -> int:
        (value,) = layout.unpack(self.cursor.take(layout.size))
        return int(value)

    def sized(self, layout: Struct) -> memoryview:
        return self.cursor.take(self.number(layout))

    # ---- steps -----------------------------------------------------------------------------------------

    def skip_protocol(self) -> None:
        if (protocol := self.number(_U1)) > NEWEST_PROTOCOL:
            raise MalformedBundleError(f"expected pickle protocol 2 to 5, found {protocol}")

    def skip_frame(self) -> None:
        # Frames only group reads; what counts is the stream of opcodes, between which joblib writes arrays.
        if (size := self.number(_U8)) > self.cursor.left:
            raise MalformedBundleError(f"a frame claims {size} bytes, {self.cursor.left} are left")

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def long1(self) -> None:
        self.push(int.from_bytes(self.sized(_U1), "little", signed=True))

    def double(self) -> None:
        (value,) = _F8.unpack(self.cursor.take(8))
        self.push(value)

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError
        elements = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.push(elements)

    def append(self) -> None:
        value = self.pop()
        self.extend([value])

    def extend(self, values: list[object]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(values)
        elif isinstance(target, Recorded):
            target.elements.extend(values)
        else:
            raise MalformedBundleError(f"elements appended to {type(target).__name__}")

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def set_items(self, flat: list[object]) -> None:
        target = self.stack[-1]
        if len(flat) % 2:
            raise MalformedBundleError("a key without a value")
        pairs = list(zip(map(_key, flat[::2]), flat[1::2], strict=True))
        if type(target) is dict:
            target.update(pairs)
        elif isinstance(target, Recorded):
            target.items.extend(pairs)
        else:
            raise MalformedBundleError(f"items set on {type(target).__name__}")

    def get(self, index: int) -> None:
        try:
            self.push(self.memo[index])
        except KeyError as exc:
            raise MalformedBundleError(f"nothing was remembered as {index}") from exc

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise MalformedBundleError("expected a module and a name as text")
        known = self.names.get((module, name))
        if known is None:
            raise ForbiddenGlobalError(module[:MAX_NAME], name[:MAX_NAME])
        self.push(known)

    def global_line(self) -> None:
        module = self.cursor.line()
        self.name(module, self.cursor.line())

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self) -> None:
        """Record a call (REDUCE) or a construction (NEWOBJ); both have the same stack."""
        args, callee = self.pop(), self.pop()
        if not isinstance(callee, Name) or not isinstance(args, tuple):
            raise MalformedBundleError(f"expected a class and arguments, found {type(callee).__name__}")
        self.push(_bytes(args) if callee in _BYTES else Recorded(callee, args))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if not isinstance(target, Recorded) or target.has_state:
            raise MalformedBundleError(f"a state set on {type(target).__name__}, or set twice")
        target.state, target.has_state = state, True
        if target.name.name == "NumpyArrayWrapper":
            self.stack[-1] = read_wrapped_array(state, self.cursor, self.nested)

    def nested(self) -> object:
        """Read the pickle that joblib writes in the stream for an array of objects."""
        with self.budget.nested_pickle():
            return read_pickle(self.cursor, self.names, self.budget)

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise ForbiddenOpcodeError("BINPERSID")
        self.push(self.persistent(self.pop()))


def _key(value: object) -> object:
    """A key that is safe to hash; a tuple stands as its text.

    Hashing a tuple would overflow the C stack if it is deep enough, and collide if it is made to.
    """
    value = as_scalar(value)
    if isinstance(value, tuple) and len(value) <= MAX_KEY_LENGTH and all(map(_is_plain, value)):
        return str(value)
    if _is_plain(value):
        return value
    raise MalformedBundleError("expected keys of text or small numbers")


def _is_plain(value: object) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= MAX_KEY_BITS
    return value is None or isinstance(value, str | float)


def _bytes(args: tuple[object, ...]) -> bytes:
    """Bytes as protocol 2, which has no opcode for them, writes them: none, or text to be encoded."""
    match args:
        case ():
            return b""
        case (str() as text, str() as encoding) if encoding == "latin1":
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as exc:
                raise MalformedBundleError("expected bytes written as text") from exc
    raise MalformedBundleError("expected text and the encoding latin1")


_BYTES = (Name("_codecs", "encode"), Name("__builtin__", "bytes"))
_U1, _U2, _U4, _I4, _U8, _F8 = (Struct(code) for code in ("<B", "<H", "<I", "<i", "<Q", ">d"))
_STOP = ord(".")
_STEPS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.skip_protocol,
    0x95: _Machine.skip_frame,
    ord("("): _Machine.mark,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number(_I4)),
    ord("K"): lambda m: m.push(m.number(_U1)),
    ord("M"): lambda m: m.push(m.number(_U2)),
    0x8A: _Machine.long1,
    ord("G"): _Machine.double,
    ord("C"): lambda m: m.push(bytes(m.sized(_U1))),
    ord("B"): lambda m: m.push(bytes(m.sized(_U4))),
    0x8E: lambda m: m.push(bytes(m.sized(_U8))),
    0x96: lambda m: m.push(bytes(m.sized(_U8))),
    0x8C: lambda m: m.push(decode_text(m.sized(_U1))),
    ord("X"): lambda m: m.push(decode_text(m.sized(_U4))),
    0x8D: lambda m: m.push(decode_text(m.sized(_U8))),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("a"): _Machine.append,
    # Sets stand as lists, in the order of the file: their elements may not be safe to hash.
    0x8F: lambda m: m.push([]),
    0x90: lambda m: m.extend(m.pop_mark()),
    0x91: lambda m: m.push(m.pop_mark()),
    ord("e"): lambda m: m.extend(m.pop_mark()),
    ord("s"): _Machine.set_item,
    ord("u"): lambda m: m.set_items(m.pop_mark()),
    ord("h"): lambda m: m.get(m.number(_U1)),
    ord("j"): lambda m: m.get(m.number(_U4)),
    ord("q"): lambda m: m.put(m.number(_U1)),
    ord("r"): lambda m: m.put(m.number(_U4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("c"): _Machine.global_line,
    0x93: _Machine.stack_global,
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.persistent_id,
}
