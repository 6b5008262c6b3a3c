"""Every form of every protocol gives the numbers that MLflow's own scoring code gives of an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mlflow
import pytest
from mlflow.pyfunc import scoring_server

from tests.bundles import LINEAR
from tests.mirrors import Artifact
from tests.server.conftest import CATEGORY, THREE
from tests.server.forms import CSV, FORMS, JSON, SPLIT, Question, as_csv, from_records, question
from tests.server.running import Running

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

ASKED: Mapping[str, Mapping[str, Any]] = {
    "effects": {},
    "intervals": {"confidence": 0.9},
    "a contrast": {"confidence": 0.5, "treatment_from": [0.5], "treatment_to": [2.0]},
}
MODELS = (LINEAR, THREE, CATEGORY)


class MlflowScorer:
    """What answers behind `mlflow models serve`, with the artifacts' own code."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts = artifacts
        self._loaded: dict[str, Any] = {}

    def ask(self, model: str, body: str, kind: str) -> tuple[int, Any]:
        """Status and answer."""
        if model not in self._loaded:
            self._loaded[model] = mlflow.pyfunc.load_model(str(self._artifacts[model].folder))
        loaded = self._loaded[model]
        reply = scoring_server.invocations(body, kind, loaded, loaded.metadata.get_input_schema())
        return reply.status, json.loads(reply.response)


@pytest.fixture(scope="module")
def mlflow_scorer(artifacts: Mapping[str, Artifact]) -> MlflowScorer:
    """MLflow over the artifacts the server serves."""
    return MlflowScorer(artifacts)


def split_form(asked: Question) -> str:
    """MLflow's own favourite form."""
    return json.dumps({**SPLIT["dataframe_split"](asked), "params": dict(asked.params)})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("model", MODELS)
def test_every_form_gives_mlflows_numbers(
    server: Running, mlflow_scorer: MlflowScorer, model: str, asked: str, form: str
) -> None:
    """To the last bit: the parts, their shapes, and the names that were filled in."""
    table = question(model, **ASKED[asked])
    status, answer = mlflow_scorer.ask(model, split_form(table), JSON)
    assert 200 == status

    assert from_records(answer["predictions"]) == FORMS[form](server, table)


@pytest.mark.parametrize("form", SPLIT)
@pytest.mark.parametrize("model", MODELS)
def test_an_invocation_is_answered_word_for_word(
    server: Running, mlflow_scorer: MlflowScorer, model: str, form: str
) -> None:
    """The same JSON document: nulls, arrays, order of columns."""
    # Of a null among the levels, MLflow makes nan in all forms but the tables', and then has no answer.
    asked = question(model, 3 if form.startswith("dataframe") else 1)
    body = json.dumps({**SPLIT[form](asked), "params": {"confidence": 0.9}})
    status, answer = mlflow_scorer.ask(model, body, JSON)

    reply = server.client.post(f"/models/{model}/invocations", content=body, headers={"Content-Type": JSON})

    assert (status, json.dumps(answer)) == (reply.status_code, json.dumps(reply.json()))


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"confidence": 0.0},
        {"confidence": 0},
        {"treatment_from": [0.0], "treatment_to": [1.0], "confidence": 0.0},
        {"treatment_to": [2.0]},
        {"treatment_from": [1]},
        {"treatment_to": [1.0, 2.0, 3.0]},
        {"treatment_from": [0.0, 0.0, 0.0], "treatment_to": [1.0, 1.0, 1.0]},
    ],
    ids=json.dumps,
)
def test_params_mean_what_they_mean_to_mlflow(
    server: Running, mlflow_scorer: MlflowScorer, params: Mapping[str, object] | None
) -> None:
    """At their defaults nothing is asked for; one element means every treatment."""
    body = json.dumps({"dataframe_records": question(THREE).records, "params": params})
    _, answer = mlflow_scorer.ask(THREE, body, JSON)

    reply = server.client.post(f"/models/{THREE}/invocations", content=body, headers={"Content-Type": JSON})

    assert (200, answer) == (reply.status_code, reply.json())


def test_a_table_as_pandas_writes_it_is_mlflows_too(server: Running, mlflow_scorer: MlflowScorer) -> None:
    """CSV with its index and words for missing values."""
    lines = as_csv(question(CATEGORY)).decode().splitlines()
    header, first, second, third = lines
    body = "\r\n".join([f",{header}", f"0,{first}", f"1,NaN{second}", f"2,{third}NA", ""])
    _, answer = mlflow_scorer.ask(CATEGORY, body, CSV)

    reply = server.client.post(f"/models/{CATEGORY}/invocations", content=body, headers={"Content-Type": CSV})

    assert 200 == reply.status_code, reply.text
    assert len(answer["predictions"]) == len(reply.json()["predictions"])
    for wanted, found in zip(answer["predictions"], reply.json()["predictions"], strict=True):
        assert wanted["imputed_features"] == found["imputed_features"]
        # pandas reads some decimals to the neighbour of the number they stand for.
        assert wanted["causal_effects"] == pytest.approx(found["causal_effects"], rel=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda columns, data: (columns[1:], [row[1:] for row in data]),
        lambda columns, data: (columns, []),
        lambda columns, data: (columns + columns[:1], [row + row[:1] for row in data]),
        lambda columns, data: (columns, [row[:-1] for row in data]),
        lambda columns, data: (columns, [[None] * len(row) for row in data]),
    ],
    ids=["a column missing", "no rows", "a column twice", "short rows", "nothing known"],
)
def test_what_mlflow_refuses_is_refused(server: Running, mlflow_scorer: MlflowScorer, change: Any) -> None:
    """With 422 and the one shape instead of MLflow's 400 and its trace."""
    columns, data = change(*_columns_and_data(question(LINEAR)))
    body = json.dumps({"dataframe_split": {"columns": columns, "data": data}})
    with pytest.raises(mlflow.MlflowException):
        mlflow_scorer.ask(LINEAR, body, JSON)

    reply = server.client.post(f"/models/{LINEAR}/invocations", content=body, headers={"Content-Type": JSON})

    assert 422 == reply.status_code, reply.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"dataframe_records": [{"date": "2024-01-01"}]}, "unknown_feature"),
        ({"dataframe_records": [{}], "signature_name": "serving_default"}, "invalid_shape"),
        ({"dataframe_records": [{}], "params": {"confidnce": 0.9}}, "invalid_option"),
        ({"dataframe_records": ["1.5"]}, "invalid_value"),
        ({"dataframe_records": [True]}, "invalid_value"),
    ],
    ids=["a name it drops", "a key it ignores", "a param it ignores", "text it reads", "a boolean it counts"],
)
def test_what_mlflow_makes_up_for_in_silence_is_refused(
    server: Running, mlflow_scorer: MlflowScorer, body: dict[str, Any], code: str
) -> None:
    """Each of these MLflow answers as though nothing were wrong."""
    record, (cell,) = dict(question(LINEAR).records[0]), body["dataframe_records"]
    record |= cell if isinstance(cell, dict) else {next(iter(record)): cell}
    text = json.dumps({**body, "dataframe_records": [record]})
    assert 200 == mlflow_scorer.ask(LINEAR, text, JSON)[0]

    reply = server.client.post(f"/models/{LINEAR}/invocations", content=text, headers={"Content-Type": JSON})

    assert (422, code) == (reply.status_code, reply.json()["error"]["code"])


def _columns_and_data(asked: Question) -> tuple[list[str], list[list[Any]]]:
    return list(asked.columns), [list(row) for row in asked.rows]
