"""How many processors this process may use: its affinity, and the quota of its container.

>>> available_processors() >= 1
True
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_processors(cgroup: Path = CGROUP) -> int:
    """At least 1; a quota of one and a half processors counts as 2.

    Args:
        cgroup: where the container's control group shows; version 2's `cpu.max`, else version 1's files.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return present if quota is None else max(1, min(present, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Processors' worth of time, None where it is not limited."""
    try:
        if (file := cgroup / "cpu.max").exists():
            time, period = file.read_text().split()
        else:
            time = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        quota = float(time) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such files, or "max" for a time
        return None
    return quota if quota > 0 else None
