"""One request's bytes to its answer's bytes: pure functions that know no web framework.

A dialect is a way to ask and be answered in JSON; tables (CSV, Arrow, Parquet) are read and written alike in
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import Prediction
from pyfunc.errors import NonFiniteAnswerError, UnknownFeatureError
from pyfunc.features import Columns, Encoded, Listed, MissingPolicy
from pyfunc.model import HybridCausalModel
from pyfunc.query import POINT, EffectQuery, effect_query, signature_query
from server.codecs import Lists, PredictRequest, Record, check_form, encode_answer, parse_predict
from server.errors import MissingColumnError
from server.far import blame, warnings_of
from server.footprint import answering_bytes, parsing_bytes, writing_bytes
from server.media import Format
from server.memory import Room
from server.options import merge_options, missing_policy, parse_query
from server.protocols.arrow import TableLimits, read_table
from server.protocols.arrow_answer import write_table
from server.protocols.columns import answer_columns
from server.protocols.csv_table import read_csv
from server.protocols.mlflow import encode_predictions, parse_invocation
from server.stages import Stage, Stopwatch

T = TypeVar("T")
QueryReader = Callable[[int, Mapping[str, object]], EffectQuery]
"""How many treatments there are and the options to what is asked of the effects."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment decides for every request; `tables` holds Arrow and Parquet to their own limits."""

    missing: MissingPolicy
    max_rows: int
    tables: TableLimits = TableLimits(max_rows=10**6, max_bytes=64 * 2**20)


class Incoming(NamedTuple):
    """A body, the format it is in, and the one its answer is wanted in."""

    body: bytes
    query_string: bytes = b""
    format: Format = Format.JSON
    answer: Format = Format.JSON


class Question(NamedTuple):
    """A request whose every rule is met: what the model is to be asked.

    Attributes:
        encoded: the records.
        query: what is asked of the effects.
        beyond: (n, d), which values are not typical of the training rows; None if all are.
    """

    encoded: Encoded
    query: EffectQuery
    beyond: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, and what it was made of."""

    body: bytes
    question: Question
    prediction: Prediction
    format: Format = Format.JSON


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way to ask in JSON.

    Attributes:
        parse: a body and the most rows it may have to records and params.
        query: makes a question of the options.
        write: the answer.
        asks_for_all: whether every feature needs a column, as MLflow's signature demands.
    """

    parse: Callable[..., PredictRequest]
    query: QueryReader
    write: Callable[[HybridCausalModel, Question, Prediction], bytes]
    asks_for_all: bool


def answer(
    model: HybridCausalModel,
    request: Incoming,
    policy: Policy,
    dialect: Dialect,
    *,
    watch: Stopwatch,
    room: Room,
) -> Answer:
    """Answer one request.

    Raises:
        RequestTooLargeError, NoRoomNowError: it would take too much memory.
        NonFiniteAnswerError: a record leads the model to NaN or infinity.
        OutOfRangeError: so does one that is far from the training data.
        ServerError, ModelError: as `read`.
    """
    question = read(model, request, policy, dialect, watch, room)
    prediction = ask(model, question)
    watch.lap(Stage.INFER)
    make_room(request.answer, model, question, room)
    if request.answer is Format.JSON:
        return Answer(dialect.write(model, question, prediction), question, prediction)
    columns, warnings = answer_columns(prediction, question.encoded), warnings_of(model, question)
    body = write_table(columns, len(question.encoded.x), request.answer, warnings)
    return Answer(body, question, prediction, request.answer)


def read(
    model: HybridCausalModel,
    request: Incoming,
    policy: Policy,
    dialect: Dialect,
    watch: Stopwatch,
    room: Room,
) -> Question:
    """Read a request and hold it against every rule.

    Raises:
        RequestTooLargeError, NoRoomNowError: it would take too much memory.
        InvalidJsonError, InvalidTableError: the body is not what its type says.
        TooManyRowsError, InflationError: more than the policy allows.
        RecordError: no valid record; MissingColumnError: not all features, where the dialect asks for all.
        OptionError: an option that is unknown, given twice, or that the model cannot follow.
    """
    if request.format is not Format.JSON:
        query, encoded = _read_table(model, request, policy, dialect, watch, room)
        return pose(model, encoded, query, watch)
    room.take(parsing_bytes(Format.JSON, len(request.body)))
    records, query, missing = _read_json(model, request, policy, dialect, watch)
    room.take(answering_bytes(model, len(records), query))
    encoded = _known(model.schema.encode_records, records, missing)
    if dialect.asks_for_all:
        _check_columns(model, set().union(*records))
    return pose(model, encoded, query, watch)


def _read_table(
    model: HybridCausalModel,
    request: Incoming,
    policy: Policy,
    dialect: Dialect,
    watch: Stopwatch,
    room: Room,
) -> tuple[EffectQuery, Encoded]:
    """What a table asks; its columns are gone once they are encoded."""
    schema, body = model.schema, request.body
    if request.format is Format.CSV:
        room.take(parsing_bytes(Format.CSV, len(body)))
        table = read_csv(body, schema, max_rows=policy.max_rows)
    else:
        table = read_table(body, request.format, schema, policy.tables, room)
    watch.lap(Stage.PARSE)
    query, missing = _options(model, {}, request.query_string, policy, dialect.query)
    if dialect.asks_for_all:
        _check_columns(model, table)
    room.take(answering_bytes(model, len(next(iter(table.values()), ())), query))
    return query, schema.encode_columns(table, missing)


def make_room(kind: Format, model: HybridCausalModel, question: Question, room: Room) -> None:
    """Ask for what the answer will take.

    Raises:
        RequestTooLargeError, NoRoomNowError: too much.
    """
    imputed, lacking = question.encoded.imputed, 0
    if imputed.total:
        lacking = int(imputed.per_name @ np.array([len(name.encode()) + 4 for name in imputed.names]))
    room.take(writing_bytes(kind, model, question.query, len(question.encoded.x), lacking))


def read_few(
    model: HybridCausalModel, body: bytes, query_string: bytes, policy: Policy, watch: Stopwatch
) -> tuple[Listed, EffectQuery]:
    """Read a request in the server's own JSON, to be asked together with others.

    Raises:
        As `read`, but for `InvalidValueError` of what no net could be given.
    """
    records, query, missing = _read_json(model, Incoming(body, query_string), policy, NATIVE, watch)
    listed = _known(model.schema.list_records, records, missing)
    watch.lap(Stage.VALIDATE)
    return listed, query


def _read_json(
    model: HybridCausalModel, request: Incoming, policy: Policy, dialect: Dialect, watch: Stopwatch
) -> tuple[list[Record], EffectQuery, MissingPolicy]:
    """Records and what is asked of them."""
    parsed = dialect.parse(request.body, max_rows=policy.max_rows)
    watch.lap(Stage.PARSE)
    query, missing = _options(model, parsed.params, request.query_string, policy, dialect.query)
    return parsed.records, query, missing


def _known(
    encode: Callable[[list[Record], MissingPolicy], T], records: list[Record], missing: MissingPolicy
) -> T:
    """Encode; where names are unknown, see first whether records were meant at all."""
    try:
        return encode(records, missing)
    except UnknownFeatureError:
        check_form(records)
        raise


def question_of(
    model: HybridCausalModel,
    columns: Columns,
    params: Mapping[str, object],
    query_string: bytes,
    policy: Policy,
    watch: Stopwatch,
    room: Room,
) -> Question:
    """Make a question of a table with a column for each feature.

    Raises:
        MissingColumnError, RecordError, OptionError, RequestTooLargeError, NoRoomNowError: as `read`.
    """
    query, missing = _options(model, params, query_string, policy, signature_query)
    _check_columns(model, columns)
    room.take(answering_bytes(model, len(next(iter(columns.values()), ())), query))
    return pose(model, model.schema.encode_columns(columns, missing), query, watch)


def _check_columns(model: HybridCausalModel, columns: Collection[str]) -> None:
    if absent := model.schema.missing_columns(columns):
        raise MissingColumnError(absent)


def pose(model: HybridCausalModel, encoded: Encoded, query: EffectQuery, watch: Stopwatch) -> Question:
    """Make a question of encoded records.

    Raises:
        InvalidValueError: a value no net could be given.
    """
    question = Question(encoded, query, model.reach.beyond(encoded.x))
    watch.lap(Stage.VALIDATE)
    return question


def ask(model: HybridCausalModel, question: Question) -> Prediction:
    """Ask the model.

    Raises:
        NonFiniteAnswerError, OutOfRangeError: as `answer`.
    """
    try:
        return model.predict(question.encoded.x, question.query)
    except NonFiniteAnswerError as exc:
        if (error := blame(model, question, exc)) is exc:
            raise
        raise error from exc


def write_answer(model: HybridCausalModel, question: Question, lists: Lists, start: int = 0) -> bytes:
    """Write what the model answered; the question's rows stand from `start` on."""
    warnings = warnings_of(model, question)
    return encode_answer(model, question.query, question.encoded, lists, start, warnings)


def _options(
    model: HybridCausalModel,
    params: Mapping[str, object],
    query_string: bytes,
    policy: Policy,
    read_query: QueryReader,
) -> tuple[EffectQuery, MissingPolicy]:
    if not (params or query_string):
        return POINT, policy.missing
    options = merge_options(params, parse_query(query_string))
    missing = missing_policy(options.pop("missing", None), policy.missing)
    return read_query(len(model.treatment_names), options), missing


def _native_query(n_treatments: int, options: Mapping[str, object]) -> EffectQuery:
    return effect_query(n_treatments, **options)


def _write_native(model: HybridCausalModel, question: Question, prediction: Prediction) -> bytes:
    return write_answer(model, question, Lists.of(prediction))


def _write_mlflow(model: HybridCausalModel, question: Question, prediction: Prediction) -> bytes:
    return encode_predictions(prediction, question.encoded, warnings_of(model, question))


NATIVE = Dialect(parse_predict, _native_query, _write_native, asks_for_all=False)
"""Of `POST /predict/{id}`."""
MLFLOW = Dialect(parse_invocation, signature_query, _write_mlflow, asks_for_all=True)
"""Of `POST /invocations`."""
