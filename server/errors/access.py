"""Why a caller is not let in, and what is wrong with the credentials a server is to accept."""

from __future__ import annotations

from collections.abc import Mapping

from server.errors.root import MAX_NAME, ServerError


class UnauthenticatedError(ServerError):
    """No credential, or none that is accepted; which of the two, and why, is for the log alone."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__(
            "expected a valid credential in the header 'Authorization: Bearer ...', found none that is "
            "accepted (missing, wrong or expired); ask the operator for an API key"
        )


class TokenKeysUnavailableError(ServerError):
    """The identity provider's keys are not there, or too old: whose a token is cannot be told now."""

    code = "token_keys_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "expected the identity provider's keys, which tokens are verified with, found none of the last "
            "day; come back later, or use an API key"
        )


class ModelForbiddenError(ServerError):
    """The credential is good, but not for this model."""

    code = "model_forbidden"

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id[:MAX_NAME]
        super().__init__(f"expected a model within the credential's scope, found {self.model_id!r}")


class TooManyRequestsError(ServerError):
    """The credential's allowance, or the address's wrong tries, are used up for now."""

    code = "too_many_requests"

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(f"expected fewer requests a minute; come back in {wait_s:.1f} s")

    @property
    def details(self) -> Mapping[str, object]:
        """When there is an allowance again."""
        return {"retry_after_s": round(self.wait_s, 3)}


class CredentialsError(ServerError):
    """The credentials document, or the certificate, is not one the server can work with."""

    code = "invalid_credentials"

    def __init__(self, problem: str, *, source: str = "") -> None:
        self.problem = problem
        super().__init__(f"credentials: {source}{': ' if source else ''}{problem}")


class CredentialsUnavailableError(ServerError):
    """The credentials cannot be read now."""

    code = "credentials_unavailable"

    def __init__(self, source: str, *, found: str) -> None:
        self.source, self.found = source, found
        super().__init__(
            f"credentials: expected to read {source}, found {found}; check that it is there and that this "
            "process may read it"
        )
