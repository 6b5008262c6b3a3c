"""Registry rows in a DynamoDB table.

`status` and `ttl` are reserved words, so every attribute name goes through an alias. A page may be empty and
still not be the last; reads are consistent. A reply that is not whole counts as none.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from zlib import crc32

from botocore.exceptions import ClientError

from registry_sync.aws import aws_errors, error_code
from registry_sync.errors import RowExistsError, UnavailableError
from registry_sync.rows import ATTRIBUTES, RowKey
from registry_sync.source import Item

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

MOST_KEYS = 100
"""Of one BatchGetItem: the service's limit."""
BATCH_ATTEMPTS = 6
_BACKOFF_S = 0.05
_ALIASES = {f"#{name}": name for name in ATTRIBUTES}
_PROJECTION = ", ".join(_ALIASES)
_KEY_ALIAS = {"#model_id": "model_id"}
_NEVER_WRITTEN = "attribute_not_exists(#model_id)"


class DynamoDBSource:
    """A `RegistrySource` over one table."""

    def __init__(self, client: DynamoDBClient, table: str, *, page_items: int | None = None) -> None:
        """`page_items` bounds a page below the service's own megabyte."""
        self._client, self._table, self._page_items = client, table, page_items
        client.meta.events.register("after-call.dynamodb", _check_reply)

    @property
    def name(self) -> str:
        """The table."""
        return f"dynamodb:{self._table}"

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """Every item, or every item of one model, each once."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "ProjectionExpression": _PROJECTION,
            "ExpressionAttributeNames": _ALIASES,
        }
        if self._page_items is not None:
            request["Limit"] = self._page_items
        if model_id is not None:
            request["KeyConditionExpression"] = "#model_id = :model_id"
            request["ExpressionAttributeValues"] = {":model_id": {"S": model_id}}
        read_page = self._client.scan if model_id is None else self._client.query
        with aws_errors(self.name):
            while True:
                page = read_page(**request)
                for item in page.get("Items", ()):
                    yield _item(item)
                if not (last := page.get("LastEvaluatedKey")):
                    return
                request["ExclusiveStartKey"] = last

    def get(self, model_id: str, created_at: str) -> Item | None:
        """The item with this key, if there is one."""
        with aws_errors(self.name):
            reply = self._client.get_item(
                TableName=self._table,
                Key={"model_id": {"S": model_id}, "created_at": {"S": created_at}},
                ConsistentRead=True,
                ProjectionExpression=_PROJECTION,
                ExpressionAttributeNames=_ALIASES,
            )
        item = reply.get("Item")
        return _item(item) if item else None

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """The items with these keys, of those there are, each once; a hundred a request."""
        wanted = [{"model_id": {"S": key[0]}, "created_at": {"S": key[1]}} for key in dict.fromkeys(keys)]
        for start in range(0, len(wanted), MOST_KEYS):
            yield from self._get_batch(wanted[start : start + MOST_KEYS])

    def _get_batch(self, keys: list[dict[str, Any]]) -> Iterator[Item]:
        """The service may leave keys for another request, as when it is throttled."""
        options = {
            "ConsistentRead": True,
            "ProjectionExpression": _PROJECTION,
            "ExpressionAttributeNames": _ALIASES,
        }
        in_vain = 0
        with aws_errors(self.name):
            while keys:
                request: Any = {self._table: {"Keys": keys, **options}}
                reply = self._client.batch_get_item(RequestItems=request)
                for item in reply["Responses"].get(self._table, ()):
                    yield _item(item)
                unprocessed = reply.get("UnprocessedKeys", {})
                left = unprocessed[self._table]["Keys"] if self._table in unprocessed else []
                in_vain = in_vain + 1 if len(left) == len(keys) else 0
                if in_vain == BATCH_ATTEMPTS:
                    raise UnavailableError(f"{self.name}: left {len(left)} keys for later {in_vain} times")
                if left:
                    time.sleep(_BACKOFF_S * 2**in_vain * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                keys = list(left)

    def create(self, item: Item) -> None:
        """Write an item under a key that is not taken."""
        attributes = {name: _attribute(value) for name, value in item.items()}
        with aws_errors(self.name):
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=attributes,
                    ConditionExpression=_NEVER_WRITTEN,
                    ExpressionAttributeNames=_KEY_ALIAS,
                )
            except ClientError as exc:
                if error_code(exc) != "ConditionalCheckFailedException":
                    raise
                raise RowExistsError(str(item["model_id"]), str(item["created_at"])) from exc


def _check_reply(http_response: AWSResponse, **_: object) -> None:
    """See that the reply is whole: of one that is no JSON botocore makes an empty page, or no item.

    The service sends a checksum of every reply; what stands in for it may not, and is parsed once more.

    Raises:
        UnavailableError: it is not.
    """
    body, promised = http_response.content, http_response.headers.get("x-amz-crc32")
    is_whole = _is_object(body) if promised is None else promised == str(crc32(body))
    if http_response.status_code == HTTPStatus.OK and not is_whole:
        raise UnavailableError(f"DynamoDB: expected a whole reply, found {len(body)} bytes of a damaged one")


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _item(attributes: dict[str, AttributeValueTypeDef]) -> Item:
    return {name: _value(attribute) for name, attribute in attributes.items()}


def _value(attribute: AttributeValueTypeDef) -> object:
    match attribute:
        case {"S": str(text)}:
            return text
        case {"N": str(number)}:
            return Decimal(number)
        case {"BOOL": bool(truth)}:
            return truth
        case {"L": list(entries)}:
            return [_value(entry) for entry in entries]
        case {"NULL": True}:
            return None
        case _:  # maps, sets, bytes: nothing of ours has such a value
            return attribute


def _attribute(value: object) -> AttributeValueTypeDef:
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | Decimal():
            return {"N": str(value)}
        case list():
            return {"L": [_attribute(entry) for entry in value]}
        case _:
            raise TypeError(f"expected text, a number, a truth value or a list, found {type(value).__name__}")
