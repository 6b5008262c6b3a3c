"""How much memory a running server has used at most, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

from tests.server.running import Running


def forget_peak(server: Running) -> float:
    """Let the most memory the process ever used begin at what it uses now; MiB."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return peak_mib(server)


def peak_mib(server: Running) -> float:
    """The most memory since then."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
