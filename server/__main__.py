"""`python -m server` serves; `python -m server check` only loads and verifies."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import structlog

from pyfunc.errors import ModelError
from server import exits
from server.check import check
from server.errors import ServerError
from server.serve import serve
from server.settings import Settings
from server.telemetry import configure_logs


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its code; never returns, so that any caller ends with that code."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        settings = Settings.from_environ(os.environ)
        configure_logs(settings.log_level)
        return check(settings) if arguments.command == "check" else serve(settings)
    except (ServerError, ModelError) as error:
        sys.stderr.write(f"server: {error}\n")
        return exits.exit_code(error)
    except Exception:
        structlog.get_logger().exception("server.failed")
        return exits.BUG


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(exits.CONFIGURATION, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m server", description="Serve the mirror's models over REST.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "check"),
        default="serve",
        help="serve, or load and verify every current model and exit (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
