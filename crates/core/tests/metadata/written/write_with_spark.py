"""Writes the files spark-*.metadata.json: write_with_spark.py WAREHOUSE ICEBERG_RUNTIME_JAR TO, in an environment with pyspark.

Each table goes through a life of its own; `keep` copies the metadata file that it has at that moment.
"""

import os
import re
import sys

from pyspark.sql import SparkSession

warehouse, jar, to = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", jar)
    .config("spark.driver.memory", "3g")
    .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
    .config("spark.sql.catalog.l", "org.apache.iceberg.spark.SparkCatalog")
    .config("spark.sql.catalog.l.type", "hadoop")
    .config("spark.sql.catalog.l.warehouse", "file://" + warehouse)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
failed = []


def run(text, **names):
    """Runs statements; %name% stands for one of the names."""
    for query in text.split(";"):
        for name, value in names.items():
            query = query.replace(f"%{name}%", str(value))
        if query.strip():
            try:
                spark.sql(query).collect()
            except Exception as e:
                failed.append((query.strip(), " ".join(str(e).split("JVM")[0].split())[:600]))
                print("FAILED:", *failed[-1], sep="\n  ", flush=True)


def snapshots(table):
    """The ids of a table's snapshots, the oldest first."""
    rows = spark.sql(f"select snapshot_id from l.db.{table}.snapshots order by committed_at").collect()
    return [row[0] for row in rows]


def keep(table, name):
    """Copies the metadata file, with the warehouse's place in it made neutral."""
    folder = f"{warehouse}/db/{table}/metadata"
    versions = [re.match(r"v(\d+)\.metadata", name) for name in os.listdir(folder)]
    version = max(int(found[1]) for found in versions if found)
    with open(f"{folder}/v{version}.metadata.json") as file:
        text = file.read()
    text = re.sub("file:(//)?" + re.escape(warehouse), "file:///warehouse", text)
    with open(f"{to}/spark-{name}.metadata.json", "w") as file:
        file.write(text)
    print("kept", name, len(text), flush=True)


run("create namespace if not exists l.db")

# Version 1: partition fields that go become void, whatever becomes of their columns; branches and tags.
run("""
create table l.db.v1 (id bigint, name string, ts timestamp, day date, amount decimal(9,2), note string comment 'a "note"')
  using iceberg partitioned by (days(ts), bucket(8, id), truncate(4, name), day)
  tblproperties ('format-version'='1', 'write.metadata.previous-versions-max'='5', 'team'='data')
""")
keep("v1", "v1-new")
row = "select {0}, 'name {0}', timestamp'2024-02-29 12:00:00', date'1969-12-31', 1.25, null"
run("insert into l.db.v1 " + row.format(1) + "; insert into l.db.v1 " + row.format(2))
keep("v1", "v1-two-snapshots")
run("""
alter table l.db.v1 create tag `end of year` retain 365 days;
alter table l.db.v1 create branch audit retain 30 days with snapshot retention 3 snapshots 2 days;
alter table l.db.v1 drop partition field days(ts);
alter table l.db.v1 drop partition field name_trunc;
alter table l.db.v1 replace partition field id_bucket with bucket(16, id) as `shard of id`;
alter table l.db.v1 add partition field months(ts) as month;
alter table l.db.v1 write ordered by amount desc nulls last, bucket(4, name), truncate(2, name) asc nulls first;
insert into l.db.v1 select 3, 'three', timestamp'2024-03-01 00:00:00', date'2024-03-01', 2.5, 'x'
""")
keep("v1", "v1-void-fields")
run("""
alter table l.db.v1 rename column note to remark;
alter table l.db.v1 alter column amount type decimal(18,2);
alter table l.db.v1 alter column remark comment 'no longer a note';
alter table l.db.v1 alter column remark first;
alter table l.db.v1 write unordered;
alter table l.db.v1 add columns (st struct<a: int, b: array<string>> comment 'nested', m map<string, struct<x: double>>);
alter table l.db.v1 add column st.c float comment 'added' after a;
insert into l.db.v1 values ('r', 4, 'n', timestamp'2024-03-02 00:00:00', date'2024-03-02', 1.5, struct(1, 0.5, array('b')), map('k', struct(2.5)))
""")
keep("v1", "v1-evolved")

# The same table of later versions: what a version does not have any more goes, what it brings comes.
run("alter table l.db.v1 set tblproperties ('format-version'='2')")
keep("v1", "v1-upgraded-to-v2")
run("""
alter table l.db.v1 drop partition field day;
insert into l.db.v1 values ('r', 5, 'n', timestamp'2024-03-02 00:00:00', date'2024-03-02', null, null, null);
delete from l.db.v1 where id = 1;
alter table l.db.v1 set tblproperties ('format-version'='3')
""")
keep("v1", "v1-upgraded-to-v3")
run("""
insert into l.db.v1 values (null, 6, 'n', timestamp'2024-03-02 00:00:00', date'2024-03-02', null, null, null), (null, 7, null, null, null, null, null, null)
""")
keep("v1", "v1-upgraded-to-v3-with-rows")
# Spark writes no more rows to a table in which a void field's column is gone.
run("alter table l.db.v1 drop column name; alter table l.db.v1 create tag gone")
keep("v1", "v1-upgraded-to-v3-source-column-gone")

# Version 2: every type that Spark has, identifier fields, transforms, orders, branches, tags, statistics.
run("""
create table l.db.v2 (id bigint not null comment 'key', part string not null, i int, f float, d double, b boolean, bin binary,
    dec decimal(38,10), day date, ts timestamp, ntz timestamp_ntz, st struct<a: int not null comment 'in', b: struct<c: array<struct<e: date>>>>,
    m map<string, array<struct<k: map<int, timestamp>>>>, l array<int>)
  using iceberg partitioned by (bucket(4, id), truncate(3, part), years(day), hours(ts))
  comment 'a table with "all" types: é'
  tblproperties ('format-version'='2', 'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read',
    'write.merge.mode'='merge-on-read', 'write.metadata.metrics.column.id'='full', 'write.metadata.metrics.default'='truncate(8)',
    'gc.enabled'='true', 'odd key \\'é\\'' = 'a\\tb\\nc"d')
""")
keep("v2", "v2-new")
row = """select id, concat('part', id), cast(id as int), 0.5, -1.5, true, binary('a'), 1.5, date'2024-01-01', timestamp'1969-12-31 23:59:59.5',
  timestamp_ntz'2024-01-01 00:00:00', null, null, array(1, null) from range({0}, {1})"""
run("insert into l.db.v2 " + row.format(0, 20) + "; insert into l.db.v2 " + row.format(20, 40))
run("""
alter table l.db.v2 set identifier fields id, part;
alter table l.db.v2 write distributed by partition locally ordered by id desc nulls first, days(ts);
alter table l.db.v2 create branch `dev/one` as of version %s0% retain 7 days with snapshot retention 5 snapshots 36 hours;
alter table l.db.v2 create tag v1_0 as of version %s0% retain 90 days;
alter table l.db.v2 create tag latest;
delete from l.db.v2 where id in (3, 30);
alter table l.db.v2 create branch dev_two;
update l.db.v2.branch_dev_two set i = 7 where id = 4;
alter table l.db.v2 replace partition field hours(ts) with months(ts);
alter table l.db.v2 drop partition field bucket(4, id);
alter table l.db.v2 add partition field identity(b)
""", s0=snapshots("v2")[0])
run("insert into l.db.v2 " + row.format(40, 45))
run("call l.system.compute_table_stats(table => 'db.v2', columns => array('id', 'part'))")
run("call l.system.compute_partition_stats(table => 'db.v2')")
keep("v2", "v2-statistics-and-branches")
run("""
alter table l.db.v2 drop identifier fields part;
alter table l.db.v2 rename column st.a to first;
alter table l.db.v2 add column st.b.d string after c;
alter table l.db.v2 add column m.value.element.v string;
alter table l.db.v2 alter column i type bigint;
alter table l.db.v2 alter column f type double;
alter table l.db.v2 drop column l;
alter table l.db.v2 add column l array<int> comment 'another one';
alter table l.db.v2 alter column part drop not null;
alter table l.db.v2 alter column day after id;
alter table l.db.v2 write ordered by part;
alter table l.db.v2 create or replace tag latest;
alter table l.db.v2 replace branch `dev/one` with snapshot retention 2 snapshots;
merge into l.db.v2 t using (select 5L id) s on t.id = s.id when matched then update set i = 8;
call l.system.rewrite_data_files(table => 'db.v2', options => map('rewrite-all', 'true'));
call l.system.rewrite_manifests(table => 'db.v2');
call l.system.rewrite_position_delete_files(table => 'db.v2');
insert overwrite l.db.v2 select * from l.db.v2 where id < 10;
call l.system.compute_table_stats(table => 'db.v2');
alter table l.db.v2 unset tblproperties ('gc.enabled');
truncate table l.db.v2
""")
keep("v2", "v2-evolved")
run("call l.system.expire_snapshots(table => 'db.v2', older_than => timestamp'2100-01-01 00:00:00', retain_last => 2)")
keep("v2", "v2-expired")

# Snapshots that are staged, published, cherry-picked and rolled back.
run("""
create table l.db.wap (id bigint, day date) using iceberg partitioned by (day)
  tblproperties ('write.wap.enabled'='true', 'write.metadata.delete-after-commit.enabled'='true', 'write.metadata.previous-versions-max'='3');
insert into l.db.wap values (1, date'2024-01-01');
insert into l.db.wap values (2, date'2024-01-02')
""")
spark.conf.set("spark.wap.id", "batch 7")
run("insert into l.db.wap values (3, date'2024-01-03')")
spark.conf.unset("spark.wap.id")
keep("wap", "wap-staged")
ids = snapshots("wap")
run("insert into l.db.wap values (4, date'2024-01-04'); call l.system.publish_changes(table => 'db.wap', wap_id => 'batch 7')")
spark.conf.set("spark.wap.branch", "audited")
run("alter table l.db.wap create branch audited; insert into l.db.wap values (5, date'2024-01-05')")
spark.conf.unset("spark.wap.branch")
run("call l.system.fast_forward(table => 'db.wap', branch => 'main', to => 'audited')")
run("call l.system.rollback_to_snapshot(table => 'db.wap', snapshot_id => %id%)", id=ids[0])
run("call l.system.cherrypick_snapshot(table => 'db.wap', snapshot_id => %id%)", id=ids[1])
run("call l.system.set_current_snapshot(table => 'db.wap', snapshot_id => %id%)", id=snapshots("wap")[-1])
frame = spark.sql("select 9L id, date'2024-02-01' day")
frame.writeTo("l.db.wap").option("snapshot-property.made by", 'a "test"').append()
frame.writeTo("l.db.wap").overwritePartitions()
keep("wap", "wap-rolled-back")

# Tables made of queries, and made again with other columns, partitions and orders.
run("""
create table l.db.ctas using iceberg partitioned by (truncate(10, id)) tblproperties ('a'='b', 'format-version'='2')
  as select id, cast(id as string) name from range(5);
alter table l.db.ctas create tag first;
alter table l.db.ctas write ordered by name;
create or replace table l.db.ctas using iceberg partitioned by (bucket(3, label)) tblproperties ('c'='d')
  as select cast(id as string) label, id, named_struct('x', id) st from range(7)
""")
keep("ctas", "rtas")
run("""
replace table l.db.ctas using iceberg as select 1 one;
insert into l.db.ctas values (2)
""")
keep("ctas", "rtas-twice")

# Version 3: deletion vectors, row ids.
run("""
create table l.db.v3 (id bigint not null, name string, ts timestamp) using iceberg partitioned by (days(ts))
  tblproperties ('format-version'='3', 'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read', 'write.merge.mode'='merge-on-read')
""")
keep("v3", "v3-new")
run("""
insert into l.db.v3 select id, concat('n', id), timestamp'2024-01-01 00:00:00' from range(50);
delete from l.db.v3 where id % 10 = 3;
update l.db.v3 set name = 'new' where id = 4;
merge into l.db.v3 t using (select id from range(45, 55)) s on t.id = s.id when matched then delete when not matched then insert (id) values (s.id);
alter table l.db.v3 create branch b with snapshot retention 1 snapshots;
alter table l.db.v3 create tag t;
insert into l.db.v3.branch_b values (100, 'b', null);
call l.system.rewrite_data_files(table => 'db.v3', options => map('rewrite-all', 'true'));
call l.system.compute_table_stats(table => 'db.v3');
alter table l.db.v3 drop column name;
alter table l.db.v3 add column name int;
insert into l.db.v3 select id, ts, 1 from l.db.v3
""")
keep("v3", "v3-row-ids")
run("call l.system.expire_snapshots(table => 'db.v3', older_than => timestamp'2100-01-01 00:00:00', retain_last => 1, clean_expired_metadata => true)")
keep("v3", "v3-expired-with-schemas")

# Files that no Iceberg writer made: a name mapping comes with them.
spark.sql("select id, concat('n', id) name from range(3)").write.mode("overwrite").parquet(f"{warehouse}/plain")
run(f"""
create table l.db.mapped (id bigint, name string) using iceberg;
call l.system.add_files(table => 'db.mapped', source_table => '`parquet`.`{warehouse}/plain`');
alter table l.db.mapped rename column name to title;
alter table l.db.mapped add column more struct<a: int, b: string>
""")
keep("mapped", "name-mapping")

spark.stop()
sys.exit(f"{len(failed)} statements failed" if failed else 0)
