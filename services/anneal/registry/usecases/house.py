"""What every use case works with, and how anything is created."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anneal.kit.errors import Invalid
from anneal.kit.names import parse
from anneal.kit.pages import page
from anneal.registry import codec
from anneal.registry.adapters.shelf import Shelf
from anneal.registry.adapters.sql.catalog import Catalog
from anneal.registry.adapters.sql.transactions import Reader, Writer
from anneal.registry.domain.resources import FAMILY_OF, Kind, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What use cases work with.

    Attributes:
        catalog: everything named.
        shelf: everything stored.
        now: the time, with a time zone.
        draw: a random number from 0 to 99.
    """

    catalog: Catalog
    shelf: Shelf
    now: Callable[[], datetime]
    draw: Callable[[], int]

    async def flush(self) -> None:
        """Bring the self-description of every change to the store.

        What is acknowledged is in the database and in the store, so that the one can be rebuilt from the other.
        """
        await self.catalog.flush(self.shelf.keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A resource that passed its rules, and the family it founds when that does not exist yet."""

    record: Record
    family: Record | None = None


async def create(house: House, request: Any, draft: Callable[[Writer, datetime], Awaitable[Draft]]) -> Any:
    """Answer a creating request: the same request twice gets the first answer, and a dry run changes nothing.

    Args:
        house: where.
        request: the request, with `parent`, `request_id` and `validate_only`.
        draft: makes the resource from what the transaction reads; may run several times.
    """
    key = codec.request_key(request)
    now = house.now()

    async def unit(tx: Writer) -> Record:
        first = await tx.first_answer(key, now)
        if first is not None:
            return first
        made = await draft(tx, now)
        if made.family is not None and await tx.find(made.family.kind, made.family.name) is None:
            await tx.create(made.family, codec.note_of(made.family))
        answer = await tx.create(made.record, codec.note_of(made.record))
        await tx.remember(key, answer, now)
        return answer

    answer = await house.catalog.create(unit, dry=request.validate_only)
    await house.flush()
    return codec.encode(answer)


async def get(house: House, kind: Kind, name: str) -> Any:
    """One resource by name.

    Raises:
        Missing: there is none.
        Invalid: the name does not follow its pattern.
    """
    parse(name, kind.value)
    async with house.catalog.read() as tx:
        return codec.encode(await tx.get(kind, name))


async def list_page(house: House, kind: Kind, request: Any) -> tuple[list[Any], str]:
    """A page of resources, newest first, and the token of the next.

    Raises:
        Invalid: the parent does not follow its pattern, or the token is not one of this list.
    """
    parse(request.parent, FAMILY_OF[kind].value if kind in FAMILY_OF else "project", "parent")
    asked = page(request.page_size, request.page_token, {"list": kind.value, "parent": request.parent})
    if asked.after is not None and not isinstance(asked.after, int):
        raise Invalid.field("page_token", "this token was not given by this list")
    async with house.catalog.read() as tx:
        found = await tx.page(kind, request.parent, asked.size + 1, asked.after)
    here = found[: asked.size]
    token = asked.token(here[-1][0]) if len(found) > len(here) else ""
    return [codec.encode(record) for _, record in here], token


async def resolve_all(tx: Reader, kind: Kind, names: list[str], field: str) -> list[str]:
    """The names of existing resources, each once, `latest` replaced by what it names now.

    Raises:
        Missing: one does not exist.
        Invalid: one does not follow its pattern.
    """
    found = []
    for index, name in enumerate(names):
        parse(name, kind.value, f"{field}[{index}]")
        found.append((await tx.get(kind, name)).name)
    return list(dict.fromkeys(found))
