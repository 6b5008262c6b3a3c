"""Why a model or a version is not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyfunc.errors import MAX_LISTED
from server.errors.root import MAX_NAME, ServerError, mib


class NotReadyError(ServerError):
    """Models are still being loaded."""

    code = "not_ready"

    def __init__(self, waiting: int | None = None, *, unseen: Sequence[str] = ()) -> None:
        if unseen and not waiting:
            listed = ", ".join(repr(name) for name in unseen[:MAX_LISTED])
            super().__init__(
                f"expected all models of TAUSERVE_PRELOAD loaded, found none named {listed}; correct the "
                "name, or register the model and sync"
            )
            return
        what = "the index" if waiting is None else f"{waiting} model(s)"
        super().__init__(f"expected all models loaded, found {what} still loading; try again")


class UnknownModelError(ServerError):
    """No such model or version in the index."""

    code = "unknown_model"

    def __init__(self, reference: str) -> None:
        self.reference = reference[:MAX_NAME]
        super().__init__(f"{self.reference!r}: no such model or version; see GET /models")


class RetiredModelError(ServerError):
    """The registry withdrew the model."""

    code = "model_retired"

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        super().__init__(f"{model_id!r} was retired; see GET /models for those in use")


class QuarantinedModelError(ServerError):
    """The registry has the model, but the sync could publish no version of it."""

    code = "model_quarantined"

    def __init__(self, model_id: str, *, reason_code: str) -> None:
        self.model_id, self.reason_code = model_id, reason_code
        super().__init__(
            f"{model_id} has no version that can be served ({reason_code}); see GET /models for the reason"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """Which model, and the code of its reason."""
        return {"model_id": self.model_id, "reason": self.reason_code}


class ModelRefusedError(ServerError):
    """The version is in the index, but its files cannot be served."""

    code = "model_refused"

    def __init__(self, model_id: str, version: str, *, reason_code: str, reason: str) -> None:
        self.model_id, self.version, self.reason_code = model_id, version, reason_code
        super().__init__(f"{model_id}@{version} is not served: {reason}")

    @property
    def details(self) -> Mapping[str, object]:
        """Which version, and the code of its reason."""
        return {"model_id": self.model_id, "version": self.version, "reason": self.reason_code}


class LoadFailedError(ServerError):
    """Loading stopped in a way nobody foresaw; the log has the trace."""

    code = "load_failed"

    def __init__(self, ref: str, *, found: str) -> None:
        super().__init__(
            f"{ref}: expected files a model can be loaded from, found that loading ends in {found}"
        )


class NotEnoughMemoryError(ServerError):
    """Loading the version could leave the process without memory, so it was not begun."""

    code = "not_enough_memory"

    def __init__(self, *, needed: int, holds: int, most: int) -> None:
        self.needed, self.holds, self.most = needed, holds, most
        super().__init__(
            f"expected room for {mib(needed)}, found {mib(holds)} of {mib(most)} in use; give the process "
            "more memory, or load fewer models (TAUSERVE_PRELOAD)"
        )
