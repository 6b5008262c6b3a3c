"""The exit codes of every command (sysexits where there is one), and how an error's type picks one.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

OK = 0
"""Done, or nothing to do."""
DATA = 65
"""Some of the data was refused; the rest is done."""
BUG = 70
"""An error nobody foresaw."""
DISK = 74
"""The local disk failed."""
TRANSIENT = 75
"""Something did not answer; safe to try again."""
PERMISSION = 77
"""Something said no."""
CONFIGURATION = 78
"""The command was set up wrong."""
STOPPED = 143
"""Told to stop, and stopped cleanly."""


def exit_code(error: BaseException, table: Mapping[type[BaseException], int]) -> int:
    """The code of the error's type, or of its nearest base class in the table; `BUG` if none is there."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), BUG)
