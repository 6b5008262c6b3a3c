"""Where registry rows come from: the port. `dynamodb.py` and `sqlite.py` implement it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from registry_sync.rows import RowKey

Item = Mapping[str, object]


class RegistrySource(Protocol):
    """A table with partition key `model_id` and sort key `created_at`, both text.

    Items hold text, numbers (int or Decimal), truth values and lists of these; a value of any other type
    comes as something that is none of them. Every method raises the types of `errors.py` only.
    """

    @property
    def name(self) -> str:
        """The table or file, for messages."""

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """Every item, or every item of one model, each once, in no order; as fresh as a read can be."""

    def get(self, model_id: str, created_at: str) -> Item | None:
        """The item with this key, if there is one."""

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """The items with these keys, of those there are, each once, in no order; as fresh as `get`."""

    def create(self, item: Item) -> None:
        """Write an item under a key that is not taken.

        Raises:
            RowExistsError: the key is taken; nothing was written.
        """
