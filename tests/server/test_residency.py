"""What stays in memory: pins, budget, admission, and that what goes is really gone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.catalog import Ref
from server.errors import NotEnoughMemoryError
from server.memory import Memory, kept_bytes, limit_bytes, resident_bytes
from server.mirror import FolderMirror
from server.models import Models
from server.residency import Residency
from server.watch import LAST_RETRY_S, Pace
from tests.aws import ROOT
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, MirrorFolder
from tests.server.conftest import CATEGORY, THREE
from tests.server.reloading import MODEL, serve_current

MIB = 2**20
NAMES = (LINEAR, FOREST, THREE, CATEGORY)


@pytest.fixture
def four(tmp_path: Path, artifacts: Mapping[str, Artifact]) -> tuple[MirrorFolder, list[Ref]]:
    """A model of four versions, the last of them current, and the versions in that order."""
    mirror = MirrorFolder(tmp_path / "mirror")
    for name in NAMES:
        mirror.publish(MODEL, artifacts[name])
    mirror.write_index()
    return mirror, [Ref(MODEL, artifacts[name].version) for name in NAMES]


def held(models: Models) -> set[Ref]:
    """What is in memory."""
    return set(models.catalog.served)


def test_versions_on_demand_keep_to_their_budget(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """The least recently used goes; the current one is never counted; one in use is never dropped."""
    mirror, (first, second, third, current) = four
    sizes = Models(FolderMirror(mirror.root))
    sizes.load_all()
    two = sum(sizes.load(ref).size_bytes for ref in (first, second))
    models = Models(FolderMirror(mirror.root), residency=Residency(on_demand_bytes=two))
    models.load_all()
    models.load(first)
    models.load(second)
    assert {first, second, current} == held(models)
    assert models.ready(str(first)) is not None
    models.load(third)
    assert {first, third, current} == held(models)
    assert {second} == {first, second, third, current} - held(models)


def test_one_version_larger_than_the_budget_is_served_alone(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """The budget is for what waits to be used again, not a reason to refuse."""
    mirror, (first, second, _, current) = four
    models = Models(FolderMirror(mirror.root), residency=Residency(on_demand_bytes=1))
    models.load_all()
    models.load(first)
    models.load(second)
    assert {second, current} == held(models)


def test_pinned_versions_stay(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """By `model_id@version`, over any budget."""
    mirror, (first, second, third, current) = four
    residency = Residency(pins=(str(first),), on_demand_bytes=1)
    models = Models(FolderMirror(mirror.root), residency=residency)
    models.load_all()
    for ref in (first, second, third):
        models.load(ref)
    assert {first, third, current} == held(models)


def test_pinned_versions_are_loaded_at_the_start(
    mirror: MirrorFolder, artifacts: Mapping[str, Artifact]
) -> None:
    """Current or older, though neither is preloaded; the process is not ready before."""
    mirror.publish("third", artifacts[LINEAR])
    mirror.publish("third", artifacts[FOREST])
    mirror.write_index()
    old, new = (Ref("third", artifacts[name].version) for name in (LINEAR, FOREST))
    models = Models(
        FolderMirror(mirror.root), residency=Residency(preload=("other",), pins=("third", str(old)))
    )
    wanted = models.load_all().wanted
    assert {Ref("other", artifacts[LINEAR].version), old, new} == set(wanted) == held(models)
    models.check_ready()


def test_a_pin_of_what_is_not_there_yet_is_followed(
    mirror: MirrorFolder, artifacts: Mapping[str, Artifact]
) -> None:
    """Ready without it, since it may never come; loaded by the next look at the index that has it."""
    late = Ref("late", artifacts[FOREST].version)
    models = Models(
        FolderMirror(mirror.root), residency=Residency(preload=("other",), pins=("nobody", str(late)))
    )
    models.load_all()
    models.check_ready()
    assert {"other"} == {ref.model_id for ref in held(models)}
    mirror.publish("late", artifacts[FOREST])
    mirror.write_index()
    models.refresh()
    assert late in held(models)


def test_with_a_preload_other_models_are_on_demand(
    mirror: MirrorFolder, artifacts: Mapping[str, Artifact]
) -> None:
    """Unless a pin names them, too; their next version is loaded beside the one in use, too."""
    mirror.publish("third", artifacts[LINEAR])
    mirror.write_index()
    residency = Residency(preload=("other",), pins=("third",), on_demand_bytes=1)
    models = Models(FolderMirror(mirror.root), residency=residency)
    models.load_all()
    assert {"other", "third"} == {ref.model_id for ref in held(models)}
    models.load(models.catalog.resolve("broken"))
    mirror.publish("broken", artifacts[FOREST])
    mirror.write_index()
    models.refresh()
    answering = models.ready("broken")
    assert answering is not None
    assert artifacts[FOREST].version == answering.ref.version
    models.load(Ref("broken", artifacts[LINEAR].version))
    assert {"other", "third", "broken"} == {ref.model_id for ref in held(models)}
    assert artifacts[FOREST].version not in {ref.version for ref in held(models)}


def test_a_swapped_out_version_is_freed_when_its_last_request_ends(
    four: tuple[MirrorFolder, list[Ref]],
) -> None:
    """Its native session too: nothing but the request holds it, no cycle waits for the collector."""
    mirror, (first, *_, current) = four
    models = Models(FolderMirror(mirror.root))
    models.load_all()
    request = models.ready(MODEL)
    assert request is not None
    assert current == request.ref
    session = weakref.ref(request.model.engine)
    gc.disable()
    try:
        serve_current(mirror, first.version)
        models.refresh()
        assert {first} == held(models)
        assert session() is not None
        del request
        assert session() is None
    finally:
        gc.enable()


def test_many_swaps_leave_memory_where_it_was(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """Sixty versions loaded and dropped; had they stayed, they would take four times what is allowed."""
    mirror, refs = four
    models = Models(FolderMirror(mirror.root))
    models.load_all()
    largest = 0

    def swap(times: int) -> None:
        nonlocal largest
        for i in range(times):
            serve_current(mirror, refs[i % 2].version)
            models.refresh()
            entry = models.ready(MODEL)
            assert entry is not None
            largest = max(largest, entry.size_bytes)

    swap(10)
    before = resident_bytes()
    swap(60)
    assert resident_bytes() - before < 15 * largest


COPIES = """
import sys
from pathlib import Path

from server.memory import resident_bytes
from server.mirror import FolderMirror
from server.models import Models

def loaded():
    return Models(FolderMirror(Path(sys.argv[1]))).load_all().ready[sys.argv[2]]

first = loaded()
before = resident_bytes()
copies = [loaded().model for _ in range(20)]
print((resident_bytes() - before) / len(copies) / first.size_bytes)
"""
"""A process of its own: in one that has freed much, copies take room the system has given out before."""


def test_sizes_are_estimated_honestly(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """What twenty copies take is near what is said of them: between half and one and a half."""
    mirror, _ = four
    done = subprocess.run(
        [sys.executable, "-c", COPIES, str(mirror.root), MODEL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 0.5 < float(done.stdout.splitlines()[-1]) < 1.5
    assert kept_bytes(2 * MIB) > 2 * MIB


def test_without_room_the_new_version_is_refused_and_the_old_one_stays(
    four: tuple[MirrorFolder, list[Ref]],
) -> None:
    """Nothing of it is read but its manifest; with room again, it is swapped in."""
    mirror, (first, *_, current) = four
    resident = 0
    models = Models(FolderMirror(mirror.root), memory=Memory(100 * MIB, lambda: resident))
    models.load_all()
    resident = 79 * MIB
    serve_current(mirror, first.version)
    assert not models.refresh()
    answering = models.ready(MODEL)
    assert answering is not None
    assert current == answering.ref
    assert "not_enough_memory" == models.catalog.refused[first].code
    assert "degraded" == models.status
    resident = 0
    assert models.refresh()
    assert {first} == held(models)
    assert "healthy" == models.status


def test_what_nobody_pins_makes_room(four: tuple[MirrorFolder, list[Ref]]) -> None:
    """Before anything is refused."""
    mirror, (first, second, *_, current) = four
    models = Models(
        FolderMirror(mirror.root),
        memory=Memory(100 * MIB, lambda: 79 * MIB if first in held(models) else 0),
    )
    models.load_all()
    models.load(first)
    models.load(second)
    assert {second, current} == held(models)


def test_what_is_only_held_on_to_is_given_back_before_a_load_is_refused() -> None:
    """Memory that answers took for a moment is room for a version."""
    held = [90]
    memory = Memory(100, lambda: held[0], lambda: held.__setitem__(0, 10))

    with memory.room_for(60, lambda: False):
        assert [10] == held


def test_a_library_that_is_being_imported_ends_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction log's thread imports pyarrow while versions are loaded: for a moment it is empty."""
    monkeypatch.setitem(sys.modules, "pyarrow", types.ModuleType("pyarrow"))

    with Memory(100, lambda: 0).room_for(60, lambda: False) as nothing:
        assert nothing is None


def test_loads_wait_for_each_other_where_only_one_has_room() -> None:
    """What another takes for a moment comes back; alone, too much is refused at once."""
    memory = Memory(100, lambda: 0)
    inside, finish, done = threading.Event(), threading.Event(), []

    def first() -> None:
        with memory.room_for(60, lambda: False):
            inside.set()
            finish.wait(20)
            done.append("first")

    def second() -> None:
        with memory.room_for(60, lambda: False):
            done.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    finish.set()
    for thread in threads:
        thread.join(20)
    assert ["first", "second"] == done
    with pytest.raises(NotEnoughMemoryError), memory.room_for(81, lambda: False):
        raise AssertionError("it was let in")


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "536870912\n"}, 512 * MIB),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "268435456"}, 256 * MIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_the_limit_is_the_container_s(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    """Of both versions of control groups; without one, the machine's memory."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = limit_bytes(tmp_path / "nowhere")
    assert machine > 512 * MIB
    assert (machine if limit is None else limit) == limit_bytes(tmp_path)


@given(
    st.floats(0.01, 1000), st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0, 1, exclude_max=True)
)
def test_waits_are_bounded_and_spread(interval_s: float, outcomes: list[bool], chance: float) -> None:
    """Well: the interval, a fifth more or less. Failing: never longer than the longer of it and the cap."""
    pace = Pace(interval_s)
    for settled in outcomes:
        wait_s = pace.next_wait_s(settled=settled, chance=chance)
        most = interval_s if settled else max(LAST_RETRY_S, interval_s)
        assert 0 < wait_s <= 1.2 * most
        if settled:
            assert 0.8 * interval_s <= wait_s


def test_failing_waits_grow_and_start_over() -> None:
    """Half a second, one, two …; after a success it begins anew."""
    pace = Pace(10.0)
    waits = [pace.next_wait_s(settled=False, chance=0.5) for _ in range(8)]
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == waits
    assert 10.0 == pace.next_wait_s(settled=True, chance=0.5)
    assert 0.5 == pace.next_wait_s(settled=False, chance=0.5)
