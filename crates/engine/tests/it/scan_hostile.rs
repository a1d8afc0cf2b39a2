//! Tables whose metadata another wrote who means harm: what they claim brings neither the process down nor other tables into
//! disorder.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, ManifestContentType, ManifestFile, Snapshot,
    Struct, TableMetadata,
};
use icefield_core::catalog::TableIdent;
use icefield_core::evolve::types::{long, optional, string};
use icefield_core::filter::{Filter, Test};
use icefield_core::format::{
    ContentFile, ManifestListHead, WantedStatistics, load_manifest_list, write_manifest_list,
};
use icefield_core::{ErrorKind, Table as CoreTable};
use icefield_engine::scan::plan_files;
use icefield_engine::{Session, Table, from_datafusion};

use crate::scan_support::{append, rows, write_claiming};

const ID: i32 = 1;

fn session(budget: usize) -> Session {
    Session::builder().parallelism(2).memory_budget(budget).build().unwrap()
}

/// A file that is not there, with ids from `n` times ten on.
fn file(table: &Table, n: i64, rows: u64, size: u64) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{}/data/{n}.parquet", table.core().metadata().location()))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(rows)
        .file_size_in_bytes(size)
        .value_counts([(ID, 10)].into())
        .null_value_counts([(ID, 0)].into())
        .lower_bounds([(ID, Datum::long(n * 10))].into())
        .upper_bounds([(ID, Datum::long(n * 10 + 9))].into())
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

async fn create(session: &Session, name: &str) -> Table {
    session.create_table(name, [optional("id", long()), optional("s", string())]).await.unwrap()
}

async fn planned(table: &CoreTable, session: &Session, least: i64) -> icefield_core::Result<Vec<String>> {
    let snapshot = table.metadata().current_snapshot().unwrap().clone();
    let filter = Filter::Test(ID, Test::GtEq(Datum::long(least)));
    let wanted = WantedStatistics::None;
    let files = plan_files(table, &snapshot, &filter, &wanted, session.scan_caches()).await?;
    Ok(files.data.iter().map(|file| file.path().to_string()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_sizes_that_none_has_are_refused() {
    const MOST: u64 = 1 << 50;
    for (sizes, rows_of_each) in [
        (vec![i64::MAX as u64, i64::MAX as u64, 2], 1),
        (vec![MOST + 1], 1),
        (vec![1], i64::MAX as u64),
        (vec![1, 1], (i64::MAX / 2) as u64),
    ] {
        let session = session(1 << 30);
        let table = create(&session, "ns.t").await;
        let files = (0..).zip(&sizes).map(|(n, size)| file(&table, n, rows_of_each, *size)).collect();
        append(&table, files).await;
        for query in ["SELECT id FROM ns.t", "SELECT count(*) FROM ns.t", "SELECT count(*) FROM ns.t$files"] {
            let run = async { session.sql(query).await?.collect().await.map_err(from_datafusion) };
            let error = run.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataInvalid, "{query} of {sizes:?}: {error}");
        }
    }
    // As large as is believed, files are planned at once, in few pieces.
    let session = session(1 << 30);
    let table = create(&session, "ns.t").await;
    append(&table, (0..40).map(|n| file(&table, n, MOST, MOST)).collect()).await;
    for query in [
        "SELECT id FROM ns.t",
        "SELECT id FROM ns.t WHERE id > 5 ORDER BY id LIMIT 3",
        "SELECT s, count(*), sum(id) FROM ns.t GROUP BY s",
    ] {
        session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    }
    let bytes = "SELECT total_data_file_size_in_bytes, record_count FROM ns.t$partitions";
    assert_eq!(rows(&session, bytes).await, [format!("{0}|{0}", 40 * MOST)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_does_not_fit_into_memory_is_an_error() {
    let many = session(64 << 10);
    let table = create(&many, "ns.t").await;
    let table = append(&table, (0..2000).map(|n| file(&table, n, 10, 1000)).collect()).await;
    let error = planned(table.core(), &many, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    let sql = many.sql("SELECT id FROM ns.t").await.unwrap().create_physical_plan().await;
    assert_eq!(from_datafusion(sql.unwrap_err()).kind(), ErrorKind::ResourceExhausted);
    assert_eq!(many.context().runtime_env().memory_pool.reserved(), 0);
    // With memory it is planned, and what it took is given back.
    let large = session(64 << 20);
    assert_eq!(planned(table.core(), &large, 19_000).await.unwrap().len(), 100);
    assert_eq!(planned(table.core(), &large, 19_000).await.unwrap().len(), 100);
    assert_eq!(large.context().runtime_env().memory_pool.reserved(), 0);
}

/// A snapshot of a table with these manifests.
async fn with_manifests(table: &CoreTable, manifests: Vec<ManifestFile>, name: &str) -> Snapshot {
    let current = table.metadata().current_snapshot().unwrap();
    let head = ManifestListHead {
        version: table.metadata().format_version(),
        snapshot_id: current.snapshot_id(),
        parent_snapshot_id: None,
        sequence_number: current.sequence_number(),
        first_row_id: 0,
    };
    let (list, _) = write_manifest_list(&head, manifests).unwrap();
    let location = format!("{}/metadata/{name}.avro", table.metadata().location());
    table.storage().write(&location, list).await.unwrap();
    Snapshot::builder()
        .with_snapshot_id(current.snapshot_id())
        .with_sequence_number(current.sequence_number())
        .with_timestamp_ms(current.timestamp_ms())
        .with_manifest_list(location)
        .with_summary(current.summary().clone())
        .with_schema_id(0)
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_more_manifests_than_memory_holds_is_an_error() {
    let session = session(1 << 20);
    let table = create(&session, "ns.t").await;
    let table = append(&table, vec![file(&table, 0, 10, 1000)]).await;
    let core = table.core();
    let one = load_manifest_list(core.storage(), core.metadata().current_snapshot().unwrap()).await.unwrap();
    let one = one.into_iter().find(|manifest| manifest.content == ManifestContentType::Data).unwrap();
    let list = with_manifests(core, vec![one.clone(); 20_000], "bomb").await;
    let size = core.storage().read(list.manifest_list()).await.unwrap().len();
    assert!(size < 200 << 10, "{size} bytes of a list");
    let caches = session.scan_caches();
    let error = plan_files(core, &list, &Filter::True, &WantedStatistics::None, caches).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    // A few are no matter.
    let list = with_manifests(core, vec![one; 3], "few").await;
    let files = plan_files(core, &list, &Filter::True, &WantedStatistics::None, caches).await.unwrap();
    assert_eq!(files.data.len(), 3);
    drop(files);
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
}

/// Another table that names a table's manifests, with columns, partitions and history as it says.
fn naming(table: &CoreTable, name: &str, say: impl Fn(String) -> String) -> CoreTable {
    let json = say(serde_json::to_string(table.metadata()).unwrap());
    let metadata: TableMetadata = serde_json::from_str(&json).unwrap();
    let ident = TableIdent::from_strs(["ns", name]).unwrap();
    let location = format!("memory://elsewhere/{name}.metadata.json");
    CoreTable::new(ident, Arc::new(metadata), location, table.storage().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_names_anothers_manifests_changes_nothing_of_it() {
    let session = session(1 << 30);
    let table = create(&session, "ns.t").await;
    let table = append(&table, (0..40).map(|n| file(&table, n, 10, 1000)).collect()).await;
    let fresh = Session::builder().build().unwrap();
    let expected = planned(table.core(), &fresh, 300).await.unwrap();
    assert_eq!(expected.len(), 10);
    // The bounds would be numbers of another kind, or text, or nobody's.
    for (n, (from, to)) in [
        ("\"type\":\"long\"", "\"type\":\"double\""),
        ("\"type\":\"long\"", "\"type\":\"timestamp\""),
        ("\"type\":\"long\"", "\"type\":\"string\""),
        ("\"id\":1,", "\"id\":9,"),
    ]
    .into_iter()
    .enumerate()
    {
        let evil = naming(table.core(), &format!("evil{n}"), |json| {
            assert!(json.contains(from), "{json}");
            json.replace(from, to)
        });
        let snapshot = evil.metadata().current_snapshot().unwrap().clone();
        let _ =
            plan_files(&evil, &snapshot, &Filter::True, &WantedStatistics::All, session.scan_caches()).await;
        assert_eq!(planned(table.core(), &session, 300).await.unwrap(), expected, "{from} as {to}");
        // Nor does who comes second.
        assert_eq!(planned(&evil, &session, i64::MIN).await.map(|files| files.len()).unwrap_or(40), 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn split_offsets_that_are_none_cut_no_file_wrongly() {
    let session = session(1 << 30);
    let table = create(&session, "ns.t").await;
    let ids = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values(0..1000)) as arrow::array::ArrayRef, true),
        ("s", Arc::new(arrow::array::StringArray::from(vec![Some("x"); 1000])), true),
    ])
    .unwrap();
    let claimed = |metrics: &mut icefield_core::format::FileMetrics| {
        metrics.split_offsets = vec![i64::MIN, -1, 0, 3, 3, i64::MAX, 1 << 40, 7];
    };
    let file = write_claiming(&table, "a", &[ids], Struct::empty(), claimed).await;
    append(&table, vec![file]).await;
    assert_eq!(rows(&session, "SELECT count(id), sum(id), min(s) FROM ns.t").await, ["1000|499500|x"]);
}

/// A Parquet file of this footer alone.
fn parquet(footer: &[u8]) -> Vec<u8> {
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1".as_slice(), footer, &length, b"PAR1"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_footer_that_says_too_much_fails_its_query_alone() {
    let session = session(1 << 30);
    let table = create(&session, "ns.t").await;
    // The schema: two thousand million elements; a group of a thousand million; a hundred thousand groups in each other.
    let many = vec![0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    let wide = vec![
        0x15, 2, 0x19, 0x1c, 0x48, 1, b'a', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0x16, 0, 0x19, 0x0c, 0,
    ];
    let mut deep = vec![0x15, 2, 0x19, 0xfc, 0xa0, 0x8d, 0x06];
    (0..100_000).for_each(|_| deep.extend([0x35, 0, 0x18, 1, b'a', 0x15, 2, 0]));
    deep.extend([0x16, 0, 0x19, 0x0c, 0]);
    for (n, footer) in (0..).zip([many, wide, deep]) {
        let bytes = parquet(&footer);
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("{}/data/{n}.parquet", table.core().metadata().location()))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(10)
            .file_size_in_bytes(bytes.len() as u64)
            .partition_spec_id(0)
            .build()
            .unwrap();
        let claimed = ContentFile { spec_id: 0, file };
        table.core().storage().write(claimed.file.file_path(), bytes).await.unwrap();
        let name = format!("ns.t{n}");
        let of = append(&create(&session, &name).await, vec![claimed]).await;
        let run = of.dataframe().await.unwrap().collect().await;
        let error = from_datafusion(run.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
        assert!(error.to_string().contains("parquet"), "{error}");
    }
}
