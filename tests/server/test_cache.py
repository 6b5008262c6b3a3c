"""Files kept on disk: by digest, verified on use, bounded, shared, and nobody else's to write."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfunc.contract import sha256
from server.cache import DiskCache, open_cache

A, B, C = b"a" * 400, b"b" * 400, b"c" * 400


def opened(folder: Path, max_bytes: int = 1000) -> DiskCache:
    """A cache that may be used."""
    cache = open_cache(folder, max_bytes=max_bytes)
    assert cache is not None
    return cache


def files(folder: Path) -> list[Path]:
    """Everything that is kept."""
    return [path for path in folder.rglob("*") if path.is_file()]


def kept(cache: DiskCache, *data: bytes) -> list[bool]:
    """Which of these are still there."""
    return [cache.get(sha256(one), len(one)) == one for one in data]


def test_what_was_put_is_found_by_digest_and_size_alone(tmp_path: Path) -> None:
    """Whole, by another process too; under another size it is damaged."""
    opened(tmp_path / "c").put(sha256(A), A)
    assert A == opened(tmp_path / "c").get(sha256(A), len(A))
    assert opened(tmp_path / "c").get(sha256(B), len(B)) is None


@pytest.mark.parametrize("damage", ["flipped", "truncated", "grown", "emptied", "another"])
def test_a_damaged_file_is_thrown_away(tmp_path: Path, damage: str) -> None:
    """It counts as absent, is gone afterwards, and can be put anew."""
    cache = opened(tmp_path / "c")
    cache.put(sha256(A), A)
    (path,) = files(tmp_path / "c")
    damaged = {
        "flipped": b"b" + A[1:],
        "truncated": A[:-1],
        "grown": A + b"a",
        "emptied": b"",
        "another": B,
    }
    path.write_bytes(damaged[damage])
    assert cache.get(sha256(A), len(A)) is None
    assert not path.exists()
    cache.put(sha256(A), A)
    assert A == cache.get(sha256(A), len(A))


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    """Two of three fit; what was used last stays."""
    cache = opened(tmp_path / "c")
    for age, data in ((300, A), (200, B)):
        cache.put(sha256(data), data)
        _backdate(tmp_path / "c", data, age)
    assert A == cache.get(sha256(A), len(A))
    cache.put(sha256(C), C)
    assert [True, False, True] == kept(cache, A, B, C)


def test_what_a_start_needs_is_spared(tmp_path: Path) -> None:
    """However long ago it was used."""
    cache = opened(tmp_path / "c")
    cache.spared = lambda: frozenset({sha256(A)})
    for age, data in ((300, A), (200, B)):
        cache.put(sha256(data), data)
        _backdate(tmp_path / "c", data, age)
    cache.put(sha256(C), C)
    assert [True, False, True] == kept(cache, A, B, C)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=600), max_size=12))
def test_the_bound_holds(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    """Whatever is put in whatever order; what is larger than all of it is not kept."""
    folder = tmp_path_factory.mktemp("bound") / "c"
    cache = opened(folder, max_bytes=500)
    for data in contents:
        cache.put(sha256(data), data)
        assert sum(path.stat().st_size for path in files(folder)) <= 500


def test_each_mirror_has_an_index_of_its_own(tmp_path: Path) -> None:
    """The last one that was put; objects are shared, indexes are not."""
    cache = opened(tmp_path / "c")
    cache.put_index("s3://a", b"old")
    cache.put_index("s3://a", b"new\nlines")
    cache.put_index("s3://b", b"other")
    assert (b"new\nlines", b"other") == (cache.get_index("s3://a"), cache.get_index("s3://b"))
    assert cache.get_index("s3://c") is None


@pytest.mark.parametrize("at", [0, 64, 65, -1])
def test_a_damaged_index_is_thrown_away(tmp_path: Path, at: int) -> None:
    """A flipped bit in its digest, between, or in it."""
    cache = opened(tmp_path / "c")
    cache.put_index("s3://a", b"index")
    (path,) = files(tmp_path / "c")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert cache.get_index("s3://a") is None
    assert not path.exists()


def test_nobody_else_may_read_what_is_kept(tmp_path: Path) -> None:
    """0700, whatever the umask."""
    before = os.umask(0)
    try:
        cache = opened(tmp_path / "deep" / "c")
        cache.put(sha256(A), A)
        cache.put_index("s3://a", b"index")
    finally:
        os.umask(before)
    top = tmp_path / "deep" / "c"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (top, *top.rglob("*")) if path.is_dir()}
    assert {0o700} == modes
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in files(top)}


def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    """Whoever can write the index there could choose what is served while the store is down."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    assert open_cache(tmp_path / "c", max_bytes=1000) is None
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_cache(tmp_path / "link", max_bytes=1000) is None
    (tmp_path / "file").write_bytes(b"")
    assert open_cache(tmp_path / "file", max_bytes=1000) is None


def test_a_disk_that_takes_nothing_is_passed_over(tmp_path: Path) -> None:
    """A file stands where a folder should be: nothing is kept, nothing is raised."""
    cache = opened(tmp_path / "c")
    (tmp_path / "c" / "objects").write_bytes(b"")
    (tmp_path / "c" / "indexes").write_bytes(b"")
    cache.put(sha256(A), A)
    cache.put_index("s3://a", b"index")
    assert cache.get(sha256(A), len(A)) is None
    assert cache.get_index("s3://a") is None
    assert [] == list((tmp_path / "c" / "partial").glob("*"))


def test_what_a_killed_process_left_is_cleared_once_it_is_old(tmp_path: Path) -> None:
    """A fresh one may be another process's that is still writing."""
    opened(tmp_path / "c").put(sha256(A), A)
    old, fresh = tmp_path / "c" / "partial" / "old", tmp_path / "c" / "partial" / "fresh"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    opened(tmp_path / "c")
    assert (False, True) == (old.exists(), fresh.exists())


def _backdate(folder: Path, data: bytes, seconds: int) -> None:
    path = folder / "objects" / sha256(data)[:2] / sha256(data)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
