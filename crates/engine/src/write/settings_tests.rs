use std::collections::HashMap;

use iceberg::TableCreation;
use iceberg::spec::{
    FormatVersion, NestedField, NullOrder, SortDirection, SortField, SortOrder, TableMetadataBuilder,
    Transform, UnboundPartitionSpec,
};

use parquet::bloom_filter::Sbbf;

use super::*;

fn metadata(properties: &[(&str, &str)], partitioned: bool, sorted: bool) -> TableMetadata {
    use iceberg::spec::{ListType, PrimitiveType, StructType};
    let inner = StructType::new(vec![NestedField::optional(4, "b.c", PrimitiveType::Long.into()).into()]);
    let list = ListType::new(NestedField::list_element(5, PrimitiveType::String.into(), true).into());
    let schema = Schema::builder().with_fields([
        NestedField::optional(1, "id", PrimitiveType::Long.into()).into(),
        NestedField::optional(2, "a", Type::Struct(inner)).into(),
        NestedField::optional(3, "l", Type::List(list)).into(),
    ]);
    let spec =
        UnboundPartitionSpec::builder().add_partition_field(1, "id", Transform::Identity).unwrap().build();
    let order = SortOrder {
        order_id: 1,
        fields: vec![SortField {
            source_id: 1,
            transform: Transform::Identity,
            direction: SortDirection::Ascending,
            null_order: NullOrder::First,
        }],
    };
    let creation = TableCreation {
        name: "t".into(),
        location: Some("memory:///t".into()),
        schema: schema.build().unwrap(),
        partition_spec: partitioned.then_some(spec),
        sort_order: sorted.then_some(order),
        properties: properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<HashMap<_, _>>(),
        format_version: FormatVersion::V2,
    };
    TableMetadataBuilder::from_table_creation(creation).unwrap().build().unwrap().metadata
}

#[test]
fn defaults_are_icebergs() {
    let settings = Settings::of(&metadata(&[], false, false)).unwrap();
    assert_eq!(settings.target_file_size, 536_870_912);
    assert_eq!((settings.row_group_bytes, settings.row_group_rows), (134_217_728, 1_048_576));
    // A size that a table asks for is not cut short by a number of rows.
    let asked = Settings::of(&metadata(&[("write.parquet.row-group-size-bytes", "134217728")], false, false))
        .unwrap();
    assert_eq!((asked.row_group_bytes, asked.row_group_rows), (134_217_728, usize::MAX));
    let column = ColumnPath::new(vec!["id".into()]);
    assert!(matches!(settings.parquet.compression(&column), Compression::ZSTD(_)));
    assert_eq!(settings.parquet.column_dictionary_page_size_limit(&column), 2_097_152);
    assert_eq!(settings.parquet.column_data_page_size_limit(&column), 1_048_576);
    assert_eq!(settings.distribution, Distribution::None);
    assert_eq!(Settings::of(&metadata(&[], true, false)).unwrap().distribution, Distribution::Hash);
    assert_eq!(Settings::of(&metadata(&[], true, true)).unwrap().distribution, Distribution::Range);
}

#[test]
fn properties_are_honoured() {
    let settings = Settings::of(&metadata(
        &[
            ("write.parquet.compression-codec", "gzip"),
            ("write.parquet.compression-level", "9"),
            ("write.distribution-mode", "none"),
            ("write.parquet.bloom-filter-enabled.column.id", "true"),
            ("write.parquet.bloom-filter-enabled.column.a.b.c", "true"),
            ("write.parquet.bloom-filter-enabled.column.l.element", "TRUE"),
            ("write.parquet.bloom-filter-enabled.column.gone", "true"),
            ("write.parquet.bloom-filter-fpp.column.id", "0.05"),
        ],
        true,
        true,
    ))
    .unwrap();
    let bloom = |path: &[&str]| {
        let path = ColumnPath::new(path.iter().map(|part| part.to_string()).collect());
        settings.parquet.bloom_filter_properties(&path).map(|bloom| bloom.fpp)
    };
    assert_eq!(bloom(&["id"]), Some(0.05));
    assert!(bloom(&["a", "b.c"]).is_some() && bloom(&["l", "list", "element"]).is_some());
    assert_eq!(bloom(&["a"]), None);
    let column = ColumnPath::new(vec!["id".into()]);
    assert_eq!(settings.parquet.compression(&column), Compression::GZIP(GzipLevel::try_new(9).unwrap()));
    assert_eq!(settings.distribution, Distribution::None);
}

#[test]
fn bloom_filters_take_bounded_memory_whatever_properties_say() {
    let bytes = |properties: &[(&str, &str)], path: &[&str]| {
        let settings = Settings::of(&metadata(properties, false, false)).unwrap();
        let path = ColumnPath::new(path.iter().map(|part| part.to_string()).collect());
        let of = settings.parquet.bloom_filter_properties(&path).unwrap().clone();
        Sbbf::new_with_ndv_fpp(of.ndv, of.fpp).unwrap().num_blocks() as u64 * 32
    };
    const ON: (&str, &str) = ("write.parquet.bloom-filter-enabled.column.id", "true");
    const NDV: &str = "write.parquet.bloom-filter-ndv.column.id";
    const FPP: &str = "write.parquet.bloom-filter-fpp.column.id";
    const MAX: &str = "write.parquet.bloom-filter-max-bytes";
    let at_most = |bytes: u64, most: u64| assert!(bytes <= most, "{bytes} of {most}");
    at_most(bytes(&[ON], &["id"]), 1 << 20);
    for (ndv, fpp) in [("1000000000", "0.01"), ("18446744073709551615", "0.0000000001"), ("1", "0.999999")] {
        at_most(bytes(&[ON, (NDV, ndv), (FPP, fpp)], &["id"]), 1 << 20);
        at_most(bytes(&[ON, (NDV, ndv), (FPP, fpp), (MAX, "3000000")], &["id"]), 2 << 20);
        at_most(bytes(&[ON, (NDV, ndv), (FPP, fpp), (MAX, "1")], &["id"]), 32);
        at_most(bytes(&[ON, (NDV, ndv), (FPP, fpp), (MAX, "9223372036854775807")], &["id"]), 64 << 20);
        // All of a file's together.
        let others =
            ["a.b.c", "l.element"].map(|name| format!("write.parquet.bloom-filter-enabled.column.{name}"));
        let all =
            [ON, (NDV, ndv), (FPP, fpp), (MAX, "999999999"), (&others[0], "true"), (&others[1], "true")];
        at_most(bytes(&all, &["id"]), 16 << 20);
    }
    // What is asked for is had where there is room for it.
    assert!(bytes(&[ON, (NDV, "1000000"), (FPP, "0.1"), (MAX, "16777216")], &["id"]) > 512 << 10);
    assert!(bytes(&[ON, (NDV, "100")], &["id"]) < 1024);
}

#[test]
fn sizes_end_where_a_parquet_file_has_no_room_for_more() {
    let names = ["row-group-size-bytes", "page-size-bytes", "dict-size-bytes"];
    let names = names.map(|name| format!("write.parquet.{name}"));
    let all = names.each_ref().map(|name| (name.as_str(), "18446744073709551615"));
    let settings = Settings::of(&metadata(&all, false, false)).unwrap();
    let column = ColumnPath::new(vec!["id".into()]);
    assert_eq!(settings.row_group_bytes, i32::MAX as usize);
    assert_eq!(settings.parquet.column_data_page_size_limit(&column), 1 << 30);
    assert_eq!(settings.parquet.column_dictionary_page_size_limit(&column), 1 << 30);
}

#[test]
fn a_value_that_is_none_names_its_property() {
    for (name, value) in [
        ("write.parquet.compression-codec", "lzo"),
        ("write.parquet.compression-level", "99"),
        ("write.parquet.compression-level", "-1x"),
        ("write.parquet.row-group-size-bytes", "0"),
        ("write.parquet.bloom-filter-max-bytes", "0"),
        ("write.distribution-mode", "random"),
        ("write.format.default", "orc"),
    ] {
        let error = Settings::of(&metadata(&[(name, value)], false, false)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
