"""What one transaction can read and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from anneal.kit.digests import canonical_json
from anneal.kit.errors import RequestIdReused
from anneal.kit.names import last_id, parent_of
from anneal.registry.adapters.sql.tables import (
    TABLES,
    DatasetVersionTable,
    EdgeTable,
    EvaluationTable,
    OutboxTable,
    RequestTable,
    ResourceTable,
)
from anneal.registry.domain.errors import exists, missing
from anneal.registry.domain.gate import Evidence, Verdict
from anneal.registry.domain.lineage import Direction
from anneal.registry.domain.resources import FAMILY_OF, VERSION_OF, Edge, Kind, Record, Relation, microseconds

REQUEST_LIFE = timedelta(hours=24)
_NAMES_PER_QUERY = 500  # SQLite takes 32,766 parameters, PostgreSQL's driver 32,767
_GIVEN_COLUMNS = {"seq", "name", "parent", "create_us", "revision", "body"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """A creating request: its id, within its project, and the digest of its content."""

    project: str
    request_id: str
    content: str


class Reader:
    """What a transaction can read."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, kind: Kind, name: str, *, for_update: bool = False) -> Record | None:
        """One record by name; the version `latest` is the one created last. None when there is none.

        Args:
            kind: what it is.
            name: its resource name.
            for_update: keep others from changing it until this transaction ends, where the database can.
        """
        table = TABLES[kind]
        query = select(table)
        if kind in FAMILY_OF and last_id(name) == "latest":
            query = query.where(table.parent == parent_of(name)).order_by(table.seq.desc()).limit(1)
        else:
            query = query.where(table.name == name)
        if for_update:
            query = query.with_for_update()
        row = (await self._session.scalars(query)).one_or_none()
        return None if row is None else (await self._records(kind, [row]))[0]

    async def get(self, kind: Kind, name: str, *, for_update: bool = False) -> Record:
        """One record by name.

        Raises:
            Missing: there is none, with the kind's own reason.
        """
        record = await self.find(kind, name, for_update=for_update)
        if record is None:
            raise missing(kind, name)
        return record

    async def page(self, kind: Kind, parent: str, size: int, before: int | None) -> list[tuple[int, Record]]:
        """Up to `size` records of a parent with their numbers, newest first, from before a number on."""
        table = TABLES[kind]
        query = select(table).where(table.parent == parent).order_by(table.seq.desc()).limit(size)
        if before is not None:
            query = query.where(table.seq < before)
        rows = (await self._session.scalars(query)).all()
        return list(zip([row.seq for row in rows], await self._records(kind, rows), strict=True))

    async def all_of(self, kind: Kind, project: str) -> list[Record]:
        """Every record of a kind in a project, newest first."""
        table = TABLES[kind]
        query = select(table).where(table.name.startswith(f"{project}/", autoescape=True)).order_by(table.seq.desc())
        return await self._records(kind, (await self._session.scalars(query)).all())

    async def by_digest(self, project: str, digests: Sequence[str]) -> dict[str, str]:
        """The newest dataset version of a project with each digest: digest -> name."""
        found: dict[str, str] = {}
        for start in range(0, len(digests), _NAMES_PER_QUERY):
            query = (
                select(DatasetVersionTable.digest, DatasetVersionTable.name)
                .where(DatasetVersionTable.digest.in_(digests[start : start + _NAMES_PER_QUERY]))
                .where(DatasetVersionTable.name.startswith(f"{project}/", autoescape=True))
                .order_by(DatasetVersionTable.seq)
            )
            found.update({digest: name for digest, name in await self._session.execute(query)})
        return found

    async def evidence(self, project: str, target_digest: str) -> list[Evidence]:
        """What a project's evaluations found about some content, newest first."""
        query = (
            select(EvaluationTable)
            .where(EvaluationTable.parent == project, EvaluationTable.target_digest == target_digest)
            .order_by(EvaluationTable.seq.desc())
        )
        return [
            Evidence(
                evaluation=row.name,
                target_digest=row.target_digest,
                base_model_digest=row.base_model_digest,
                policy_digest=row.policy_digest,
                verdict=Verdict(row.verdict),
            )
            for row in await self._session.scalars(query)
        ]

    async def edges(self, names: Sequence[str], direction: Direction) -> list[Edge]:
        """The edges that touch these names: ending there going upstream, starting there going downstream."""
        column = EdgeTable.made if direction is Direction.UPSTREAM else EdgeTable.source
        found: list[Edge] = []
        for start in range(0, len(names), _NAMES_PER_QUERY):
            query = select(EdgeTable).where(column.in_(names[start : start + _NAMES_PER_QUERY]))
            found += [Edge(row.source, row.made, Relation(row.relation)) for row in await self._session.scalars(query)]
        return found

    async def is_empty(self) -> bool:
        """Whether nothing was ever kept here."""
        for table in TABLES.values():
            if (await self._session.execute(select(table.seq).limit(1))).first() is not None:
                return False
        return True

    async def _records(self, kind: Kind, rows: Sequence[ResourceTable]) -> list[Record]:
        latest = await self._latest(kind, [row.name for row in rows])
        return [_record(kind, row, latest.get(row.name, "")) for row in rows]

    async def _latest(self, kind: Kind, families: Sequence[str]) -> dict[str, str]:
        if kind not in VERSION_OF or not families:
            return {}
        table = TABLES[VERSION_OF[kind]]
        newest = select(func.max(table.seq)).where(table.parent.in_(families)).group_by(table.parent)
        query = select(table.parent, table.name).where(table.seq.in_(newest))
        return {parent: name for parent, name in await self._session.execute(query)}


class Writer(Reader):
    """What a transaction can write."""

    async def first_answer(self, key: RequestKey | None, now: datetime) -> Record | None:
        """The answer this request got before; None when it is new.

        Raises:
            RequestIdReused: the id came with other content within 24 h.
        """
        if key is None:
            return None
        row = await self._session.get(RequestTable, (key.project, key.request_id))
        if row is None or row.answered_us < microseconds(now - REQUEST_LIFE):
            return None
        if row.content != key.content:
            raise RequestIdReused(
                f"the request id {key.request_id} was used for another request", request_id=key.request_id
            )
        return Record(
            kind=Kind(row.kind),
            name=row.name,
            create_time=_time(row.create_us),
            revision=row.revision,
            body=row.body,
            latest_version=row.latest_version,
        )

    async def remember(self, key: RequestKey | None, answer: Record, now: datetime) -> None:
        """Keep an answer for 24 h, and forget those that are older."""
        if key is None:
            return
        oldest = microseconds(now - REQUEST_LIFE)
        await self._session.execute(delete(RequestTable).where(RequestTable.answered_us < oldest))
        await self._session.execute(
            insert(RequestTable).values(
                project=key.project,
                request_id=key.request_id,
                content=key.content,
                answered_us=microseconds(now),
                kind=answer.kind.value,
                name=answer.name,
                create_us=microseconds(answer.create_time),
                revision=answer.revision,
                body=answer.body,
                latest_version=answer.latest_version,
            )
        )

    async def create(self, record: Record, note: Mapping[str, Any] | None = None) -> Record:
        """Keep a new record. A version that exists with the same content is returned as it is.

        Args:
            record: the record.
            note: its self-description for the object store; None when it is there already.

        Raises:
            Exists: the name is taken, with the kind's own reason.
            sqlalchemy.exc.IntegrityError: somebody else takes the name at this moment.
        """
        present = await self.find(record.kind, record.name)
        if present is not None:
            if record.kind in FAMILY_OF and present.facts["digest"] == record.facts["digest"]:
                return present
            raise exists(record.kind, record.name)
        await self._session.execute(insert(TABLES[record.kind]).values(_columns(record)))
        await self._connect(record)
        if note is not None:
            await self._announce(record, note)
        return record

    async def replace(self, record: Record, note: Mapping[str, Any]) -> None:
        """Put a record in the place of the one with its name."""
        table = TABLES[record.kind]
        await self._session.execute(update(table).where(table.name == record.name).values(_columns(record)))
        await self._session.execute(delete(EdgeTable).where(EdgeTable.made == record.name))
        await self._connect(record)
        await self._announce(record, note)

    async def remove(self, record: Record, note: Mapping[str, Any]) -> None:
        """Remove a record with the edges to what it was made from."""
        table = TABLES[record.kind]
        await self._session.execute(delete(table).where(table.name == record.name))
        await self._session.execute(delete(EdgeTable).where(EdgeTable.made == record.name))
        await self._announce(record, note)

    async def _connect(self, record: Record) -> None:
        rows = [{"made": e.made, "source": e.source, "relation": e.relation.value} for e in sorted(set(record.edges))]
        if rows:
            await self._session.execute(insert(EdgeTable), rows)

    async def _announce(self, record: Record, note: Mapping[str, Any]) -> None:
        path = f"{record.kind.value}/{record.name}/{record.revision:020d}"
        value = canonical_json(dict(note)).decode()
        await self._session.execute(insert(OutboxTable).values(path=path, value=value))


def _columns(record: Record) -> dict[str, Any]:
    return {
        "name": record.name,
        "parent": parent_of(record.name),
        "create_us": microseconds(record.create_time),
        "revision": record.revision,
        "body": record.body,
        **record.facts,
    }


def _record(kind: Kind, row: ResourceTable, latest_version: str) -> Record:
    columns = row.__table__.columns.keys()  # type: ignore[attr-defined]
    return Record(
        kind=kind,
        name=row.name,
        create_time=_time(row.create_us),
        revision=row.revision,
        body=row.body,
        facts={column: getattr(row, column) for column in columns if column not in _GIVEN_COLUMNS},
        latest_version=latest_version,
    )


def _time(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)
