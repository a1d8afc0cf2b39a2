"""Writes the files legacy-*.metadata.json: write_with_legacy.py TO, in an environment with acryl-iceberg-legacy."""

import sys

from iceberg.api import PartitionSpec, Schema
from iceberg.api.types import (
    BinaryType, BooleanType, DateType, DecimalType, DoubleType, FixedType, IntegerType, ListType, LongType, MapType, NestedField,
    StringType, StructType, TimestampType, UUIDType,
)
from iceberg.core import BaseSnapshot, TableMetadataParser
from iceberg.core.table_metadata import SnapshotLogEntry, TableMetadata

columns = [
    NestedField.required(1, "id", LongType.get()),
    NestedField.optional(2, "name", StringType.get(), "what it is called"),
    NestedField.optional(3, "ts", TimestampType.with_timezone()),
    NestedField.optional(4, "day", DateType.get()),
    NestedField.optional(5, "amount", DecimalType.of(9, 2)),
    NestedField.optional(6, "st", StructType.of([
        NestedField.required(7, "flag", BooleanType.get()), NestedField.optional(8, "u", UUIDType.get()),
        NestedField.optional(9, "f", FixedType.of_length(4)), NestedField.optional(10, "b", BinaryType.get())])),
    NestedField.optional(11, "l", ListType.of_optional(12, IntegerType.get())),
    NestedField.optional(13, "m", MapType.of_optional(14, 15, StringType.get(), DoubleType.get())),
]
schema = Schema(columns)
spec = PartitionSpec.builder_for(schema).bucket("id", 16).day("ts").truncate("name", 4).identity("day").build()
location = "file:///warehouse/db/legacy"


def keep(metadata, name):
    with open(f"{sys.argv[1]}/legacy-{name}.metadata.json", "w") as file:
        file.write(TableMetadataParser.to_json(metadata))


class Files:
    """Manifests are only named."""

    def new_input_file(self, path):
        return type("File", (), {"location": lambda self: path})()


at = 1_600_000_000_000
snapshots = [
    BaseSnapshot(Files(), number, number - 1 or None, manifests=[f"{location}/metadata/{n}-m0.avro" for n in range(number)],
                 timestamp_millis=at + number, operation=operation, summary=summary)
    for number, operation, summary in [(1, "append", {"added-data-files": "1"}), (2, "overwrite", {}), (3, None, None)]
]
other = PartitionSpec.builder_for(schema).with_spec_id(1).month("ts").build()
for name, specs, count in [("new", [spec], 0), ("snapshots", [spec], 3), ("another-spec", [spec, other], 3)]:
    log = [SnapshotLogEntry(snapshot.timestamp_millis, snapshot.snapshot_id) for snapshot in snapshots[:count]]
    metadata = TableMetadata(None, None, location, at + 9, 15, schema, len(specs) - 1, specs, {"owner": "data"}, count or -1,
                             snapshots[:count], log)
    keep(metadata, "v1-" + name)
