"""`python -m server` serves; `check` only loads and verifies; `key` makes an API key."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import structlog

from pyfunc.errors import ModelError
from server import exits
from server.access.callers import ALL
from server.check import check
from server.errors import ServerError
from server.key_command import KeyRequest, print_key
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
        if arguments.command == "key":
            models = tuple(arguments.model or (ALL,))
            rate = arguments.requests_per_minute
            return print_key(KeyRequest(arguments.name, models, arguments.expires, rate))
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
    parser.set_defaults(command="serve")
    commands = parser.add_subparsers(title="commands", metavar="serve | check | key")
    commands.add_parser("serve", help="serve; what no command means").set_defaults(command="serve")
    commands.add_parser("check", help="load and verify every current model, and exit").set_defaults(
        command="check"
    )
    key = commands.add_parser("key", help="make an API key and the entry that accepts it")
    key.set_defaults(command="key")
    key.add_argument("name", metavar="NAME", help="of the client whose key it is")
    key.add_argument(
        "--model", action="append", metavar="ID", help="id or pattern; repeatable (default: all)"
    )
    key.add_argument("--expires", default="", metavar="ISO8601", help="default: never")
    key.add_argument("--requests-per-minute", type=int, metavar="N", help="default: as the server is set")
    return parser


if __name__ == "__main__":
    main()
