//! Which files a scan reads, and what finding out costs.

use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Datum, FormatVersion, Literal, NestedField,
    PrimitiveType, Schema, Transform, Type, UnboundPartitionSpec,
};
use icefield_core::filter::{FileMatcher, Filter, Test};
use icefield_core::format::{ContentFile, WantedStatistics, load_manifest, load_manifest_list};
use icefield_core::storage::Storage;
use icefield_engine::scan::{ScanCaches, plan_files};
use icefield_engine::{Session, Table};
use icefield_testkit::FaultyStore;

use crate::scan_support::{append, create, partition, session};

const ID: i32 = 1;
const CITY: i32 = 2;

/// Three manifests of forty files in six partitions, one of them NULL's; ids rise from file to file. One file is empty.
async fn many_files(session: &Session) -> Table {
    let fields = vec![
        NestedField::optional(ID, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(CITY, "city", Type::Primitive(PrimitiveType::String)).into(),
    ];
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    let spec = UnboundPartitionSpec::builder().add_partition_field(CITY, "city", Transform::Identity);
    let spec = spec.unwrap().build();
    let mut table = create(session, "t", schema, FormatVersion::V2, Some(spec)).await;
    for manifest in 0..3 {
        let files = (manifest * 40..(manifest + 1) * 40).map(|n| file(&table, n)).collect();
        table = append(&table, files).await;
    }
    table
}

fn file(table: &Table, n: i64) -> ContentFile {
    let city = (n % 6 > 0).then(|| Literal::string(format!("city {}", n % 6)));
    let location = table.core().metadata().location();
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{location}/data/{n}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(partition(city))
        .record_count(if n == 7 { 0 } else { 10 })
        .file_size_in_bytes(1000)
        .value_counts([(ID, 10)].into())
        .null_value_counts([(ID, 0)].into())
        .lower_bounds([(ID, Datum::long(n * 10))].into())
        .upper_bounds([(ID, Datum::long(n * 10 + 9))].into())
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

async fn planned(table: &Table, filter: &Filter, caches: &Arc<ScanCaches>) -> Vec<String> {
    let snapshot = table.core().metadata().current_snapshot().unwrap().clone();
    let files = plan_files(table.core(), &snapshot, filter, &WantedStatistics::None, caches).await.unwrap();
    assert!(files.deletes.is_empty());
    files.data.iter().map(|file| file.path().to_string()).collect()
}

/// Every file of the snapshot held against the filter by itself.
async fn one_by_one(table: &Table, filter: &Filter) -> Vec<String> {
    let core = table.core();
    let matcher = FileMatcher::new(filter, core.metadata()).unwrap();
    let snapshot = core.metadata().current_snapshot().unwrap();
    let mut paths = Vec::new();
    for manifest in load_manifest_list(core.storage(), snapshot).await.unwrap() {
        let content = load_manifest(core.storage(), core.metadata(), &manifest).await.unwrap();
        let matching = content.live.iter().filter(|file| matcher.might_match(file.spec_id, &file.file));
        paths.extend(matching.map(|file| file.path().to_string()));
    }
    paths
}

fn city(n: i64) -> Filter {
    Filter::Test(CITY, Test::Eq(Datum::string(format!("city {n}"))))
}

fn ids_from(id: i64) -> Filter {
    Filter::Test(ID, Test::GtEq(Datum::long(id)))
}

#[tokio::test]
async fn files_planned_by_partition_are_those_that_match_one_by_one() {
    let session = session();
    let table = many_files(&session).await;
    for (filter, count) in [
        (Filter::True, 119),
        (Filter::False, 0),
        (city(1), 19),
        (city(2), 20),
        (Filter::Not(Box::new(city(2))), 79),
        (Filter::Test(CITY, Test::IsNull), 20),
        (city(9), 0),
        (ids_from(1000), 20),
        (Filter::And(vec![city(2), ids_from(1000)]), 3),
        (Filter::Or(vec![city(2), ids_from(1000)]), 37),
    ] {
        let files = planned(&table, &filter, session.scan_caches()).await;
        assert_eq!(files.len(), count, "{filter:?}");
        assert_eq!(files, one_by_one(&table, &filter).await, "{filter:?}");
    }
}

#[tokio::test]
async fn what_is_cached_is_planned_without_a_request_whatever_the_filter() {
    let store = Arc::new(FaultyStore::in_memory());
    let storage = Storage::new().with_store("memory://warehouse", store.clone()).unwrap();
    let session = Session::builder().parallelism(2).storage(storage).build().unwrap();
    let table = many_files(&session).await;
    store.reset();
    assert_eq!(planned(&table, &city(2), session.scan_caches()).await.len(), 20);
    assert_eq!(store.total(), 4, "the list and three manifests: {:?}", store.ops());
    store.reset();
    for filter in [city(2), city(3), ids_from(1000), Filter::True] {
        planned(&table, &filter, session.scan_caches()).await;
    }
    assert_eq!(store.total(), 0, "{:?}", store.ops());
}

#[tokio::test]
async fn what_one_scan_cached_has_what_another_wants_to_know() {
    let store = Arc::new(FaultyStore::in_memory());
    let storage = Storage::new().with_store("memory://warehouse", store.clone()).unwrap();
    let session = Session::builder().parallelism(2).storage(storage).build().unwrap();
    let table = many_files(&session).await;
    let core = table.core();
    let snapshot = core.metadata().current_snapshot().unwrap().clone();
    let planned = async |statistics: &WantedStatistics| {
        plan_files(core, &snapshot, &Filter::True, statistics, session.scan_caches()).await.unwrap().data
    };
    let bare = planned(&WantedStatistics::None).await;
    assert!(
        bare.iter().all(|file| file.file.lower_bounds().is_empty() && file.file.value_counts().is_empty())
    );
    let bytes = session.scan_caches().size_bytes();
    store.reset();
    for statistics in [WantedStatistics::of([ID]), WantedStatistics::All, WantedStatistics::of([CITY])] {
        let files = planned(&statistics).await;
        assert_eq!(files.len(), 119, "one is empty");
        for file in files {
            let name = file.path().rsplit('/').next().and_then(|name| name.strip_suffix(".parquet"));
            let n: i64 = name.unwrap().parse().unwrap();
            let bounds = (file.file.lower_bounds().get(&ID), file.file.upper_bounds().get(&ID));
            let expected = (Some(&Datum::long(n * 10)), Some(&Datum::long(n * 10 + 9)));
            assert_eq!(bounds, expected, "{statistics:?}");
        }
    }
    assert_eq!(store.total(), 0, "{:?}", store.ops());
    assert!(session.scan_caches().size_bytes() > bytes, "what is held is counted");
}

#[tokio::test]
async fn files_that_were_cached_before_an_upgrade_have_row_ids_after_it() {
    let session = session();
    let table = many_files(&session).await;
    let planned = async |table: &Table| {
        let snapshot = table.core().metadata().current_snapshot().unwrap().clone();
        let (none, caches) = (WantedStatistics::None, session.scan_caches());
        plan_files(table.core(), &snapshot, &Filter::True, &none, caches).await.unwrap().data
    };
    assert!(planned(&table).await.iter().all(|file| file.file.first_row_id().is_none()));
    table.upgrade_format_version(3).await.unwrap();
    let table = append(&table.refresh().await.unwrap(), vec![file(&table, 120)]).await;
    let files = planned(&table).await;
    assert_eq!(files.len(), 120, "one is empty");
    assert!(files.iter().all(|file| file.file.first_row_id().is_some()));
}

#[tokio::test]
async fn a_cache_too_small_for_the_manifests_plans_the_same_files() {
    let session = session();
    let table = many_files(&session).await;
    let small = Arc::new(ScanCaches::new(64));
    for _ in 0..2 {
        assert_eq!(planned(&table, &city(2), &small).await, one_by_one(&table, &city(2)).await);
        assert!(small.size_bytes() <= 64);
    }
    planned(&table, &city(2), session.scan_caches()).await;
    let bytes = session.scan_caches().size_bytes();
    assert!(bytes > 120 * 300 && bytes < 120 * 5000, "{bytes} bytes for 120 files");
}
