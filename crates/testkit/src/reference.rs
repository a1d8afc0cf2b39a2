//! [`reference_read`]: a table's rows, read in the plainest way that the specification allows.
//!
//! Nothing is pruned, cached, streamed or pushed down, and none of the library's own readers of manifests, deletes or
//! columns is used: manifests are parsed by `iceberg`, data files by `parquet`, and every rule is applied to whole columns
//! in memory. It is slow, and it is what the library's scan has to agree with.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StructArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use bytes::Bytes;
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, Literal, Manifest, ManifestList,
    ManifestStatus, NestedField, NestedFieldRef, PrimitiveLiteral, PrimitiveType, Struct, Transform, Type,
};
use icefield_core::format::{arrow_field, arrow_schema, initial_default};
use icefield_core::{AsOf, Table};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// A data or delete file with what it inherits.
struct Entry {
    spec: i32,
    sequence_number: i64,
    file: DataFile,
}

/// All rows of a table at a snapshot, file by file, in the schema that the snapshot is read in.
///
/// # Panics
/// When the table breaks the specification, and on what this reader does without: files that are not Parquet, and files
/// without field ids.
pub async fn reference_read(table: &Table, as_of: &AsOf) -> Vec<RecordBatch> {
    let schema = table.schema_as_of(as_of).expect("a schema");
    let out = arrow_schema(&schema).expect("a schema that Arrow has");
    let Some(snapshot) = table.snapshot_as_of(as_of).expect("a snapshot") else { return Vec::new() };
    let entries = entries(table, snapshot.manifest_list()).await;
    let of = |kind: DataContentType| entries.iter().filter(move |entry| entry.file.content_type() == kind);

    let mut positions: HashMap<String, Vec<(i64, Vec<u64>)>> = HashMap::new();
    let mut vectors: HashMap<String, Vec<u64>> = HashMap::new();
    for delete in of(DataContentType::PositionDeletes) {
        if delete.file.file_format() == DataFileFormat::Puffin {
            let path = delete.file.referenced_data_file().expect("a deletion vector's data file");
            let twice = vectors.insert(path, deletion_vector(table, &delete.file).await);
            assert!(twice.is_none(), "two deletion vectors of one data file");
            continue;
        }
        for (path, rows) in position_deletes(table, &delete.file).await {
            positions.entry(path).or_default().push((delete.sequence_number, rows));
        }
    }
    let mut equality = Vec::new();
    for delete in of(DataContentType::EqualityDeletes) {
        equality.push(EqualityDelete::read(table, delete).await);
    }

    let mut batches = Vec::new();
    for data in of(DataContentType::Data) {
        let raw = read_parquet(table, data.file.file_path()).await;
        assert_eq!(raw.num_rows() as u64, data.file.record_count());
        let mut keep = vec![true; raw.num_rows()];
        match vectors.get(data.file.file_path()) {
            // A deletion vector takes the place of what came before it.
            Some(rows) => rows.iter().for_each(|row| keep[*row as usize] = false),
            None => {
                let of_file = positions.get(data.file.file_path()).into_iter().flatten();
                for (_, rows) in of_file.filter(|(number, _)| *number >= data.sequence_number) {
                    rows.iter().for_each(|row| keep[*row as usize] = false);
                }
            }
        }
        for delete in equality.iter().filter(|delete| delete.is_for(table, data)) {
            let keys = rows_of(&delete.fields, &delete.columns_of(table, data, &raw));
            for (row, key) in keys.into_iter().enumerate() {
                keep[row] &= !delete.keys.contains(&key);
            }
        }
        let columns: Vec<ArrayRef> =
            schema.as_struct().fields().iter().map(|field| column(table, data, &raw, field)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(raw.num_rows()));
        let batch = RecordBatch::try_new_with_options(out.clone(), columns, &options).expect("a batch");
        batches.push(filter_record_batch(&batch, &BooleanArray::from(keep)).expect("filtered rows"));
    }
    batches
}

async fn entries(table: &Table, list: &str) -> Vec<Entry> {
    let bytes = table.storage().read(list).await.expect("the manifest list");
    // A list has the form of the version that the table had when it was written.
    let versions = [FormatVersion::V3, FormatVersion::V2, FormatVersion::V1];
    let mut tried = versions.into_iter().filter(|version| *version <= table.metadata().format_version());
    let list = tried.find_map(|version| ManifestList::parse_with_version(&bytes, version).ok());
    let mut entries = Vec::new();
    for manifest in list.expect("a manifest list").consume_entries() {
        let bytes = table.storage().read(&manifest.manifest_path).await.expect("a manifest");
        let (parsed, _) = Manifest::parse_avro(&bytes).expect("a manifest").into_parts();
        for entry in parsed.iter().filter(|entry| entry.status() != ManifestStatus::Deleted) {
            entries.push(Entry {
                spec: manifest.partition_spec_id,
                sequence_number: entry.sequence_number().unwrap_or(manifest.sequence_number),
                file: entry.data_file().clone(),
            });
        }
    }
    entries
}

async fn read_parquet(table: &Table, path: &str) -> RecordBatch {
    let bytes = table.storage().read(path).await.expect("a data file");
    read_parquet_bytes(bytes)
}

fn read_parquet_bytes(bytes: Bytes) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).expect("a Parquet file");
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> =
        builder.build().expect("a reader").map(|batch| batch.expect("rows")).collect();
    concat_batches(&schema, &batches).expect("one batch")
}

async fn position_deletes(table: &Table, file: &DataFile) -> HashMap<String, Vec<u64>> {
    let batch = read_parquet(table, file.file_path()).await;
    let path = cast(batch.column_by_name("file_path").expect("paths"), &DataType::Utf8).expect("paths");
    let position = batch.column_by_name("pos").expect("positions").as_primitive::<Int64Type>().clone();
    let mut rows: HashMap<String, Vec<u64>> = HashMap::new();
    for (path, position) in path.as_string::<i32>().iter().zip(position.iter()) {
        let position = position.expect("a position") as u64;
        rows.entry(path.expect("a path").to_string()).or_default().push(position);
    }
    rows
}

/// The positions of a deletion vector (Puffin specification, "deletion-vector-v1").
async fn deletion_vector(table: &Table, file: &DataFile) -> Vec<u64> {
    let bytes = table.storage().read(file.file_path()).await.expect("a Puffin file");
    let start = file.content_offset().expect("a blob's offset") as usize;
    let blob = &bytes[start..start + file.content_size_in_bytes().expect("a blob's size") as usize];
    assert_eq!(blob[4..8], [0xd1, 0xd3, 0x39, 0x64]);
    let vector = roaring::RoaringTreemap::deserialize_from(Cursor::new(&blob[8..blob.len() - 4]));
    let vector = vector.expect("a bitmap");
    assert_eq!(vector.len(), file.record_count());
    vector.iter().collect()
}

struct EqualityDelete {
    spec: i32,
    partition: Struct,
    sequence_number: i64,
    fields: Vec<NestedFieldRef>,
    keys: HashSet<OwnedRow>,
}

impl EqualityDelete {
    async fn read(table: &Table, entry: &Entry) -> Self {
        let ids = entry.file.equality_ids().expect("the ids of an equality delete");
        let fields: Vec<NestedFieldRef> = ids.iter().map(|id| known_field(table, *id)).collect();
        let mut delete = Self {
            spec: entry.spec,
            partition: entry.file.partition().clone(),
            sequence_number: entry.sequence_number,
            fields,
            keys: HashSet::new(),
        };
        let raw = read_parquet(table, entry.file.file_path()).await;
        let columns = delete.columns_of(table, entry, &raw);
        delete.keys = rows_of(&delete.fields, &columns).into_iter().collect();
        delete
    }

    fn is_for(&self, table: &Table, data: &Entry) -> bool {
        let spec = table.metadata().partition_spec_by_id(self.spec).expect("a spec");
        let everywhere = spec.is_unpartitioned();
        self.sequence_number > data.sequence_number
            && (everywhere || (self.spec == data.spec && &self.partition == data.file.partition()))
    }

    fn columns_of(&self, table: &Table, entry: &Entry, raw: &RecordBatch) -> Vec<ArrayRef> {
        self.fields.iter().map(|field| nested_column(table, entry, raw, field)).collect()
    }
}

/// A field by its id as the newest schema that has it knows it.
fn known_field(table: &Table, id: i32) -> NestedFieldRef {
    let current = std::iter::once(table.schema());
    let mut others: Vec<_> = table.metadata().schemas_iter().collect();
    others.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut all = current.chain(others);
    all.find_map(|schema| schema.field_by_id(id).cloned()).expect("a key's column")
}

fn rows_of(fields: &[NestedFieldRef], columns: &[ArrayRef]) -> Vec<OwnedRow> {
    let types = fields.iter().map(|field| {
        SortField::new(arrow_field(field).expect("a key of a type that Arrow has").data_type().clone())
    });
    let converter = RowConverter::new(types.collect()).expect("keys that can be compared");
    let rows = converter.convert_columns(columns).expect("keys");
    rows.iter().map(|row| row.owned()).collect()
}

/// A column of a file's rows, by field id, as the table has it: the file's own, else what its partition says, else the
/// default.
fn column(table: &Table, entry: &Entry, raw: &RecordBatch, field: &NestedField) -> ArrayRef {
    let found = raw.schema().fields().iter().position(|own| id_of(own) == Some(field.id));
    if let Some(at) = found {
        return convert(raw.column(at), raw.schema().field(at), field);
    }
    let spec = table.metadata().partition_spec_by_id(entry.spec).expect("a spec");
    let partitioned = spec
        .fields()
        .iter()
        .position(|by| by.source_id == field.id && by.transform == Transform::Identity)
        .and_then(|at| entry.file.partition().fields().get(at).cloned());
    let default = initial_default(field).expect("a default");
    match partitioned {
        Some(value) => constant(value.as_ref(), field, raw.num_rows()),
        None => constant(default.as_ref(), field, raw.num_rows()),
    }
}

/// As [`column`], of a field at any depth of structs.
fn nested_column(table: &Table, entry: &Entry, raw: &RecordBatch, field: &NestedField) -> ArrayRef {
    fn find(fields: &[Arc<Field>], columns: &[ArrayRef], id: i32) -> Option<(Arc<Field>, ArrayRef)> {
        fields.iter().zip(columns).find_map(|(field, column)| {
            if id_of(field) == Some(id) {
                return Some((field.clone(), column.clone()));
            }
            let of = column.as_struct_opt()?;
            let (found, values) = find(of.fields(), of.columns(), id)?;
            // A field of a struct that is NULL is NULL.
            let nulls = arrow::compute::is_null(of).expect("nulls");
            Some((found, arrow::compute::nullif(&values, &nulls).expect("values")))
        })
    }
    match find(raw.schema().fields(), raw.columns(), field.id) {
        Some((own, values)) => convert(&values, &own, field),
        None => column(table, entry, raw, field),
    }
}

fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

fn convert(array: &ArrayRef, from: &Field, to: &NestedField) -> ArrayRef {
    let target = arrow_field(to).expect("a type that Arrow has");
    match (to.field_type.as_ref(), target.data_type()) {
        (Type::Primitive(_), target) => cast(array, target).expect("a promotion"),
        (Type::Struct(of), DataType::Struct(fields)) => {
            let array = array.as_struct();
            let columns = of.fields().iter().map(|field| {
                let own = array.fields().iter().position(|own| id_of(own) == Some(field.id));
                match own {
                    Some(at) => convert(array.column(at), &array.fields()[at], field),
                    None => {
                        let default = initial_default(field).expect("a default");
                        constant(default.as_ref(), field, array.len())
                    }
                }
            });
            let columns: Vec<ArrayRef> = columns.collect();
            let nulls = array.nulls().cloned();
            Arc::new(
                StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())
                    .expect("a struct"),
            )
        }
        (Type::List(of), DataType::List(element)) => {
            let array = array.as_list::<i32>();
            let DataType::List(own) = from.data_type() else { panic!("a list was no list") };
            let values = convert(array.values(), own, &of.element_field);
            let list =
                ListArray::try_new(element.clone(), array.offsets().clone(), values, array.nulls().cloned());
            Arc::new(list.expect("a list"))
        }
        (Type::Map(of), DataType::Map(entries, _)) => {
            let array = array.as_map();
            let own = array.entries();
            let DataType::Struct(fields) = entries.data_type() else {
                panic!("a map's entries are a struct")
            };
            let keys = convert(own.column(0), &own.fields()[0], &of.key_field);
            let values = convert(own.column(1), &own.fields()[1], &of.value_field);
            let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None).expect("entries");
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls, false).expect("a map"))
        }
        (of, target) => panic!("{of} can't be {target}"),
    }
}

/// One value in every row.
fn constant(value: Option<&Literal>, field: &NestedField, rows: usize) -> ArrayRef {
    let target = arrow_field(field).expect("a type that Arrow has");
    let Some(Literal::Primitive(value)) = value else { return new_null_array(target.data_type(), rows) };
    let Type::Primitive(of) = field.field_type.as_ref() else { panic!("a default of a nested column") };
    let one = one(value, of, target.data_type());
    take(&one, &UInt32Array::from(vec![0; rows]), None).expect("one value many times")
}

fn one(value: &PrimitiveLiteral, of: &PrimitiveType, target: &DataType) -> ArrayRef {
    use arrow::array::{BinaryArray, Decimal128Array, Float32Array, Float64Array, Int32Array, StringArray};
    let plain: ArrayRef = match value {
        PrimitiveLiteral::Boolean(v) => Arc::new(BooleanArray::from(vec![*v])),
        PrimitiveLiteral::Int(v) => Arc::new(Int32Array::from(vec![*v])),
        PrimitiveLiteral::Long(v) => Arc::new(Int64Array::from(vec![*v])),
        PrimitiveLiteral::Float(v) => Arc::new(Float32Array::from(vec![v.0])),
        PrimitiveLiteral::Double(v) => Arc::new(Float64Array::from(vec![v.0])),
        PrimitiveLiteral::String(v) => Arc::new(StringArray::from(vec![v.as_str()])),
        PrimitiveLiteral::Binary(v) => Arc::new(BinaryArray::from(vec![v.as_slice()])),
        PrimitiveLiteral::UInt128(v) => Arc::new(BinaryArray::from(vec![&v.to_be_bytes()[..]])),
        PrimitiveLiteral::Int128(v) => {
            let PrimitiveType::Decimal { precision, scale } = of else { panic!("{of} is no decimal") };
            let decimal = Decimal128Array::from(vec![*v]);
            Arc::new(decimal.with_precision_and_scale(*precision as u8, *scale as i8).expect("a decimal"))
        }
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => panic!("no value of {of}"),
    };
    cast(&plain, target).expect("a value of its type")
}
