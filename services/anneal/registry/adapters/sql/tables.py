"""The registry's tables. What is asked for by value is a column; the whole resource is `body`.

Times are microseconds since 1970, because SQLite keeps no time zones. `seq` grows with every row and orders the lists.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from anneal.registry.domain.resources import Kind

NAME = String(255)
DIGEST = String(71)
COUNTER = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """All tables; constraints have names, so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ResourceTable:
    """What every table of resources has."""

    __tablename__: str

    seq: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    parent: Mapped[str] = mapped_column(NAME)
    create_us: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes] = mapped_column(LargeBinary)

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Any, ...]:
        """Lists are read by parent, newest first; a number is never given twice."""
        return (*cls.indexes(), Index(None, "parent", "seq"), {"sqlite_autoincrement": True})

    @classmethod
    def indexes(cls) -> tuple[Index, ...]:
        """Further indexes of a table."""
        return ()


class DatasetTable(ResourceTable, Base):
    """Families of dataset versions."""

    __tablename__ = "datasets"
    row_kind: Mapped[str] = mapped_column(String(32))


class DatasetVersionTable(ResourceTable, Base):
    """Dataset versions."""

    __tablename__ = "dataset_versions"
    parent: Mapped[str] = mapped_column(ForeignKey("datasets.name"))
    digest: Mapped[str] = mapped_column(DIGEST, index=True)


class ModelTable(ResourceTable, Base):
    """Base models."""

    __tablename__ = "models"
    digest: Mapped[str] = mapped_column(DIGEST)


class AdapterTable(ResourceTable, Base):
    """Families of adapter versions."""

    __tablename__ = "adapters"


class AdapterVersionTable(ResourceTable, Base):
    """Adapter versions."""

    __tablename__ = "adapter_versions"
    parent: Mapped[str] = mapped_column(ForeignKey("adapters.name"))
    digest: Mapped[str] = mapped_column(DIGEST)
    base_model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    base_model_digest: Mapped[str] = mapped_column(DIGEST)


class BenchmarkTable(ResourceTable, Base):
    """Benchmarks."""

    __tablename__ = "benchmarks"
    dataset_version: Mapped[str] = mapped_column(ForeignKey("dataset_versions.name"))


class EvaluationTable(ResourceTable, Base):
    """Evaluations, with what the gate asks for."""

    __tablename__ = "evaluations"
    target: Mapped[str] = mapped_column(NAME)
    target_digest: Mapped[str] = mapped_column(DIGEST)
    base_model_digest: Mapped[str] = mapped_column(DIGEST)
    policy_digest: Mapped[str] = mapped_column(DIGEST)
    verdict: Mapped[str] = mapped_column(String(32))

    @classmethod
    def indexes(cls) -> tuple[Index, ...]:
        """The gate looks for what was said about some content."""
        return (Index(None, "parent", "target_digest"),)


class DeploymentTable(ResourceTable, Base):
    """Deployments. The only resources that change."""

    __tablename__ = "deployments"
    adapter_version: Mapped[str] = mapped_column(ForeignKey("adapter_versions.name"))
    canary_adapter_version: Mapped[str | None] = mapped_column(ForeignKey("adapter_versions.name"))


class EdgeTable(Base):
    """Lineage: `made` uses `source`."""

    __tablename__ = "lineage_edges"
    made: Mapped[str] = mapped_column(NAME, primary_key=True)
    source: Mapped[str] = mapped_column(NAME, primary_key=True, index=True)
    relation: Mapped[str] = mapped_column(String(32), primary_key=True)


class RequestTable(Base):
    """First answers to creating requests, so that a request sent twice is answered twice the same."""

    __tablename__ = "requests"
    project: Mapped[str] = mapped_column(NAME, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    content: Mapped[str] = mapped_column(DIGEST)
    answered_us: Mapped[int] = mapped_column(BigInteger, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(NAME)
    create_us: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    latest_version: Mapped[str] = mapped_column(NAME)


class OutboxTable(Base):
    """Changes whose self-description is not yet in the object store."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    path: Mapped[str] = mapped_column(Text)
    value: Mapped[str] = mapped_column(Text)


TABLES: dict[Kind, type[ResourceTable]] = {
    Kind.DATASET: DatasetTable,
    Kind.DATASET_VERSION: DatasetVersionTable,
    Kind.MODEL: ModelTable,
    Kind.ADAPTER: AdapterTable,
    Kind.ADAPTER_VERSION: AdapterVersionTable,
    Kind.BENCHMARK: BenchmarkTable,
    Kind.EVALUATION: EvaluationTable,
    Kind.DEPLOYMENT: DeploymentTable,
}
