"""Faults of the machine itself: what is served stays, and nothing is left lying about."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyfunc.index import Index
from registry_sync import exits
from registry_sync.scratch import PREFIX, remove_abandoned, scratch
from tests.registry_sync.cheap import SLOW
from tests.registry_sync.house import House
from tests.registry_sync.test_task import TIMEOUT_S, Home, assert_says
from tests.registry_sync.wired import current_bundles


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One model is served, and a bundle that takes long is registered as its successor; scratch is apart."""
    home = Home(tmp_path, {"TMPDIR": str(tmp_path / "scratch")})
    (tmp_path / "scratch").mkdir()
    home.register(b"bundle", "champion")
    assert 0 == home.run().returncode
    home.register(SLOW, "champion")
    return home


@contextmanager
def converting(home: Home) -> Iterator[subprocess.Popen[str]]:
    """A sync in the middle of a conversion, killed afterwards."""
    with home.start(stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + TIMEOUT_S
        while not list((home.path / "scratch").glob(f"{PREFIX}*/*/bundle")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def names_in(folder: Path) -> list[str]:
    """What stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def left_behind(home: Home) -> list[str]:
    """What stands in the scratch folder."""
    return names_in(home.path / "scratch")


def test_the_next_run_removes_what_a_killed_one_left(home: Home) -> None:
    """Its bundle and its half-written version, and nothing of what others have there."""
    (home.path / "scratch" / "tauserve-somebody-elses").mkdir()
    before = home.index()
    with converting(home):
        pass
    assert 2 == len(left_behind(home))
    home.run("--dry-run")
    assert (["tauserve-somebody-elses"], before) == (left_behind(home), home.index())


def test_a_run_that_goes_on_keeps_its_files(home: Home) -> None:
    """Another one beside it takes them for what they are."""
    with converting(home) as process:
        (folder,) = left_behind(home)
        home.register(b"other", "other")
        assert 0 == home.run("--model-id", "other").returncode
        assert [folder] == left_behind(home)
        assert process.poll() is None


def test_links_and_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    """A link is not followed; a file is not a folder."""
    (tmp_path / "precious").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (tmp_path / f"{PREFIX}file").write_text("precious")
    remove_abandoned(tmp_path)
    assert {"precious", f"{PREFIX}link", f"{PREFIX}file"} == set(names_in(tmp_path))


def test_without_a_place_for_scratch_a_run_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sync without news needs none."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with scratch():
        pass
    assert [] == names_in(tmp_path)


# ---- no file descriptors -------------------------------------------------------------------------------


@contextmanager
def file_descriptors(left: int) -> Iterator[None]:
    """So many more may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)  # the lowest that is free: everything below it is taken
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_file_descriptors(tmp_path: Path) -> None:
    """However few are left: 74 and nothing changed, or all is done."""
    house = House(tmp_path)
    house.add("a", 1, b"a1")
    house.sync()
    house.add("a", 2, b"a2")
    before: Index = house.index()
    found = []
    for left in range(30):
        try:
            with file_descriptors(left):
                house.sync()
        except Exception as error:
            found.append((exits.exit_code(error), house.index() == before))
        else:
            break
    assert {(exits.DISK, True)} == set(found)
    assert {"a": b"a2"} == current_bundles(house.store)


# ---- file systems of the test's own --------------------------------------------------------------------


Mount = Callable[[str], None]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A small file system in memory, and how to mount it anew."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"needs the right to mount: {done.stderr.strip()}")

    mount("size=300k")
    try:
        yield place, mount
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path, mounted: tuple[Path, Mount]) -> Home:
    """The artifacts are on the small file system; one model is served from it."""
    home = Home(
        tmp_path, {"ARTIFACTS_BUCKET": f"{mounted[0]}/artifacts", "TMPDIR": str(tmp_path / "scratch")}
    )
    (tmp_path / "scratch").mkdir()
    home.register(b"bundle", "champion")
    assert 0 == home.run().returncode
    return home


def bundles(mounted: tuple[Path, Mount]) -> dict[str, bytes]:
    """What a reader sees."""
    house = House(mounted[0])
    return current_bundles(house.store)


def test_a_full_disk(small: Home, mounted: tuple[Path, Mount]) -> None:
    """74; the old version is served, scratch is removed, and with room again the run completes."""
    small.register(b"a bundle of some size" * 2000, "champion")
    done = small.run()
    assert_says(done, 74, "free space")
    assert ({"champion": b"bundle"}, []) == (bundles(mounted), left_behind(small))
    mounted[1]("remount,size=10m")
    assert 0 == small.run().returncode
    assert {"champion": b"a bundle of some size" * 2000} == bundles(mounted)


def test_a_read_only_disk(small: Home, mounted: tuple[Path, Mount]) -> None:
    """74 where there is something to write; 0 where there is not."""
    small.register(b"other", "champion")
    mounted[1]("remount,ro")
    assert_says(small.run(), 74, "Read-only")
    assert {"champion": b"bundle"} == bundles(mounted)
    mounted[1]("remount,rw")
    assert 0 == small.run().returncode
    mounted[1]("remount,ro")
    assert 0 == small.run().returncode
    assert {"champion": b"other"} == bundles(mounted)
