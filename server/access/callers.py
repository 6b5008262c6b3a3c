"""Who calls, and what they may."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from server.errors import ModelForbiddenError

ALL = "*"
PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,128}\Z")
"""A model id, of which any part may be `*`: all else that `fnmatch` knows means nothing here."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose credential was accepted.

    Attributes:
        name: the client's name, or a token's subject; for logs and limits.
        credential: the key's id, or `token`; never anything secret.
        models: ids, or patterns with `*`, of the models that may be asked.
        requests_per_minute: how often; None is as often as they like.
        is_token: whether the identity provider named them; a client of ours may have the same name.
    """

    name: str
    credential: str
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    is_token: bool = False

    def may_ask(self, model_id: str) -> bool:
        """Whether the model is within the credential's scope."""
        return ALL in self.models or any(fnmatchcase(model_id, pattern) for pattern in self.models)

    def check(self, model_id: str) -> None:
        """Let pass who may ask the model.

        Raises:
            ModelForbiddenError: it is out of the credential's scope.
        """
        if not self.may_ask(model_id):
            raise ModelForbiddenError(model_id)


ANYONE = Caller("anonymous", "none", models=(ALL,))
"""Where no credentials are configured: on loopback, or where the operator said so."""
