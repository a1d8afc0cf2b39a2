//! Tables whose data and delete files are Avro and ORC, read as the reference implementation reads them.

use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::displayable;
use futures::TryStreamExt;
use iceberg::spec::DataFileFormat;
use icefield_core::catalog::parse_ident;
use icefield_core::format::{ContentReader, Rows};
use icefield_core::storage::Storage;
use icefield_core::{AsOf, ErrorKind, Table as CoreTable};
use icefield_engine::IcebergTable;
use icefield_engine::Session;
use icefield_testkit::{
    Engine, KEPT_TABLES, KEPT_TABLES_WERE_AT, Pick, Referee, content_hash, kept_table, newest_metadata,
    spark_sql,
};

use crate::scan_support::{same_by_columns, session, text_rows};

/// A table that is kept, read from `folder`.
async fn kept(session: &Session, name: &str, folder: &Path) -> CoreTable {
    let was = format!("{KEPT_TABLES_WERE_AT}/{name}");
    let storage = session
        .catalog()
        .storage()
        .unconfined()
        .with_mappings([(was, folder.display().to_string())])
        .unwrap();
    let metadata = newest_metadata(folder).unwrap();
    let ident = parse_ident(&format!("db.{name}")).unwrap();
    CoreTable::from_metadata_file(storage, ident, &metadata.to_string_lossy()).await.unwrap()
}

fn provider(session: &Session, table: &CoreTable) -> IcebergTable {
    IcebergTable::new(table, AsOf::Current, session.scan_caches().clone()).unwrap()
}

#[tokio::test]
async fn every_type_and_every_delete_in_avro_and_orc_is_read() {
    let session = session();
    for (name, expected) in KEPT_TABLES {
        let table = kept(&session, name, &kept_table(name)).await;
        let frame = session.context().read_table(Arc::new(provider(&session, &table))).unwrap();
        let batches = frame.clone().collect().await.unwrap();
        assert_eq!(content_hash(&batches, table.schema()).to_string(), expected, "{name}");
        eprintln!("{name}");
        same_by_columns(&session, frame, &batches).await;
    }
}

#[tokio::test]
async fn rows_of_avro_and_orc_files_have_positions_and_partitions() {
    let session = session();
    for format in ["avro", "orc"] {
        let name = format!("{format}_deletes");
        let table = kept(&session, &name, &kept_table(&name)).await;
        let provider = provider(&session, &table).with_metadata_columns();
        session.context().register_table(name.as_str(), Arc::new(provider.unwrap())).unwrap();
        let rows = async |query: &str| {
            let query = query.replace("{t}", &name);
            text_rows(&session.context().sql(&query).await.unwrap().collect().await.unwrap())
        };
        // Of the file of ids from 0 to 39, four rows are deleted by position; of the other by the name.
        let at = "SELECT count(*), count(DISTINCT _pos), min(_pos), max(_pos) FROM {t} WHERE";
        assert_eq!(rows(&format!("{at} part = 'a' AND _pos = id")).await, ["36|36|1|38"], "{format}");
        assert_eq!(rows(&format!("{at} part = 'b' AND _pos = id - 40")).await, ["16|16|0|18"], "{format}");
        let files = rows("SELECT DISTINCT right(_file, 8) FROM {t} ORDER BY 1").await;
        assert_eq!(files.iter().filter(|file| file.ends_with(format)).count(), 2, "{files:?}");
        assert_eq!(files.iter().filter(|file| file.ends_with("parquet")).count(), 1, "{files:?}");
        // Columns that were renamed, widened and added since, inside a struct too.
        assert_eq!(
            rows("SELECT id, part, label, st, added FROM {t} WHERE id IN (1, 43) ORDER BY id, added").await,
            [
                "1|a|n1|{xx: 1, y: 0.25, z: NULL}|NULL",
                "43|b|n42|NULL|21.5",
                "43|b|n43|{xx: 43, y: 10.75, z: NULL}|NULL",
            ],
            "{format}"
        );
        assert_eq!(rows("SELECT count(*) FROM {t}").await, ["56"], "{format}");
        assert_eq!(rows("SELECT count(*) FROM (SELECT * FROM {t} LIMIT 50)").await, ["50"], "{format}");
        assert_eq!(rows("SELECT max(id), min(label) FROM {t} WHERE part = 'a'").await, ["38|n1"], "{format}");
        let joined =
            "SELECT count(*) FROM {t} l JOIN {t} r ON l.id = r.id WHERE r.label = 'n43' AND l._pos >= 0";
        assert_eq!(rows(joined).await, ["2"], "{format}");
        assert_eq!(rows("SELECT id FROM {t} ORDER BY id DESC LIMIT 2").await, ["58", "57"], "{format}");

        let plan = session.context().sql(&format!("SELECT id FROM {name}")).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        assert!(plan.contains("DecodeExec") && plan.contains("file_type=parquet"), "{plan}");
    }
}

#[tokio::test]
async fn an_avro_or_orc_file_that_is_damaged_is_an_error_that_names_it() {
    for format in ["avro", "orc"] {
        let name = format!("{format}_deletes");
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (kept_table(&name), folder.path());
        for part in ["metadata", "data"] {
            std::fs::create_dir(to.join(part)).unwrap();
            for entry in std::fs::read_dir(from.join(part)).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
        let files: Vec<_> = std::fs::read_dir(to.join("data")).unwrap().map(|e| e.unwrap().path()).collect();
        let files = files.into_iter().filter(|path| path.extension().is_some_and(|of| of == format));
        let mut tried = 0;
        // Data files and delete files.
        for file in files {
            let whole = std::fs::read(&file).unwrap();
            let mut broken = [whole[..whole.len() / 2].to_vec(), whole.clone(), Vec::new()];
            let middle = whole.len() / 2;
            broken[1][middle..middle + 8].fill(0xff);
            for bytes in broken {
                std::fs::write(&file, bytes).unwrap();
                // A session keeps what it has read of delete files.
                let session = session();
                let table = kept(&session, &name, to).await;
                let frame = session.context().read_table(Arc::new(provider(&session, &table))).unwrap();
                let Err(error) = frame.collect().await else { continue };
                let error = icefield_engine::from_datafusion(error);
                let file = file.file_name().unwrap().to_string_lossy();
                assert!(error.to_string().contains(&*file), "{error}");
                assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
                tried += 1;
            }
            std::fs::write(&file, whole).unwrap();
        }
        assert!(tried >= 8, "{format}: {tried}");
    }
}

/// A table that goes through everything that a schema and deletes can.
const LIFE: &str = "
create table l.db.{t} (id int, hotel string, rate decimal(12,2), ts timestamp, tn timestamp_ntz, day date, tags map<string,string>, st struct<a:int,b:string>, arr array<int>, by map<int,float>)
  using iceberg partitioned by (hotel, days(ts))
  tblproperties('format-version'='{v}', 'write.format.default'='{f}', 'write.delete.format.default'='{f}', 'write.delete.mode'='merge-on-read', 'write.update.mode'='merge-on-read', 'write.merge.mode'='merge-on-read');
insert into l.db.{t} select id, concat('hotel-', id % 3), cast(id + 0.5 as decimal(12,2)), timestamp'2026-01-01 12:00:00' + make_interval(0,0,0,cast(id % 2 as int)), timestamp_ntz'1969-12-31 23:59:59.5',
  date'1960-01-01', map('k', cast(id as string)), struct(cast(id as int), if(id % 5 = 0, null, 'b')), array(1, 2), map(1, 0.5f, 2, null) from range(100);
alter table l.db.{t} rename column rate to price;
alter table l.db.{t} add column note string after id;
alter table l.db.{t} alter column id type bigint;
alter table l.db.{t} drop column day;
alter table l.db.{t} add column st.c double;
alter table l.db.{t} rename column st.b to bb;
insert into l.db.{t} select id, concat('n', id), concat('hotel-', id % 3), cast(id + 0.5 as decimal(12,2)), timestamp'1969-12-31 23:59:57.999999', timestamp_ntz'2026-01-01 00:00:00.000001',
  map('k', 'v'), if(id % 4 = 0, null, struct(cast(id as int), 'b', 1.5d)), array(1, null), map() from range(100, 200);
delete from l.db.{t} where id % 10 = 3;
update l.db.{t} set price = price + 1 where id % 10 = 4;
merge into l.db.{t} t using (select id, cast(id as string) n from range(190, 210)) s on t.id = s.id
  when matched then update set note = s.n
  when not matched then insert (id, note, hotel, price, ts) values (s.id, s.n, 'new', 9.99, timestamp'2026-03-01 00:00:00');
alter table l.db.{t} alter column note first;
insert into l.db.{t} select null, id, null, null, null, null, null, null, null, null from range(300, 302)";

/// A table of three formats at once.
const MIXED: &str = "
create table l.db.mixed (id bigint, name string, v double) using iceberg
  tblproperties('format-version'='2', 'write.delete.mode'='merge-on-read', 'write.format.default'='avro', 'write.delete.format.default'='orc');
insert into l.db.mixed select id, concat('a', id), id / 3 from range(50);
alter table l.db.mixed set tblproperties('write.format.default'='orc', 'write.delete.format.default'='avro');
insert into l.db.mixed select id, concat('o', id), null from range(50, 100);
alter table l.db.mixed set tblproperties('write.format.default'='parquet');
insert into l.db.mixed select id, null, id from range(100, 150);
delete from l.db.mixed where id % 7 = 0";

/// Rows that go through every way of packing numbers and texts, in several batches and blocks.
const PACKED: &str = "
create table l.db.{t} (id bigint, step int, ends bigint, rare bigint, noise int, same int, flag boolean, f float, d double, word string, text string, bin binary, small decimal(5,1), large decimal(38,6), ts timestamp, tn timestamp_ntz, day date, list array<bigint>, deep map<string,struct<x:int,y:array<string>>>)
  using iceberg tblproperties('format-version'='2', 'write.format.default'='{f}', 'write.{f}.compression-codec'='{c}', 'write.orc.stripe-size-bytes'='65536');
insert into l.db.{t} select id, cast(id * 7 as int), if(id % 2 = 0, 9223372036854775807, -9223372036854775807 - 1) + if(id % 2 = 0, -id, id), if(id % 97 = 0, id * 1000000007, id % 13),
  cast(xxhash64(id) % 2147483647 as int), 5, if(id % 11 = 0, null, id % 3 = 0), cast(id as float) / 7, if(id % 13 = 0, null, exp(id % 300)), concat('word', id % 20), concat('text ', hex(xxhash64(id))), cast(concat('b', id % 300) as binary),
  cast(id % 1000 / 7 as decimal(5,1)), cast(id as decimal(38,6)) * 1234567.123456, timestamp_micros(xxhash64(id) % 4000000000000000), cast(timestamp_micros((id - 5000) * 333333) as timestamp_ntz), date_add(date'1970-01-01', cast(id - 10000 as int)),
  if(id % 5 = 0, null, sequence(id, id + id % 7)), if(id % 3 = 0, map(), map(concat('k', id), if(id % 4 = 0, null, struct(cast(id as int), array('p', null, concat('q', id % 5)))))) from range(0, {n}, 1, 1)";

#[tokio::test]
async fn tables_that_spark_writes_in_avro_and_orc_read_as_the_reference_implementation_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut statements, mut names) = (vec!["create namespace if not exists l.db".to_string()], Vec::new());
    for (format, version) in [("avro", 2), ("avro", 3), ("orc", 2), ("orc", 3)] {
        let name = format!("{format}{version}");
        statements
            .push(LIFE.replace("{t}", &name).replace("{v}", &version.to_string()).replace("{f}", format));
        names.push(name);
    }
    statements.push(MIXED.to_string());
    names.push("mixed".to_string());
    let codecs = [
        ("avro", "gzip"),
        ("avro", "zstd"),
        ("avro", "snappy"),
        ("avro", "uncompressed"),
        ("orc", "zlib"),
        ("orc", "zstd"),
        ("orc", "snappy"),
        ("orc", "lz4"),
        ("orc", "none"),
    ];
    for (format, codec) in codecs {
        let name = format!("{format}_{codec}");
        let rows = if matches!(codec, "gzip" | "zlib") { "20000" } else { "2000" };
        let packed = PACKED.replace("{t}", &name).replace("{f}", format).replace("{c}", codec);
        statements.push(packed.replace("{n}", rows));
        names.push(name);
    }
    if spark_sql(folder.path(), &statements.join(";")).is_none() {
        return;
    }
    stripes_are_read_once_each(&folder.path().join("db/orc_zlib/data")).await;
    let session = session();
    for name in names {
        let metadata = newest_metadata(&folder.path().join("db").join(&name)).unwrap();
        let ident = parse_ident(&format!("db.{name}")).unwrap();
        let storage = session.catalog().storage().unconfined();
        let table = CoreTable::from_metadata_file(storage, ident, &metadata.to_string_lossy()).await.unwrap();
        let frame = session.context().read_table(Arc::new(provider(&session, &table))).unwrap();
        let batches = frame.clone().collect().await.unwrap();
        let content = content_hash(&batches, table.schema());
        let read = Referee::with_engines(&[Engine::Java])
            .check(&metadata.to_string_lossy(), Pick::Current, &content)
            .await;
        eprintln!("{name}: {content}: {read:?}");
        if !codecs.iter().any(|(format, codec)| name == format!("{format}_{codec}")) {
            same_by_columns(&session, frame, &batches).await;
        }
    }
}

/// A file that is cut anywhere gives each of its rows to one piece, with its position.
async fn stripes_are_read_once_each(folder: &Path) {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|of| of == "orc")).unwrap();
    let (size, location) = (std::fs::metadata(&file).unwrap().len(), file.to_string_lossy());
    let mut next = 0;
    let mut pieces = 0;
    for start in (0..size).step_by(20_000) {
        let storage = Storage::new();
        let reader = ContentReader::open(&storage, &location, size, DataFileFormat::Orc).await.unwrap();
        let rows = reader.rows(vec![0], Some(start..start + 20_000), 1000).unwrap();
        let rows: Vec<_> = rows.try_collect().await.unwrap();
        pieces += usize::from(!rows.is_empty());
        for Rows { first, batch } in rows {
            let ids = batch.column(0).as_primitive::<Int64Type>().values().iter().copied();
            assert_eq!(first, next);
            assert!(ids.eq(next as i64..next as i64 + batch.num_rows() as i64));
            next += batch.num_rows() as u64;
        }
    }
    assert_eq!(next, 20_000);
    assert!(pieces > 1, "the file has one stripe");
}
