"""Runs the web server: one worker on one socket, until it is told to stop."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import structlog

from server import exits
from server.access.access import Access
from server.errors import AddressError
from server.models import Models
from server.observer import Observer, open_observer
from server.opening import open_models
from server.settings import Settings
from server.tls import Certificate, certificate_of

INDEX_WAIT_S = 2.0
COLLECTED_EVERY = 50_000
"""Objects. Requests leave no cycles behind, but with hundreds of them under way Python's default, 700, has
the collector look at them all, again and again: a quarter of the time."""


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; requests under way are finished first.

    Returns:
        The exit code: 0 after a clean stop, that of the refusals if a pipeline waits and there are some.

    Raises:
        SettingError: the address is open to everyone and nobody said that this is meant.
        AddressError: the address cannot be listened on.
        ServerError, ArtifactError: a pipeline waits and the index cannot be read.
    """
    settings.check_exposure()
    access, certificate = Access.of(settings.access), certificate_of(settings.access)
    # The web server raises the signal again once it has stopped: then, too, it means a clean exit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    log, execution = structlog.get_logger(), settings.execution
    listener = bind(settings.host, settings.port)
    models = open_models(settings)
    observer = open_observer(settings, models)
    log.info(
        "server.starting",
        host=settings.host,
        tls=certificate is not None,
        open_to_everyone=not settings.access.has_credentials,
        port=settings.port,
        execution_mode=execution.mode,
        pipeline_execution_id=execution.execution_id,
        execution_start_time=execution.start_time,
    )
    if execution.is_pipeline and (refused := models.load_all().refused):
        log.error("server.refused", reason="a model failed to load and a pipeline waits for all of them")
        return exits.exit_code_of_all(refused.values())
    watched: list[Observer | Models | Access | Certificate] = [observer, models, access]
    watched += [certificate] if certificate else []
    for part in watched:
        part.start()
    try:
        _run(settings, models, access, observer, certificate, listener)
    finally:
        for part in watched:
            part.stop()
        log.info("server.stopped")
    return exits.OK


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything is loaded.

    Raises:
        AddressError: it is in use, not ours, or not an address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise AddressError(host, port, found=exc.strerror or str(exc)) from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise AddressError(host, port, found=exc.strerror or str(exc)) from exc
    return listener


def _run(
    settings: Settings,
    models: Models,
    access: Access,
    observer: Observer,
    certificate: Certificate | None,
    listener: socket.socket,
) -> None:
    import uvicorn  # noqa: PLC0415 - `check` needs no web stack; here the models load meanwhile

    from server.app import create_app  # noqa: PLC0415
    from server.edge.limits import limits_of  # noqa: PLC0415
    from server.edge.server import EdgeServer  # noqa: PLC0415

    gc.set_threshold(COLLECTED_EVERY, *gc.get_threshold()[1:])
    gc.freeze()  # libraries, which stay: to look through them took a twelfth of a second
    # Who connects at once should find the list; a store that hangs must not keep /live waiting.
    models.wait_for_index(INDEX_WAIT_S)
    application = create_app(settings, models, access, observer)
    config = uvicorn.Config(
        application.asgi,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        timeout_graceful_shutdown=settings.drain_s,
    )
    EdgeServer(config, limits_of(settings), observer.metrics, application.fast_path).run(sockets=[listener])


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(exits.OK)
