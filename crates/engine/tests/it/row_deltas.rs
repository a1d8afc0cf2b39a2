//! Tables to which row deltas were committed, read by other engines; and deletes of ours and of Spark's in turn, each
//! over what the other left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::col;
use iceberg::spec::{FormatVersion, Literal};
use icefield_core::catalog::{NamespaceIdent, parse_ident};
use icefield_core::commit::{RowDelta, Transaction};
use icefield_core::deletes::{
    DeletionVectorWriter, PositionDeleteWriter, RoaringTreemap, load_deletion_vector,
};
use icefield_core::format::{ContentFile, FileRef, LiveFile, load_manifest, load_manifest_list};
use icefield_core::storage::join;
use icefield_engine::Table;
use icefield_testkit::{Pick, Referee, content_hash, newest_metadata, spark_sql};

use crate::scan_support::{partition, session_for_all_places, write_file};

/// What a table holds: name and partition by id.
type Model = BTreeMap<i64, (String, i32)>;

/// Spark makes the table, and deletes first: what it deleted is in the way of our first deletes.
fn made(version: u8) -> String {
    format!(
        "create namespace l.db;
         create table l.db.t (id bigint, name string, p int) using iceberg partitioned by (p)
           tblproperties('format-version'='{version}', 'write.delete.mode'='merge-on-read',
                         'write.update.mode'='merge-on-read');
         insert into l.db.t select id, concat('n', id), cast(id % 2 as int) from range(0, 120);
         insert into l.db.t select id, concat('n', id), cast(id % 2 as int) from range(120, 240);
         insert into l.db.t select id, 'few', 7 from range(300, 305);
         delete from l.db.t where id % 10 = 3"
    )
}

/// The same.
fn model() -> Model {
    let many = (0..240).map(|id| (id, (format!("n{id}"), (id % 2) as i32)));
    let few = (300..305).map(|id| (id, ("few".to_string(), 7)));
    many.chain(few).filter(|(id, _)| id % 10 != 3).collect()
}

fn rows(model: &Model) -> RecordBatch {
    let ids: Int64Array = model.keys().copied().collect();
    let names: StringArray = model.values().map(|(name, _)| Some(name.as_str())).collect();
    let p: Int32Array = model.values().map(|(_, p)| *p).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as _, true),
        ("name", Arc::new(names) as _, true),
        ("p", Arc::new(p) as _, true),
    ])
    .unwrap()
}

/// The table of a metadata file.
async fn open(metadata: &Path) -> Table {
    let session = session_for_all_places();
    let namespace = NamespaceIdent::new("db".to_string());
    session.catalog().create_namespace(&namespace, Default::default()).await.unwrap();
    let ident = parse_ident("db.t").unwrap();
    session.catalog().register_table(&ident, metadata.to_str().unwrap()).await.unwrap();
    session.table("db.t").await.unwrap()
}

/// A metadata file of Spark's catalog.
fn metadata_file(folder: &Path, version: u64) -> PathBuf {
    folder.join(format!("metadata/v{version}.metadata.json"))
}

/// Gives a table to Spark: its metadata becomes the next version of Spark's catalog.
fn hand_over(table: &Table, folder: &Path, version: u64) {
    let location = table.core().metadata_location();
    let ours = location.trim_start_matches("file:").trim_start_matches("//");
    std::fs::copy(ours, metadata_file(folder, version)).unwrap();
    std::fs::write(folder.join("metadata/version-hint.text"), version.to_string()).unwrap();
}

async fn live(table: &Table) -> Vec<LiveFile> {
    let core = table.core();
    let mut files = Vec::new();
    let snapshot = core.metadata().current_snapshot().unwrap();
    for manifest in load_manifest_list(core.storage(), snapshot).await.unwrap() {
        files.extend(load_manifest(core.storage(), core.metadata(), &manifest).await.unwrap().live);
    }
    files
}

/// The rows of a data file that are wanted, by position, and how many it has.
#[derive(Default)]
struct Found {
    wanted: RoaringTreemap,
    all: u64,
}

/// Where the rows of these ids are: by data file, in the order of paths.
async fn find(table: &Table, wanted: impl Fn(i64) -> bool) -> BTreeMap<String, Found> {
    let rows = table.dataframe_with_metadata_columns().await.unwrap();
    let rows = rows.select(vec![col("id"), col("_file"), col("_pos")]).unwrap().collect().await.unwrap();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for batch in rows {
        let files = cast(batch.column(1), &DataType::Utf8).unwrap();
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let positions = batch.column(2).as_primitive::<Int64Type>();
        for (row, file) in files.as_string::<i32>().iter().enumerate() {
            let file = found.entry(file.unwrap().to_string()).or_default();
            file.all += 1;
            if wanted(ids.value(row)) {
                file.wanted.insert(positions.value(row) as u64);
            }
        }
    }
    found.retain(|_, file| !file.wanted.is_empty());
    found
}

/// Deletes rows in the way of the table's version: a vector for each data file, which holds what the one before does and
/// comes in its place; or position delete files, one for each partition. A file of which no row is left goes.
async fn delete(
    table: &Table,
    name: &str,
    wanted: impl Fn(i64) -> bool,
    add_data: Vec<ContentFile>,
) -> Table {
    let core = table.core();
    let files = live(table).await;
    let is_v3 = core.metadata().format_version() == FormatVersion::V3;
    let at = |name: String| join(core.metadata().location(), &format!("data/{name}"));
    let mut delta = RowDelta { updates: !add_data.is_empty(), add_data, ..RowDelta::default() };
    let mut vectors = DeletionVectorWriter::new(at(format!("{name}.puffin")));
    let mut positions: Vec<(FileRef, PositionDeleteWriter)> = Vec::new();
    for (path, found) in find(table, wanted).await {
        let data = files.iter().find(|file| file.path() == path).unwrap();
        let mut rows = found.wanted;
        if rows.len() == found.all {
            delta.remove_data.push(data.reference());
            continue;
        }
        delta.references.push(data.reference());
        if is_v3 {
            let of_data = |file: &&LiveFile| file.file.referenced_data_file().as_ref() == Some(&path);
            if let Some(old) = files.iter().find(of_data) {
                rows |= load_deletion_vector(core.storage(), old).await.unwrap();
                delta.remove_deletes.push(old.reference());
            }
            vectors.add(&data.reference(), rows).unwrap();
            continue;
        }
        let of = data.reference();
        if positions.last().is_none_or(|(last, _)| last.partition != of.partition) {
            let writer =
                PositionDeleteWriter::new(at(format!("{name}-{}.parquet", positions.len()))).unwrap();
            positions.push((of.clone(), writer));
        }
        positions.last_mut().unwrap().1.add(&of, &rows).unwrap();
    }
    delta.add_deletes = vectors.finish(core.storage()).await.unwrap();
    for (_, writer) in positions {
        delta.add_deletes.extend(writer.finish(core.storage()).await.unwrap());
    }
    assert!(!delta.add_deletes.is_empty());
    let done = Transaction::new(core).row_delta(delta).commit(&**table.session().catalog()).await.unwrap();
    Table::new(table.session().clone(), done.table)
}

/// What we and the other engines read.
async fn check(table: &Table, model: &Model, what: &str) {
    let schema = table.core().schema();
    let expected = content_hash(&[rows(model)], schema);
    let ours = table.dataframe().await.unwrap().collect().await.unwrap();
    assert_eq!(content_hash(&ours, schema), expected, "{what}");
    let outcome = Referee::new().check(table.core().metadata_location(), Pick::Current, &expected).await;
    println!("{what}: {outcome:?}");
}

/// `rows|sum of ids|names`, as Spark gives it.
const SUMMARY: &str = "select concat_ws('~', count(*), sum(id), count(distinct name)) from l.db.t";

fn summary(model: &Model) -> String {
    let names: BTreeSet<&str> = model.values().map(|(name, _)| name.as_str()).collect();
    format!("{}~{}~{}", model.len(), model.keys().sum::<i64>(), names.len())
}

async fn in_turn_with_spark(version: u8) {
    let folder = tempfile::tempdir().unwrap();
    if spark_sql(folder.path(), &made(version)).is_none() {
        return;
    }
    let place = folder.path().join("db/t");
    let newest = newest_metadata(&place).unwrap();
    let made_to = newest.file_name().unwrap().to_str().unwrap();
    let made_to: u64 = made_to[1..].split('.').next().unwrap().parse().unwrap();
    let (table, mut model) = (open(&newest).await, model());

    // Rows are deleted beside Spark's deletes, all rows of a file, and some are updated.
    let gone = |id: i64| id % 7 == 0 || id >= 300;
    let changed = |id: i64| id % 20 == 1 && !gone(id);
    let updated: Model = model
        .iter()
        .filter(|(id, _)| changed(**id))
        .map(|(id, (_, p))| (*id, ("changed".to_string(), *p)))
        .collect();
    let odd = write_file(&table, "changed", &[rows(&updated)], partition(Some(Literal::int(1)))).await;
    let table = delete(&table, "ours1", |id| gone(id) || changed(id), vec![odd]).await;
    model.retain(|id, _| !gone(*id));
    model.extend(updated);
    check(&table, &model, "deleted and updated by us").await;
    let few = partition(Some(Literal::int(7)));
    let left = live(&table).await.into_iter().filter(|file| file.is_data() && file.file.partition() == &few);
    assert_eq!(left.count(), 0, "the file without rows is gone");

    // What was deleted before is deleted again, with more.
    let table = delete(&table, "ours2", |id| id % 9 == 0, Vec::new()).await;
    model.retain(|id, _| id % 9 != 0);
    check(&table, &model, "deleted again by us").await;

    // Spark reads that, and deletes from it.
    hand_over(&table, &place, made_to + 1);
    let script = format!("{SUMMARY}; delete from l.db.t where id % 11 = 0; {SUMMARY}");
    let answers = spark_sql(folder.path(), &script).unwrap();
    assert_eq!(answers[0][0].trim(), summary(&model), "read by Spark");
    model.retain(|id, _| id % 11 != 0);
    assert_eq!(answers[1][0].trim(), summary(&model), "deleted by Spark");

    // We read what Spark made of it, and delete again.
    let table = open(&metadata_file(&place, made_to + 2)).await;
    check(&table, &model, "deleted by Spark").await;
    let table = delete(&table, "ours3", |id| id % 13 == 0, Vec::new()).await;
    model.retain(|id, _| id % 13 != 0);
    check(&table, &model, "deleted by us after Spark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_read_position_deletes_of_ours_and_of_sparks_in_turn() {
    in_turn_with_spark(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_read_vectors_of_ours_and_of_sparks_in_turn() {
    in_turn_with_spark(3).await;
}
