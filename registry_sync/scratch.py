"""Where a run puts its temporary files: one folder, which the next run removes if this one is killed.

A run holds a lock (flock) on its folder, which the kernel lets go when the process dies, however it dies. A
folder whose lock can be had is therefore nobody's. Neither process numbers nor ages are guessed at.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "tauserve-run-"


@contextmanager
def scratch() -> Iterator[None]:
    """Let every temporary file of this process stand in a folder of its own, gone afterwards.

    Where no folder can be made, files go where they went before: a run without news needs none.
    """
    before = tempfile.tempdir
    try:
        root = Path(tempfile.gettempdir())
        remove_abandoned(root)
        folder, lock = _locked_folder(root)
    except OSError:
        yield
        return
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(root: Path) -> None:
    """Remove what killed runs have left."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            lock = _open(folder)
        except OSError:  # another user's, or just removed
            continue
        try:
            if _is_taken(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _is_taken(lock: int) -> bool:
    """Take the lock if nobody holds it; whose run goes on holds its own."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked_folder(root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        try:
            lock = _open(folder)
        except FileNotFoundError:  # taken for an abandoned one before it was locked
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
