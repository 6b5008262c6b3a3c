"""Ask the demo's model about the last trading day of each year: what did a surprise in rates do then?

    .venv/bin/python examples/ask.py [--url http://127.0.0.1:8080]

Run `make demo` first, and this in another terminal. It shows the client with a pandas table in and out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd
from demo import MODEL_ID
from macro_data import build_table, load_sources

from server.client import Client, ClientError

CONFIDENCE = 0.9


def ends_of_years(features: pd.DataFrame) -> pd.DataFrame:
    """The last row of each year."""
    return features.groupby(features.index.year).tail(1)


def ask(client: Client, states: pd.DataFrame) -> pd.DataFrame:
    """Effects with their intervals, one row for each of the states."""
    answer = client.predict_table(MODEL_ID, states, confidence=CONFIDENCE)
    return answer.drop(columns="imputed_features")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and print; 1 where nobody answers."""
    parser = argparse.ArgumentParser(prog="ask.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="default: %(default)s")
    parser.add_argument("--api-key", help="where the server demands one")
    options = parser.parse_args(arguments)
    states = ends_of_years(build_table(load_sources()).features)
    try:
        with Client(options.url, api_key=options.api_key) as client:
            answer = ask(client, states)
    except ClientError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with pd.option_context("display.width", 160, "display.max_columns", None, "display.precision", 4):
        print(answer.T.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
