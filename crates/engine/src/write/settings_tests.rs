use std::collections::HashMap;

use iceberg::TableCreation;
use iceberg::spec::{
    FormatVersion, NestedField, NullOrder, SortDirection, SortField, SortOrder, TableMetadataBuilder,
    Transform, UnboundPartitionSpec,
};

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
fn a_value_that_is_none_names_its_property() {
    for (name, value) in [
        ("write.parquet.compression-codec", "lzo"),
        ("write.parquet.compression-level", "99"),
        ("write.parquet.compression-level", "-1x"),
        ("write.parquet.row-group-size-bytes", "0"),
        ("write.distribution-mode", "random"),
        ("write.format.default", "orc"),
    ] {
        let error = Settings::of(&metadata(&[(name, value)], false, false)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
