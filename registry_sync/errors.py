"""What can go wrong while the registry is carried over: one type each, with its data.

A type says whether trying again can help; `exits.py` holds the table that turns types into exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyfunc.errors import ModelError


class SyncError(Exception):
    """Root of everything `registry_sync` raises on purpose."""


class ConfigurationError(SyncError):
    """A name, path or setting that cannot work; trying again does not help."""


class PermissionDeniedError(SyncError):
    """The credentials or file modes do not allow it, or there are no valid credentials."""


class ObjectDeniedError(PermissionDeniedError):
    """One object may not be read: its own access rules, its key, or the archive it lies in forbid it."""

    def __init__(self, key: str, why: str) -> None:
        self.key = key
        super().__init__(f"{key}: {why}; let this role or user read the object")


class UnavailableError(SyncError):
    """A service did not answer in time, throttled, or failed; the same run may succeed later."""


class DeadlineError(UnavailableError):
    """The run took longer than it may."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"expected the run to end within {seconds:g} s (TAUSERVE_SYNC_DEADLINE_S), found it still going; "
            "what is done is kept, run it again"
        )


class RetryBudgetError(UnavailableError):
    """The services fail so often that asking again and again would only add to their load."""

    def __init__(self, retries: int, answers: int, why: str) -> None:
        self.retries, self.answers, self.why = retries, answers, why
        super().__init__(
            f"gave up after {retries} retries, with {answers} calls answered; the last failure was {why}; "
            "run it again when the services have recovered"
        )


class TokenLostError(SyncError):
    """No state waits for the task token: it timed out, was stopped or answered, or there never was one."""

    def __init__(self, call: str, code: str) -> None:
        self.call, self.code = call, code
        super().__init__(f"{call}: {code}; expected a state that waits for TASK_TOKEN, found none")


class DiskError(SyncError):
    """The disk is full, read-only or broken, or the process is out of file descriptors."""


class WorkerDiedError(SyncError):
    """The process that worked on a bundle ended, or fell silent; the bundle may or may not be to blame."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the process that worked on the bundle gave no answer: {how}")


class WorkerBugError(SyncError):
    """Something nobody foresaw went wrong in a worker process."""


class BundleRefusedError(ModelError):
    """A worker process refuses a bundle, for the reason the `ModelError` of that `code` gives."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class EmptyRegistryError(SyncError):
    """The registry shows no row while the mirror serves models: taken for a fault, not for an order."""

    def __init__(self, registry: str, served: int) -> None:
        self.registry, self.served = registry, served
        super().__init__(
            f"{registry}: expected rows, since the mirror serves {served} model(s), found none; nothing was "
            "changed. Check that this is the right registry; to withdraw a model set its row's status to "
            f"'retired', and if the registry is meant to be empty, run with --allow-withdraw {served}"
        )


class DamagedIndexError(SyncError):
    """The index cannot be read, so nobody knows what is served."""

    def __init__(self, store: str, key: str, why: str) -> None:
        self.store, self.key = store, key
        super().__init__(
            f"{store}/{key}: {why}; nothing was changed, and servers keep what they have loaded. Restore its "
            "last good version; if there is none, remove it: the next sync makes one of the registry's rows, "
            "without the versions whose rows are gone"
        )


class MassWithdrawalError(SyncError):
    """The run would withdraw so much of what is served that it is taken for a fault, not for an order."""

    def __init__(self, withdrawn: Sequence[str], served: int) -> None:
        self.withdrawn, self.served = tuple(withdrawn), served
        shown = ", ".join(self.withdrawn[:10]) + (", ..." if len(self.withdrawn) > 10 else "")  # noqa: PLR2004
        super().__init__(
            f"expected to go on serving most of {served} models, found {len(self.withdrawn)} to withdraw: "
            f"{shown}; nothing was changed. If that is meant, run with --allow-withdraw {len(self.withdrawn)}"
        )


class IndexContendedError(UnavailableError):
    """Other syncs moved the index at every attempt."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(
            f"the index was replaced by another sync at each of {attempts} attempts; nothing was lost, "
            "run the sync again"
        )


class RowExistsError(SyncError):
    """A registry row with this key is there already."""

    def __init__(self, model_id: str, created_at: str) -> None:
        self.model_id, self.created_at = model_id, created_at
        super().__init__(
            f"model {model_id!r} already has another row created at {created_at}; expected a new "
            "timestamp: give another --created-at, or none to use the present time"
        )


class RegistrationRefusedError(SyncError):
    """MLflow's model registry will not have it; the same request will not do better."""


class ForeignModelError(RegistrationRefusedError):
    """A registered model of this name belongs to another mirror."""

    def __init__(self, name: str, *, owner: str, mirror: str) -> None:
        self.name, self.owner, self.mirror = name, owner, mirror
        super().__init__(
            f"registered model {name!r}: expected one of {mirror}, found that {owner} owns it (its tag "
            "tauserve.mirror); use another MLflow server or rename the model"
        )


class StoreError(SyncError):
    """An object of the artifacts store is not as expected."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(f"{key}: {message}")


class InvalidKeyError(StoreError):
    """A key that could lead outside the store."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "expected a relative key without empty parts, '.', '..' or reserved names")


class ObjectMissingError(StoreError):
    """There is no such object."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "expected an object, found none")


class ObjectTooLargeError(StoreError):
    """The object has more bytes than the reader allows; the rest was not read."""

    def __init__(self, key: str, limit: int) -> None:
        self.limit = limit
        super().__init__(key, f"expected at most {limit} bytes, found more")


class ConflictError(StoreError):
    """Somebody else wrote first: the object is there, is gone, or is another than the one expected."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "expected the object unchanged, found that another writer came first")


class FileChangedError(StoreError):
    """What was uploaded of a file is not what was measured of it before."""

    def __init__(self, key: str) -> None:
        super().__init__(
            key, "expected the file as it was measured, got other bytes; register it once it is complete"
        )


class BundleExistsError(ConfigurationError):
    """Another bundle stands where this one should go."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            f"{place}: expected no bundle or this one, found another; give this one another execution id"
        )
