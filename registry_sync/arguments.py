"""What may be asked on the command line; one that cannot be read is an error as every wrong setting is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from registry_sync.diff.findings import FORMATS, Difference
from registry_sync.errors import ConfigurationError
from registry_sync.rows import READY

_MOST_DIGITS = 9


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the arguments, by default the process's; `command` says which command is meant.

    Raises:
        ConfigurationError: they cannot be read.
        SystemExit: they ask for help.
    """
    return _parser().parse_args(argv)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m registry_sync",
        description="Carry registered models to the mirror the server reads.",
    )
    parser.set_defaults(command="sync")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and why")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="of --dry-run (default: %(default)s)"
    )
    parser.add_argument("--model-id", metavar="ID", help="carry over this model only")
    parser.add_argument("--prune", action="store_true", help="withdraw versions whose row is gone")
    parser.add_argument(
        "--allow-withdraw",
        type=_count,
        default=0,
        metavar="N",
        help="withdraw up to N models where the run would refuse to withdraw so many",
    )
    parser.add_argument(
        "--verify", action="store_true", help="look at every stored file's size, however many there are"
    )
    parser.add_argument(
        "--tolerate-quarantine", action="store_true", help="exit 0 although rows are quarantined"
    )
    parser.add_argument("--report", type=_report_file, metavar="FILE", help="also write the JSON report here")
    commands = parser.add_subparsers(title="commands", metavar="{register,diff}")
    _add_register(commands.add_parser("register", help="upload a bundle and write its row"))
    _add_diff(commands.add_parser("diff", help="compare registry, bundles, mirror and server; write nothing"))
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 up, found {text!r}")
    return int(text)


def _report_file(text: str) -> Path:
    """Where a report may be written; said before the work, not after it."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file's name, found a folder: {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, found none: {text!r}")
    return path


def _difference(text: str) -> Difference:
    if text not in list(Difference):
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(Difference)}, found {text!r}")
    return Difference(text)


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="register")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the training job's file")
    parser.add_argument("--model-id", required=True, metavar="ID")
    parser.add_argument("--model-name", default="", metavar="NAME", help="default: the model's id")
    parser.add_argument(
        "--model-version", default="", metavar="VERSION", help="default: from the bundle's digest"
    )
    parser.add_argument("--status", default=READY, help="default: %(default)s")
    parser.add_argument("--created-at", default="", metavar="ISO8601", help="default: now")
    parser.add_argument(
        "--execution-id",
        default="",
        metavar="ID",
        help="default: PIPELINE_EXECUTION_ID, or one derived from the bundle's digest",
    )
    parser.add_argument("--treatment-name", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--outcome-name", action="append", default=[], metavar="NAME", help="repeatable")


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="diff")
    parser.add_argument("--model-id", metavar="ID", help="compare this model only")
    parser.add_argument(
        "--server", default="", metavar="URL", help="also compare what the server there has loaded"
    )
    parser.add_argument("--shallow", action="store_true", help="go by listings; read no file of a version")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        type=_difference,
        metavar="KIND",
        help=f"leave out one kind of difference, repeatable: {', '.join(Difference)}",
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s")
    parser.add_argument("--report", type=_report_file, metavar="FILE", help="also write the JSON report here")
