"""A filter of system calls that a process puts upon itself, for good (Linux, seccomp-bpf, no library).

It names what is denied, not what is allowed: numerical libraries use whatever they like, and none of it is in
the list. What is denied fails with EPERM, in every thread and through any language's code: sockets, other
programs and processes, signals to others, looking into others' memory, and what leads around the rest.

Sources: `linux/seccomp.h`, `linux/filter.h`, `linux/audit.h`, and the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterable
from struct import pack
from typing import NamedTuple

_DENIED = """
socket 41 198 | connect 42 203 | accept 43 202 | accept4 288 242 | bind 49 200 | listen 50 201
sendto 44 206 | sendmsg 46 211 | sendmmsg 307 269
execve 59 221 | execveat 322 281 | fork 57 - | vfork 58 -
kill 62 129 | tkill 200 130 | rt_sigqueueinfo 129 138 | rt_tgsigqueueinfo 297 240
pidfd_send_signal 424 424 | pidfd_open 434 434 | pidfd_getfd 438 438
ptrace 101 117 | process_vm_readv 310 270 | process_vm_writev 311 271
unshare 272 97 | setns 308 268 | mount 165 40 | pivot_root 155 41 | chroot 161 51
io_uring_setup 425 425 | io_uring_enter 426 426 | io_uring_register 427 427
bpf 321 280 | perf_event_open 298 241 | userfaultfd 323 282 | open_by_handle_at 304 265
add_key 248 217 | request_key 249 218 | keyctl 250 219
kexec_load 246 104 | init_module 175 105 | finit_module 313 273
"""
"""Name, number on x86_64, number on aarch64."""
_CLONE3 = 435
_CLONE_THREAD = 0x10000

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]; little-endian halves.
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
_SET_NO_NEW_PRIVS, _MODE_FILTER, _ALL_THREADS = 38, 1, 1


class _Machine(NamedTuple):
    """An architecture: its word in `linux/audit.h`, its column, and the numbers of three calls."""

    arch: int
    column: int
    seccomp: int
    clone: int
    tgkill: int


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 1, 317, 56, 234),
    "aarch64": _Machine(0xC00000B7, 2, 277, 220, 131),
}


class FilterUnavailableError(Exception):
    """The kernel, or the sandbox around this process, does not take the filter."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def deny() -> None:
    """Put the filter upon all threads of this process, and whatever it starts from now on.

    Raises:
        FilterUnavailableError: it is not in force; nothing has changed but that programs gain no privileges.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None or not hasattr(ctypes.CDLL(None), "prctl"):
        raise FilterUnavailableError(f"no filter for {platform.system()} on {platform.machine()}")
    code = b"".join(_program(machine, os.getpid()))
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise FilterUnavailableError(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if found := libc.syscall(machine.seccomp, _MODE_FILTER, _ALL_THREADS, ctypes.byref(program)):
        why = f"thread {found} has another filter" if found > 0 else os.strerror(ctypes.get_errno())
        raise FilterUnavailableError(f"seccomp: {why}")


def denied_calls(machine: str) -> dict[str, int]:
    """Names and numbers of what is denied on a machine, but for parts of `clone`, `clone3` and `tgkill`."""
    column = _MACHINES[machine].column
    rows = [entry.split() for line in _DENIED.strip().splitlines() for entry in line.split("|")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _program(machine: _Machine, pid: int) -> Iterable[bytes]:
    """The filter's instructions; each jump skips exactly the one or two that follow it."""
    refused = _step(_RETURN, _FAIL_WITH | errno.EPERM)
    yield _step(_LOAD, _ARCH)
    yield _step(_JUMP_EQUAL, machine.arch, then=1)
    yield refused
    yield _step(_LOAD, _NUMBER)
    yield _step(_JUMP_AT_LEAST, _X32, otherwise=1)
    yield refused
    name = next(name for name, known in _MACHINES.items() if known is machine)
    for number in denied_calls(name).values():
        yield _step(_JUMP_EQUAL, number, otherwise=1)
        yield refused
    # glibc then falls back to clone, whose flags can be looked at.
    yield _step(_JUMP_EQUAL, _CLONE3, otherwise=1)
    yield _step(_RETURN, _FAIL_WITH | errno.ENOSYS)
    yield from _only_if(machine.clone, _step(_JUMP_ANY_BIT, _CLONE_THREAD, then=1), refused)
    # abort() sends itself a signal; to others none goes.
    yield from _only_if(machine.tgkill, _step(_JUMP_EQUAL, pid, then=1), refused)
    yield _step(_RETURN, _ALLOW)


def _only_if(call: int, test: bytes, refused: bytes) -> Iterable[bytes]:
    """A call that is allowed where the test of its first argument jumps over the refusal."""
    yield _step(_JUMP_EQUAL, call, otherwise=4)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield test
    yield refused
    yield _step(_RETURN, _ALLOW)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One `struct sock_filter`."""
    return pack("<HBBI", code, then, otherwise, value)
