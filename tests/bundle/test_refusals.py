"""Whatever a file holds: it is refused with a typed error, or read; nothing of it ever runs."""

from __future__ import annotations

import pickle
import resource
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfunc.bundle import container, read_bundle
from pyfunc.bundle.contents import Bundle
from pyfunc.bundle.stream import MAX_OPCODES
from pyfunc.errors import (
    BundleBudgetError,
    BundleError,
    BundleTooLargeError,
    ForbiddenGlobalError,
    ForbiddenOpcodeError,
    MalformedBundleError,
    UnsupportedModelError,
)
from tests.bundle import pickles
from tests.bundle.crafted import bundle
from tests.bundles import LINEAR, bundle_bytes

SHAPES = tuple(pickles.code_running(Path("marker"))) + tuple(pickles.planted(Path("marker")))


@pytest.fixture
def memory_cap() -> Iterator[None]:
    """At most 256 MiB more than now: an allocation by a declared size would fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 256 * 2**20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("compression", pickles.ALL_COMPRESSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_program_is_refused_and_does_not_run(shape: str, compression: str, tmp_path: Path) -> None:
    """Every usual pickle shape, in every container; the canary file is not there afterwards."""
    marker = tmp_path / "ran"
    program = (pickles.code_running(marker) | pickles.planted(marker))[shape]

    with pytest.raises(BundleError):
        read_bundle(pickles.ALL_COMPRESSIONS[compression](program))

    assert not marker.exists()


@pytest.mark.parametrize(
    "shape",
    ["os.system", "old global", "builtins.eval", "inst", "obj", "name from memo", "payload, then junk"],
)
def test_the_planted_programs_are_real(shape: str, tmp_path: Path) -> None:
    """The same bytes do run under `pickle.loads`: the test above refuses something."""
    marker = tmp_path / "ran"

    pickle.loads(pickles.code_running(marker)[shape])  # noqa: S301 - that is the point

    assert marker.exists()


def test_a_foreign_name_is_told() -> None:
    """The quarantine's reason names the pair."""
    with pytest.raises(ForbiddenGlobalError) as caught:
        read_bundle(pickles.program(pickles.stack_global("os", "system")))

    assert ("os", "system") == (caught.value.module, caught.value.name)


@pytest.mark.parametrize(
    ("code", "name"),
    [(b"i", "INST"), (b"o", "OBJ"), (b"\x82", "EXT1"), (b"P", "PERSID"), (b"\x97", "NEXT_BUFFER"),
     (b"\x92", "NEWOBJ_EX"), (b"I", "INT"), (b"\x8b", "LONG4"), (b"0", "POP"), (b"2", "DUP"),
     (b"NQ", "BINPERSID")],
)  # fmt: skip
def test_opcodes_without_use_in_data_are_refused_by_name(code: bytes, name: str) -> None:
    """An opcode that is not on the list is not interpreted."""
    with pytest.raises(ForbiddenOpcodeError) as caught:
        read_bundle(pickles.PROTO + code + pickles.STOP)

    assert name == caught.value.opcode


PLAIN = container.unwrap(bundle_bytes(LINEAR))
BOMBS = {
    "memo index": pickles.PROTO + b"Nr" + struct.pack("<I", 2**32 - 1) + b"\x94" * 3 + pickles.STOP,
    "long bytes that are not there": pickles.PROTO + b"\x8e" + struct.pack("<Q", 2**40) + b"x" + pickles.STOP,
    "bytearray that is not there": pickles.PROTO + b"\x96" + struct.pack("<Q", 2**62) + pickles.STOP,
    "text that is not there": pickles.PROTO + b"\x8d" + struct.pack("<Q", 2**63) + pickles.STOP,
    "frame that is not there": pickles.PROTO + b"\x95" + struct.pack("<Q", 2**40) + b"N" + pickles.STOP,
    "deep tuple": pickles.PROTO + b")" + b"\x85" * 1_000_000 + pickles.STOP,
    "deep key": pickles.PROTO + b"})" + b"\x85" * 100_000 + b"Ns" + pickles.STOP,
    "laughs": pickles.PROTO + b"]\x94" + b"(h\x00h\x00h\x00e" * 1_000 + pickles.STOP,
    "marks without end": pickles.PROTO + b"(" * 1_000_000 + pickles.STOP,
    "opcode flood": pickles.PROTO + b"N" * (MAX_OPCODES + 1) + pickles.STOP,
    "zlib bomb": zlib.compress(pickles.PROTO + b"\x8e" + struct.pack("<Q", 2**27) + bytes(2**27), 9),
    "bomb in a bomb": zlib.compress(zlib.compress(bytes(2**24), 9), 9),
}


REASONS: dict[str, type[BundleError]] = {
    "opcode flood": BundleBudgetError,
    "zlib bomb": BundleBudgetError,
    "bomb in a bomb": ForbiddenOpcodeError,
}
"""Of those that are not malformed: for which the reader has to count, or comes to something else first."""


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.usefixtures("memory_cap")
def test_resource_bombs_are_refused_within_bounded_memory(name: str) -> None:
    """Sizes are compared with the bytes that are left, steps with a budget, before anything is allocated."""
    with pytest.raises(REASONS.get(name, MalformedBundleError)):
        read_bundle(BOMBS[name])


@pytest.mark.usefixtures("memory_cap")
def test_what_the_process_has_no_memory_for_is_refused() -> None:
    """Within every budget, and more than there is: nobody's bug."""
    with pytest.raises(BundleTooLargeError):
        read_bundle(pickles.program(b"]" * (MAX_OPCODES - 10)))


@pytest.mark.usefixtures("memory_cap")
def test_an_array_larger_than_its_bytes_is_refused() -> None:
    """A joblib wrapper that promises 2**40 numbers."""
    wrapper = pickles.stack_global("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}("
    dtype = (
        pickles.call(pickles.stack_global("numpy", "dtype"), pickles.text("f8"), b"\x89", b"\x88")
        + b"(K\x03" + pickles.text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )  # fmt: skip
    shape = b"\x8a\x06" + struct.pack("<Q", 2**40)[:6] + b"\x85"
    state = pickles.text("dtype") + dtype + pickles.text("shape") + shape

    with pytest.raises(MalformedBundleError, match="where 9 are left"):
        read_bundle(pickles.program(wrapper + state + b"ub" + bytes(8)))


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"not a bundle", b"\x80", b"\x80\x09.", b"x\x9c", b"\x1f\x8b\x08",
     pickles.program(b"N"), pickles.program(b"}"),
     pickles.program(b"}" + pickles.text("model_state") + b"}s")],
)  # fmt: skip
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    """Other files, cut files, pickles of something else."""
    with pytest.raises(BundleError):
        read_bundle(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (pickles.lz4_frame(PLAIN), "lz4"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "zstd"),
    ],
)
def test_known_containers_that_are_not_read_are_refused_by_name(data: bytes, named: str) -> None:
    """With what is read instead: lz4 is joblib's seventh compression, and needs a library."""
    with pytest.raises(UnsupportedModelError, match=f"container: found {named}.*zlib, gzip, bz2, xz, lzma"):
        read_bundle(data)


def test_a_pickle_cut_anywhere_is_refused() -> None:
    """Between two steps, in a number, in a text."""
    whole = bundle()
    for at in range(len(whole)):
        with pytest.raises(MalformedBundleError):
            read_bundle(whole[:at])


def test_something_behind_the_pickle_is_refused() -> None:
    """Whoever reads on there would read something else."""
    with pytest.raises(MalformedBundleError, match="1 bytes follow the pickle's end"):
        read_bundle(bundle() + b".")


def test_a_frame_that_goes_beyond_the_end_is_refused() -> None:
    """Readers do not agree about what such a file says."""
    framed = pickles.PROTO + b"\x95" + struct.pack("<Q", 2**40)
    with pytest.raises(MalformedBundleError, match="a frame claims"):
        read_bundle(framed + bundle().removeprefix(pickles.PROTO))


def test_something_behind_the_compressed_stream_is_refused() -> None:
    """One file, one reading of it."""
    with pytest.raises(MalformedBundleError, match="follows its end"):
        read_bundle(bundle_bytes(LINEAR) + b"\x00")


def test_a_cut_stream_is_refused() -> None:
    """As a broken download leaves it."""
    with pytest.raises(MalformedBundleError, match="ends before"):
        read_bundle(bundle_bytes(LINEAR)[:-100])


def test_a_file_over_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is looked into."""
    monkeypatch.setattr(container, "MAX_BUNDLE_BYTES", 1_000)

    with pytest.raises(BundleBudgetError) as caught:
        read_bundle(bundle_bytes(LINEAR))

    assert 1_000 == caught.value.limit


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_a_bundle_or_a_bundle_error(edits: list[tuple[int, int]]) -> None:
    """Never a KeyError, TypeError, RecursionError, MemoryError, or a crash."""
    data = bytearray(PLAIN)
    for position, value in edits:
        data[position] = value
    assert_read_or_refused(bytes(data))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 4_000))
def test_bytes_left_out_give_a_bundle_or_a_bundle_error(start: int, size: int) -> None:
    """A hole anywhere, up to the end."""
    assert_read_or_refused(PLAIN[:start] + PLAIN[start + size :])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([bytes([b]) for b in range(256)] + [pickles.text("os"), pickles.text("system")]),
        max_size=40,
    )
)
def test_random_programs_give_a_bundle_error(steps: list[bytes]) -> None:
    """Any sequence of opcodes."""
    with pytest.raises(BundleError):
        read_bundle(pickles.program(*steps))


def assert_read_or_refused(data: bytes) -> None:
    """Read, or a typed refusal."""
    try:
        read = read_bundle(data)
    except BundleError as exc:
        read, code = None, exc.code
        assert code != BundleError.code  # noqa: PT017 - which of the two happens is not the question here
    assert read is None or isinstance(read, Bundle)
