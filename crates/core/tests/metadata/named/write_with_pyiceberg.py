"""Writes the table pyiceberg of this folder: write_with_pyiceberg.py TO, in an environment with pyiceberg and pyarrow.

/warehouse must be there and empty: paths in manifests can't be made neutral afterwards.
"""

import decimal
import os
import shutil
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DecimalType, FixedType, LongType, NestedField

catalog = SqlCatalog("l", uri="sqlite:///:memory:", warehouse="file:///warehouse")
catalog.create_namespace("db")
columns = [("price", DecimalType(9, 2)), ("tax", DecimalType(9, 2)), ("code", FixedType(3)), ("other_code", FixedType(3))]
columns = [NestedField(id, name, of, required=False) for id, (name, of) in enumerate(columns, 2)]
fields = [PartitionField(column.field_id, 998 + column.field_id, IdentityTransform(), column.name) for column in columns]
schema = Schema(NestedField(1, "id", LongType(), required=False), *columns)
table = catalog.create_table("db.pyiceberg", schema, partition_spec=PartitionSpec(*fields))
cents = pa.decimal128(9, 2)
arrow = pa.schema([("id", pa.int64()), ("price", cents), ("tax", cents), ("code", pa.binary(3)), ("other_code", pa.binary(3))])
for n in range(3):
    row = {
        "id": n,
        "price": None if n == 2 else decimal.Decimal(-100 * n).scaleb(-2),
        "tax": decimal.Decimal(999_999_999 - n).scaleb(-2),
        "code": None if n == 2 else bytes([0, n, 255]),
        "other_code": bytes([1, 2, n]),
    }
    table.append(pa.Table.from_pylist([row], schema=arrow))
to = os.path.join(sys.argv[1], "pyiceberg")
os.makedirs(to, exist_ok=True)
files = [table.metadata_location, table.current_snapshot().manifest_list]
files += [manifest.manifest_path for manifest in table.current_snapshot().manifests(table.io)]
for file in files:
    name = "table.metadata.json" if file.endswith(".json") else os.path.basename(file)
    shutil.copy(file.removeprefix("file://"), os.path.join(to, name))
