"""Makes the models of a deployment from its settings; loads nothing yet."""

from __future__ import annotations

from server.cache import open_cache
from server.memory import Memory, limit_bytes
from server.mirror import open_mirror
from server.models import Models
from server.residency import Residency
from server.settings import Settings

_ON_DEMAND_SHARE = 4
"""Versions loaded because somebody asked may take one part in so many of the memory."""


def open_models(settings: Settings, *, with_cache: bool = True) -> Models:
    """The models of the settings' mirror.

    Args:
        settings: where the mirror is, and the rules.
        with_cache: whether files that are on disk already may stand for the mirror's.

    Raises:
        MirrorConfigurationError: AWS is not configured, and the mirror is in a bucket.
    """
    rules = settings.loading
    memory_bytes = rules.memory_bytes or limit_bytes()
    cache = open_cache(rules.cache, max_bytes=rules.cache_bytes) if with_cache and rules.cache else None
    return Models(
        open_mirror(settings.places.artifacts),
        residency=Residency(
            rules.preload, rules.pins, rules.on_demand_bytes or memory_bytes // _ON_DEMAND_SHARE
        ),
        cache=cache,
        memory=Memory(memory_bytes),
        refresh_s=rules.refresh_s,
        named={
            "TAUSERVE_PRELOAD": rules.preload,
            "TAUSERVE_PIN": rules.pins,
            "TAUSERVE_DEFAULT_MODEL": (default,) if (default := settings.requests.default_model) else (),
        },
    )
