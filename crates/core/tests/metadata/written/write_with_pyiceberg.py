"""Writes the files pyiceberg-*.metadata.json: write_with_pyiceberg.py WAREHOUSE TO, in an environment with pyiceberg and pyarrow."""

import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.table.statistics import BlobMetadata, StatisticsFile
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform, VoidTransform
from pyiceberg.types import (
    BinaryType, BooleanType, DateType, DecimalType, DoubleType, FixedType, FloatType, IntegerType, ListType, LongType,
    MapType, NestedField, StringType, StructType, TimestampType, TimestamptzType, TimeType, UUIDType,
)

warehouse, to = sys.argv[1:]
catalog = SqlCatalog("l", uri="sqlite:///:memory:", warehouse="file://" + warehouse)
catalog.create_namespace("db")


def keep(table, name):
    """Copies the metadata file, with the warehouse's place in it made neutral."""
    with open(table.refresh().metadata_location.removeprefix("file://")) as file:
        text = file.read().replace("file://" + warehouse, "file:///warehouse")
    with open(f"{to}/pyiceberg-{name}.metadata.json", "w") as file:
        file.write(text)


plain = [BooleanType(), IntegerType(), LongType(), FloatType(), DoubleType(), DecimalType(9, 2), DecimalType(38, 10), DateType(),
         TimeType(), TimestampType(), TimestamptzType(), StringType(), UUIDType(), FixedType(7), BinaryType()]
fields = [NestedField(10 + at, f"c{at}", of, required=False) for at, of in enumerate(plain)]
schema = Schema(
    NestedField(1, "id", LongType(), required=True, doc='the "key"'),
    NestedField(2, "name", StringType(), required=False),
    NestedField(3, "day", DateType(), required=False),
    NestedField(4, "st", StructType(*fields), required=False),
    NestedField(5, "l", ListType(30, StructType(NestedField(31, "x", LongType(), required=True)), element_required=False), required=False),
    NestedField(6, "m", MapType(32, StringType(), 33, DoubleType(), value_required=True), required=False),
    identifier_field_ids=[1],
)
spec = PartitionSpec(
    PartitionField(1, 1000, BucketTransform(4), "shard"),
    PartitionField(2, 1001, TruncateTransform(2), "start"),
    PartitionField(3, 1002, DayTransform(), "day_day"),
    PartitionField(2, 1003, VoidTransform(), "nothing"),
)
order = SortOrder(
    SortField(1, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_FIRST), SortField(2, TruncateTransform(3))
)
arrow = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])


def rows(*ids):
    return pa.table({"id": list(ids), "name": [f"n{i}" for i in ids]}, schema=arrow)


for version in (1, 2):
    t = catalog.create_table(f"db.types{version}", schema, partition_spec=spec, sort_order=order, properties={"format-version": str(version), "a": "b"})
    keep(t, f"v{version}-every-type")

    simple = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType(), required=False))
    t = catalog.create_table(f"db.life{version}", simple, properties={"format-version": str(version), "write.metadata.previous-versions-max": "6"})
    t.append(rows(1, 2), snapshot_properties={"by": "hand"})
    t.append(rows(3))
    t.manage_snapshots().create_tag(t.current_snapshot().snapshot_id, "a tag", max_ref_age_ms=1000).create_branch(
        t.current_snapshot().snapshot_id, "dev", max_ref_age_ms=7, max_snapshot_age_ms=8, min_snapshots_to_keep=9
    ).commit()
    t.append(rows(4), branch="dev")
    t.delete("id = 1")
    t.overwrite(rows(5), "id = 3")
    with t.update_schema() as update:
        update.add_column("more", StructType(NestedField(1, "x", IntegerType(), required=False)), doc="added").rename_column("name", "label")
    with t.update_spec() as update:
        update.add_field("id", BucketTransform(8), "shard").add_identity("label")
    with t.update_spec() as update:
        update.remove_field("shard").rename_field("label", "by label")
    with t.update_sort_order() as update:
        update.asc("label", IdentityTransform()).desc("id", BucketTransform(3))
    snapshot = t.current_snapshot()
    blob = BlobMetadata(**{"type": "apache-datasketches-theta-v1", "snapshot-id": snapshot.snapshot_id, "sequence-number": 3, "fields": [1], "properties": {"ndv": "3"}})
    file = StatisticsFile(**{"snapshot-id": snapshot.snapshot_id, "statistics-path": "file:///warehouse/s.puffin", "file-size-in-bytes": 9,
                             "file-footer-size-in-bytes": 4, "blob-metadata": [blob]})
    with t.update_statistics() as update:
        update.set_statistics(file)
    keep(t, f"v{version}-evolved")
    t.maintenance.expire_snapshots().by_id(t.snapshots()[0].snapshot_id).commit()
    keep(t, f"v{version}-expired")
    if version == 1:
        with t.transaction() as x:
            x.upgrade_table_version(2)
        keep(t, "v1-upgraded-to-v2")
