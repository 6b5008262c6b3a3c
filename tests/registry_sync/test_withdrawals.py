"""A registry that suddenly says little is taken for a fault: what is served stays unless somebody insists."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_sync.errors import EmptyRegistryError, MassWithdrawalError
from tests.registry_sync.house import House

RETIRE = "UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id IN {}"


def serving(folder: Path, models: int) -> House:
    """A house that serves so many models, named from m0 on."""
    house = House(folder)
    for number in range(models):
        house.add(f"m{number}", 1, f"bundle {number}".encode())
    house.sync()
    return house


def retire(house: House, models: int) -> None:
    """Retire the first models."""
    house.execute(RETIRE.format(str((*(f"m{number}" for number in range(models)), "nobody"))))


@pytest.mark.parametrize(("served", "gone"), [(1, 1), (4, 4), (5, 1), (10, 2), (11, 2)])
def test_up_to_a_fifth_goes_unasked(tmp_path: Path, served: int, gone: int) -> None:
    """And below five models any number."""
    house = serving(tmp_path, served)
    retire(house, gone)
    house.sync()
    assert served - gone == len(house.served())


@pytest.mark.parametrize(("served", "gone"), [(5, 2), (9, 2), (10, 3), (6, 6)])
def test_more_than_a_fifth_changes_nothing(tmp_path: Path, served: int, gone: int) -> None:
    """Not even for the other rows: nothing is converted, nothing is written."""
    house = serving(tmp_path, served)
    retire(house, gone)
    house.add("new", 1, b"new")
    before, writes = house.index(), house.store.calls["write"]
    house.converted.clear()

    with pytest.raises(MassWithdrawalError, match=f"--allow-withdraw {gone}") as caught:
        house.sync()

    assert (gone, served) == (len(caught.value.withdrawn), caught.value.served)
    assert (before, []) == (house.index(), house.converted)
    assert writes == house.store.calls["write"]


def test_who_insists_names_how_many(tmp_path: Path) -> None:
    """One fewer than there are is not enough."""
    house = serving(tmp_path, 5)
    retire(house, 3)
    with pytest.raises(MassWithdrawalError):
        house.sync(allow_withdraw=2)
    house.sync(allow_withdraw=3)
    assert {"m3": 1, "m4": 1} == house.served()


def test_rows_that_are_gone_withdraw_nothing(tmp_path: Path) -> None:
    """C11: only where they are to be pruned are they counted."""
    house = serving(tmp_path, 5)
    house.execute("DELETE FROM registry WHERE model_id <> 'm0'")
    house.sync()
    assert 5 == len(house.served())
    with pytest.raises(MassWithdrawalError):
        house.sync(prune=True)
    house.sync(prune=True, allow_withdraw=4)
    assert {"m0": 1} == house.served()


def test_an_empty_registry_can_be_insisted_on(tmp_path: Path) -> None:
    """Even so nothing is withdrawn because it is absent (C11), unless it is pruned."""
    house = serving(tmp_path, 2)
    house.execute("DELETE FROM registry")
    with pytest.raises(EmptyRegistryError):
        house.sync(prune=True, allow_withdraw=1)
    house.sync(allow_withdraw=2)
    assert 2 == len(house.served())
    house.sync(prune=True, allow_withdraw=2)
    assert {} == house.served()
