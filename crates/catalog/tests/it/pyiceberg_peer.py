"""What PyIceberg does in the tests: pyiceberg_peer.py STEP PLACE [ARGUMENT]...

PLACE is a folder with catalog.db (the SQL catalog `lake`), or the URL of a REST catalog.
"""

import sys

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

step, place, *arguments = sys.argv[1:]
if place.startswith("http"):
    catalog = load_catalog("rest", type="rest", uri=place)
else:
    catalog = load_catalog("lake", type="sql", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")

ROW = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])


def rows(count):
    return pa.Table.from_pylist([{"id": i, "name": f"name-{i}"} for i in range(count)], schema=ROW)


def walk(namespace):
    properties = {k: v for k, v in catalog.load_namespace_properties(namespace).items() if k not in ("exists", "location")}
    print(" ".join([".".join(namespace), *(f"{k}={v}" for k, v in sorted(properties.items()))]))
    for table in sorted(catalog.list_tables(namespace)):
        print(".".join(table))
    for child in sorted(catalog.list_namespaces(namespace)):
        walk(child)


if step == "list":
    for namespace in sorted(catalog.list_namespaces()):
        walk(namespace)
elif step == "create":
    namespace, table = arguments
    catalog.create_namespace(namespace, {"made-by": "pyiceberg"})
    schema = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType(), required=False))
    catalog.create_table(f"{namespace}.{table}", schema)
elif step == "append":
    catalog.load_table(arguments[0]).append(rows(int(arguments[1])))
elif step == "append-often":
    done = 0
    while done < int(arguments[1]):
        try:
            catalog.load_table(arguments[0]).append(rows(1))
            done += 1
        except CommitFailedException:
            pass
    print(done)
elif step == "count":
    print(catalog.load_table(arguments[0]).scan().to_arrow().num_rows)
elif step == "property":
    print(catalog.load_table(arguments[0]).properties.get(arguments[1]))
elif step == "rename":
    catalog.rename_table(*arguments)
else:
    sys.exit(f"no step {step}")
