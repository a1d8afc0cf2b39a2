//! Types that the `iceberg` crate does not know, in tables that Iceberg Java wrote (see `ForeignTable`): variants, whole and
//! shredded, geometries, columns of type unknown, and types that nobody knows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use datafusion::prelude::{col, lit};
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Datum, Struct, Type};
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, IcebergCatalog, MemoryCatalog, parse_ident};
use icefield_core::commit::Transaction;
use icefield_core::evolve::{asc, types};
use icefield_core::format::{ContentFile, load_manifest_list};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table, from_datafusion};
use icefield_testkit::ForeignTable;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use crate::scan_support::{rows, text_rows};

/// One of the tables, in a catalog of its own.
struct Lake {
    files: ForeignTable,
    session: Session,
    table: Table,
}

impl Lake {
    async fn of(name: &str) -> Self {
        Self::changed(name, |metadata| metadata).await
    }

    /// With another metadata file.
    async fn changed(name: &str, change: impl Fn(String) -> String) -> Self {
        let files = ForeignTable::copy(name, change);
        let catalog = Arc::new(MemoryCatalog::new("memory://w", files.storage.clone()));
        let session = Session::builder().catalog(catalog.clone()).parallelism(2).build().unwrap();
        let ident = parse_ident(&format!("db.{name}")).unwrap();
        catalog.create_namespace(ident.namespace(), Default::default()).await.unwrap();
        catalog.register_table(&ident, &files.metadata_location).await.unwrap();
        let table = session.table(&ident.to_string()).await.unwrap();
        Self { files, session, table }
    }

    async fn rows(&self, query: &str) -> Vec<String> {
        rows(&self.session, query).await
    }

    async fn error(&self, query: &str) -> icefield_core::Error {
        match self.session.sql(query).await {
            Err(error) => error,
            Ok(frame) => from_datafusion(frame.collect().await.unwrap_err()),
        }
    }

    /// The metadata file's own JSON.
    fn json(&self, table: &Table) -> Value {
        self.files.json(table.core().metadata_location())
    }
}

/// The generator's variants (`WriteForeign.java`), as JSON.
const VALUES: [&str; 8] = [
    r#"{"a":1,"note":"cheap","price":12.5}"#,
    "NULL",
    r#"{"a":"one","b":true,"when":"2024-06-22T10:00:00+00:00"}"#,
    "null",
    r#"{"list":[1,"two",{"b":3}]}"#,
    r#""just text""#,
    r#"{"a":{"b":2.5},"note":null}"#,
    r#""AQID""#,
];

/// What `variant(i)` of the generator is.
fn value(i: usize) -> String {
    VALUES[i % 8].replace("\"a\":1,", &format!("\"a\":{},", i + 1))
}

#[tokio::test]
async fn variants_read_whole_however_their_files_shred_them() {
    let lake = Lake::of("variants").await;
    let expected = |next: usize| (0..8).map(|i| value(i + next)).collect::<Vec<_>>();
    for from in [0, 100] {
        let of = |what: &str| {
            format!("SELECT {what} FROM db.variants WHERE id >= {from} AND id < {from} + 100 ORDER BY id")
        };
        assert_eq!(lake.rows(&of("variant_to_json(v)")).await, expected(0), "{from}");
        assert_eq!(lake.rows(&of("variant_to_json(l[1])")).await, {
            let mut first = expected(0);
            (first[3], first[7]) = ("NULL".to_string(), "NULL".to_string());
            first
        });
        assert_eq!(lake.rows(&of("variant_to_json(l[3])")).await, {
            let mut third = expected(1);
            (third[3], third[7]) = ("NULL".to_string(), "NULL".to_string());
            third
        });
        let structs = lake.rows(&of("s['n'], variant_to_json(s['v'])")).await;
        let expected_structs: Vec<String> = (0..8)
            .map(|i| if i % 3 == 2 { "NULL|NULL".to_string() } else { format!("{i}|{}", VALUES[i]) })
            .collect();
        assert_eq!(structs, expected_structs);
        assert_eq!(lake.rows(&of("variant_to_json(map_extract(m, 'k')[1])")).await, expected(0));
        // The column came with the second file.
        let later = lake.rows(&of("variant_to_json(later)")).await;
        assert_eq!(later, if from == 0 { vec!["NULL".to_string(); 8] } else { expected(2) });
    }
    let nulls = "SELECT count(*), count(v), count(later), count(u) FROM db.variants";
    assert_eq!(lake.rows(nulls).await, ["16|14|7|0"]);
    assert_eq!(lake.rows("SELECT id FROM db.variants WHERE v IS NULL ORDER BY id").await, ["1", "101"]);
}

#[tokio::test]
async fn the_columns_of_a_scan_are_marked_with_what_they_are() {
    let lake = Lake::of("variants").await;
    let frame = lake.table.dataframe().await.unwrap();
    let batches = frame.collect().await.unwrap();
    let schema = batches[0].schema();
    let field = |name: &str| schema.field_with_name(name).unwrap().clone();
    assert_eq!(field("v").extension_type_name(), Some("arrow.parquet.variant"));
    assert_eq!(field("u").data_type(), &DataType::Null);
    let DataType::List(element) = field("l").data_type().clone() else { panic!("{schema}") };
    assert_eq!(element.extension_type_name(), Some("arrow.parquet.variant"));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 16);
}

#[tokio::test]
async fn values_inside_variants_are_found_by_path_and_given_as_a_type() {
    let lake = Lake::of("variants").await;
    let of = |what: &str| format!("SELECT {what} FROM db.variants WHERE id < 200 ORDER BY id");
    for (what, zero) in [
        ("variant_get(v, '$.price', 'decimal(9, 2)')", "12.50"),
        ("variant_get(v, '$.price', 'double')", "12.5"),
        ("variant_get(v, '$.note', 'string')", "cheap"),
        ("variant_get(v, '$[''note'']', 'string')", "cheap"),
        ("try_variant_get(v, '$.a', 'int')", "1"),
        ("try_variant_get(v, '$.a', 'bigint') + 1", "2"),
        ("variant_to_json(variant_get(v, '$.note'))", "\"cheap\""),
        ("variant_to_json(variant_get(variant_get(v, '$'), '$.note', 'variant'))", "\"cheap\""),
        ("variant_get(v, '$.absent.b', 'int')", "NULL"),
        ("variant_get(v, '$.list[0]', 'int')", "NULL"),
    ] {
        let found = lake.rows(&of(what)).await;
        assert_eq!((found[0].as_str(), found[8].as_str()), (zero, zero), "{what}");
        assert_eq!(found[1], "NULL", "{what}");
    }
    assert_eq!(lake.rows(&of("variant_get(v, '$.list[0]', 'int')")).await[4], "1");
    assert_eq!(lake.rows(&of("variant_get(v, '$.list[1]', 'string')")).await[12], "two");
    assert_eq!(lake.rows(&of("variant_get(v, '$.list[2].b', 'bigint')")).await[4], "3");
    assert_eq!(lake.rows(&of("variant_get(v, '$.b', 'boolean')")).await[10], "true");
    let when = lake.rows(&of("variant_get(v, '$.when', 'timestamp')")).await;
    assert_eq!((when[2].as_str(), when[10].as_str()), ("2024-06-22T10:00:00Z", "2024-06-22T10:00:00Z"));
    let cheap = "SELECT id FROM db.variants WHERE variant_get(v, '$.note', 'string') = 'cheap' ORDER BY id";
    assert_eq!(lake.rows(cheap).await, ["0", "100"]);

    // A value of another type is an error, or NULL where that was asked for.
    let error = lake.error(&of("variant_get(v, '$.a', 'int')")).await;
    assert!(error.to_string().to_lowercase().contains("variant"), "{error}");
    assert_eq!(lake.rows(&of("try_variant_get(v, '$.a', 'int')")).await[2], "NULL");
    for wrong in [
        "variant_get(v)",
        "variant_get(id, '$.a')",
        "variant_get(v, 'a')",
        "variant_get(v, '$.a', 'list')",
        "variant_get(v, '$.' || CAST(id AS VARCHAR))",
        "variant_to_json(s)",
    ] {
        lake.error(&of(wrong)).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_variant_are_an_error_and_no_panic() {
    let session = crate::scan_support::session();
    for bytes in ["X''", "X'01'", "X'ff'", "X'0100'", "X'010200'", "X'11ffffffff'"] {
        for value in ["X''", "X'02'", "X'0c'", "X'02ff00'", "X'03ffff'", "X'fd'", "X'40ff'"] {
            let variant = format!("named_struct('metadata', {bytes}, 'value', {value})");
            for query in [
                format!("SELECT variant_to_json({variant})"),
                format!("SELECT variant_get({variant}, '$.a[0]', 'int')"),
            ] {
                if let Ok(frame) = session.sql(&query).await {
                    let _ = frame.collect().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn commits_leave_the_types_of_a_metadata_file_as_they_were() {
    for name in ["variants", "shapes"] {
        let lake = Lake::of(name).await;
        let before = lake.json(&lake.table);
        let table = lake.table.set_properties([("owner", "me")]).await.unwrap();
        let after = lake.json(&table);
        assert_eq!(after["schemas"], before["schemas"], "{name}");
        assert_eq!(table.core().property("owner"), Some("me"));
        let names: Vec<_> = table.core().metadata().properties().keys().cloned().collect();
        assert!(names.iter().all(|name| name == "owner" || name.starts_with("write.")), "{names:?}");
        let tagged = match name {
            "variants" => table.create_tag("x").await.unwrap(),
            _ => table,
        };
        let text = lake.json(&tagged).to_string();
        assert!(!text.contains("fixed["), "{text}");
    }
}

#[tokio::test]
async fn columns_of_such_types_are_renamed_moved_and_dropped_as_others_are() {
    let lake = Lake::of("variants").await;
    let update = lake.table.update_schema().rename_column("v", "what").drop_column("later");
    let table = update.move_first("what").drop_column("u").add_column("s.k", types::int()).await.unwrap();
    let json = lake.json(&table);
    let fields: Vec<(String, Value)> = json["schemas"].as_array().unwrap().last().unwrap()["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap().to_string(), field["type"].clone()))
        .collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["what", "id", "s", "l", "m"]);
    assert_eq!(fields[0].1, "variant");
    assert_eq!(fields[2].1["fields"][1]["type"], "variant");
    assert_eq!(fields[3].1["element"], "variant");
    assert_eq!(fields[4].1["value"], "variant");
    let found = lake.rows("SELECT variant_to_json(what) FROM db.variants ORDER BY id LIMIT 1").await;
    assert_eq!(found, [VALUES[0]]);
    // The snapshot before the change has the columns of its time.
    let first = table.core().metadata().history()[0].snapshot_id;
    let old = format!("SELECT count(v), count(u) FROM db.variants FOR VERSION AS OF {first}");
    assert_eq!(lake.rows(&old).await, ["7|0"]);

    // What would take such a column for bytes of a fixed length is refused, and named.
    let shapes = Lake::of("shapes").await;
    let column = shapes.table.core().schema().field_by_name("plan").unwrap().field_type.as_ref().clone();
    let refusals = [
        shapes.table.update_spec().add_field("plan").await.unwrap_err(),
        shapes
            .table
            .alter()
            .edit(icefield_core::evolve::SortOrderUpdate::new([asc("plan")]))
            .await
            .unwrap_err(),
        shapes.table.update_schema().promote_column("plan", types::binary()).await.unwrap_err(),
        shapes.table.update_schema().add_column("more", column).await.unwrap_err(),
    ];
    for error in refusals {
        assert!(error.to_string().contains("geometry(srid:3857)"), "{error}");
        assert!(!error.to_string().contains("fixed"), "{error}");
    }
    let identified = shapes.table.update_schema().require_column("plan").allow_incompatible();
    let error = identified.set_identifier_fields(["plan"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn writing_to_such_a_table_is_refused_before_anything_is_written() {
    let lake = Lake::of("variants").await;
    let files = lake.files.files();
    let rows = lake.session.sql("SELECT CAST(7 AS BIGINT) AS id").await.unwrap();
    let same = lake.table.dataframe().await.unwrap();
    for error in [
        rows.clone().append_to(&lake.session, "db.variants").await.unwrap_err(),
        rows.clone().overwrite(&lake.session, "db.variants").await.unwrap_err(),
        same.append_to(&lake.session, "db.variants").evolve_schema().await.unwrap_err(),
        lake.error("INSERT INTO db.variants (id) VALUES (7)").await,
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("variant"), "{error}");
    }
    assert_eq!(lake.files.files(), files);
    assert_eq!(lake.rows("SELECT count(*) FROM db.variants").await, ["16"]);
    // Nor is the table given to code that is built on the iceberg crate, which would write what stands in for the types.
    let theirs = IcebergCatalog::new(lake.session.catalog().clone());
    let error = iceberg::Catalog::load_table(&theirs, lake.table.ident()).await.unwrap_err();
    assert!(error.to_string().contains("variant"), "{error}");
}

/// WKB of a point.
fn point(x: f64, y: f64) -> Vec<u8> {
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend([x, y].iter().flat_map(|v| v.to_le_bytes()));
    wkb
}

/// A file with two points, one of them in a list too, as an entry with the bounds that the format has for geometries.
async fn shapes_file(table: &Table) -> ContentFile {
    let message = "message table {
        required int64 id = 1; optional binary point = 2; optional binary plan = 3;
        optional group all (LIST) = 5 { repeated group list { optional binary element = 7; } } }";
    let schema = SchemaDescriptor::new(Arc::new(parse_message_type(message).unwrap()));
    let (one, two) = (point(1.0, 2.0), point(-3.0, 4.0));
    let points: ArrayRef = Arc::new(BinaryArray::from(vec![Some(one.as_slice()), Some(&two), None]));
    let element = Arc::new(Field::new("element", DataType::Binary, true));
    let all = ListArray::new(
        element,
        arrow::buffer::OffsetBuffer::from_lengths([1, 0, 0]),
        points.slice(0, 1),
        Some(vec![true, true, false].into()),
    );
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef, false),
        ("point", points.clone(), true),
        ("plan", points, true),
        ("all", Arc::new(all), true),
    ]);
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let options = ArrowWriterOptions::new().with_parquet_schema(schema);
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (size, location) =
        (bytes.len() as u64, format!("{}/data/a.parquet", table.core().metadata().location()));
    table.core().storage().write(&location, bytes).await.unwrap();
    let Type::Primitive(of) = table.core().schema().field_by_id(2).unwrap().field_type.as_ref().clone()
    else {
        panic!("a geometry is primitive")
    };
    let bound = |x: f64, y: f64| {
        let bytes: Vec<u8> = [x, y].iter().flat_map(|v| v.to_le_bytes()).collect();
        [(2, Datum::try_from_bytes(&bytes, of.clone()).unwrap())].into()
    };
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(3)
        .file_size_in_bytes(size)
        .value_counts([(2, 3)].into())
        .null_value_counts([(2, 1)].into())
        .lower_bounds(bound(-3.0, 2.0))
        .upper_bounds(bound(1.0, 4.0))
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

#[tokio::test]
async fn geometries_are_wkb_and_their_bounds_are_kept_and_never_compared() {
    let lake = Lake::of("shapes").await;
    let file = shapes_file(&lake.table).await;
    let catalog = lake.session.catalog();
    let commit = Transaction::new(lake.table.core()).fast_append(vec![file.clone()]).commit(&**catalog);
    let table = Table::new(lake.session.clone(), commit.await.unwrap().table);

    // The manifest has the types as they are, and the bounds as they came.
    let snapshot = table.core().metadata().current_snapshot().unwrap().clone();
    let list = load_manifest_list(table.core().storage(), &snapshot).await.unwrap();
    let bytes = table.core().storage().read(&list[0].manifest_path).await.unwrap();
    assert_eq!(list[0].manifest_length, bytes.len() as i64);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("geometry(srid:3857)") && text.contains("\"unknown\""), "{text}");
    assert!(!text.contains("fixed["), "{text}");
    let manifest =
        icefield_core::format::load_manifest(table.core().storage(), table.core().metadata(), &list[0]);
    let manifest = manifest.await.unwrap();
    assert_eq!(manifest.live[0].file.lower_bounds(), file.file.lower_bounds());
    assert_eq!(manifest.partition.schema().unwrap().as_ref(), table.core().schema().as_ref());

    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (one, two) = (hex(point(1.0, 2.0)), hex(point(-3.0, 4.0)));
    assert_eq!(
        lake.rows("SELECT id, point FROM db.shapes ORDER BY id").await,
        [format!("1|{one}"), format!("2|{two}"), "3|NULL".to_string()]
    );
    for (condition, ids) in [
        (format!("point = X'{one}'"), vec!["1"]),
        (format!("point <> X'{one}'"), vec!["2"]),
        ("point IS NULL".to_string(), vec!["3"]),
        ("point IS NOT NULL".to_string(), vec!["1", "2"]),
        ("point < X'00'".to_string(), vec![]),
        (format!("plan >= X'{one}'"), vec!["1"]),
        ("route IS NULL".to_string(), vec!["1", "2", "3"]),
        ("nothing IS NULL".to_string(), vec!["1", "2", "3"]),
        ("cardinality(\"all\") > 0".to_string(), vec!["1"]),
    ] {
        let found = lake.rows(&format!("SELECT id FROM db.shapes WHERE {condition} ORDER BY id")).await;
        assert_eq!(found, ids, "{condition}");
    }
    assert_eq!(lake.rows("SELECT count(point), count(nothing), max(id) FROM db.shapes").await, ["2|0|3"]);
    let schema = table.provider().unwrap();
    let schema = datafusion::catalog::TableProvider::schema(&*schema);
    let route = schema.field_with_name("route").unwrap();
    assert_eq!(route.extension_type_name(), Some("geoarrow.wkb"));
    assert!(route.metadata()["ARROW:extension:metadata"].contains("karney"));
    for metadata_table in ["files", "entries", "manifests", "snapshots", "partitions", "refs"] {
        lake.session
            .sql(&format!("SELECT * FROM db.\"shapes${metadata_table}\""))
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_type_that_nobody_knows_is_an_error_where_it_is_asked_for_and_only_there() {
    let change = |metadata: String| {
        metadata
            .replace("\"geometry(srid:3857)\"", "\"polygon(7)\"")
            .replace("\"element\":\"geometry\"", "\"element\":{\"type\":\"struct\",\"fields\":[{\"id\":9,\"name\":\"deep\",\"required\":false,\"type\":\"decimal(50, 2)\"}]}")
    };
    let lake = Lake::changed("shapes", change).await;
    let file = shapes_file(&lake.table).await;
    let catalog = lake.session.catalog();
    Transaction::new(lake.table.core()).append(vec![file]).commit(&**catalog).await.unwrap();
    assert_eq!(
        lake.rows("SELECT id, nothing FROM db.shapes WHERE id > 1 ORDER BY id").await,
        ["2|NULL", "3|NULL"]
    );
    assert_eq!(lake.rows("SELECT count(*) FROM db.shapes").await, ["3"]);
    for (query, column, of) in [
        ("SELECT plan FROM db.shapes", "plan", "polygon(7)"),
        ("SELECT * FROM db.shapes", "plan", "polygon(7)"),
        ("SELECT id FROM db.shapes WHERE plan IS NULL", "plan", "polygon(7)"),
        ("SELECT count(plan) FROM db.shapes", "plan", "polygon(7)"),
        ("SELECT \"all\" FROM db.shapes", "all.element.deep", "decimal(50, 2)"),
    ] {
        let error = lake.error(query).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{query}: {error}");
        assert!(error.to_string().contains(column) && error.to_string().contains(of), "{query}: {error}");
    }
    let table = lake.session.table("db.shapes").await.unwrap();
    let table = table.set_properties([("owner", "me")]).await.unwrap();
    let fields = &lake.json(&table)["schemas"][0]["fields"];
    assert_eq!(fields[2]["type"], "polygon(7)");
    lake.session.sql("SELECT * FROM db.\"shapes$files\"").await.unwrap().collect().await.unwrap();
    let kept = table.dataframe().await.unwrap().filter(col("id").gt(lit(2))).unwrap();
    let kept = kept.select_columns(&["id"]).unwrap().collect().await.unwrap();
    assert_eq!(text_rows(&kept), ["3"]);
}
