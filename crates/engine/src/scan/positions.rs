//! Each row's position in its file, as one more column of the Parquet file.
//!
//! The reader hands out a footer with a column that the file does not have. Its pages lie beyond the file's end, one for
//! each row group (`DELTA_BINARY_PACKED`: the first position, and a difference of 1 as often as there are rows, with 1 byte
//! for 64 of them), and are made up with the footer. So row selections, row filters and pruning by row group hold for it as for any column.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use bytes::Bytes;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{ColumnOrder, Compression, Encoding, Repetition, SortOrder, Type as PhysicalType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{SchemaDescriptor, Type};

/// The reserved field id of a row's position.
pub(super) const POS_ID: i32 = i32::MAX - 2;
/// What the column is called inside a footer: a name that no file has.
pub(super) const POS_COLUMN: &str = "__icefield_pos";

/// The Arrow field of positions under a name.
pub(super) fn pos_field(name: &str) -> Field {
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), POS_ID.to_string())]);
    Field::new(name, DataType::Int64, false).with_metadata(id)
}

/// A footer with positions as the last column, and that column's bytes, which begin at the file's end. The page index goes
/// along, if the footer has it: each row group's positions are one page, of which no bounds are given.
///
/// # Errors
/// When a row group has more rows than a Parquet page can.
pub(super) fn with_positions(footer: &ParquetMetaData, file_size: u64) -> Result<(ParquetMetaData, Bytes)> {
    let file = footer.file_metadata();
    let root = file.schema_descr().root_schema();
    let column = Type::primitive_type_builder(POS_COLUMN, PhysicalType::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_id(Some(POS_ID))
        .build()?;
    let mut fields = root.get_fields().to_vec();
    fields.push(Arc::new(column));
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let orders = file.column_orders().map(|orders| {
        let own = ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::SIGNED);
        orders.iter().copied().chain([own]).collect()
    });
    let described = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_string),
        file.key_value_metadata().cloned(),
        schema.clone(),
        orders,
    );
    let mut builder = ParquetMetaDataBuilder::new(described);
    let (mut bytes, mut first) = (Vec::new(), 0_i64);
    let mut pages = Vec::with_capacity(footer.num_row_groups());
    let column = schema.column(schema.num_columns() - 1);
    for group in footer.row_groups() {
        let page = page(first, group.num_rows())?;
        let offset = i64::try_from(file_size).unwrap_or(i64::MAX).saturating_add(bytes.len() as i64);
        let last = first.saturating_add((group.num_rows() - 1).max(0));
        let chunk = ColumnChunkMetaData::builder(column.clone())
            .set_encodings(vec![Encoding::DELTA_BINARY_PACKED, Encoding::RLE])
            .set_compression(Compression::UNCOMPRESSED)
            .set_num_values(group.num_rows())
            .set_total_compressed_size(page.len() as i64)
            .set_total_uncompressed_size(page.len() as i64)
            .set_data_page_offset(offset)
            .set_statistics(Statistics::int64(Some(first), Some(last), None, Some(0), false))
            .build()?;
        let mut described = RowGroupMetaData::builder(schema.clone())
            .set_num_rows(group.num_rows())
            .set_total_byte_size(group.total_byte_size())
            .set_sorting_columns(group.sorting_columns().cloned())
            .set_column_metadata(group.columns().iter().cloned().chain([chunk]).collect());
        if let Some(ordinal) = group.ordinal() {
            described = described.set_ordinal(ordinal);
        }
        if let Some(at) = group.file_offset() {
            described = described.set_file_offset(at);
        }
        builder = builder.add_row_group(described.build()?);
        let compressed_page_size = i32::try_from(page.len()).map_err(|_| too_large())?;
        pages.push(PageLocation { offset, compressed_page_size, first_row_index: 0 });
        bytes.extend(page);
        first = first.saturating_add(group.num_rows());
    }
    if let (Some(columns), Some(offsets)) = (footer.column_index(), footer.offset_index()) {
        let columns = columns.iter().map(|of_group| with(of_group, ColumnIndexMetaData::NONE));
        let offsets = offsets.iter().zip(pages).map(|(of_group, page)| {
            let page_locations = vec![page];
            with(of_group, OffsetIndexMetaData { page_locations, unencoded_byte_array_data_bytes: None })
        });
        builder = builder.set_column_index(Some(columns.collect())).set_offset_index(Some(offsets.collect()));
    }
    Ok((builder.build(), bytes.into()))
}

fn with<T: Clone>(items: &[T], last: T) -> Vec<T> {
    items.iter().cloned().chain([last]).collect()
}

fn too_large() -> ParquetError {
    ParquetError::General("a row group has over 2^31 rows".to_string())
}

/// The part of the column's bytes that a range of the lengthened file is.
pub(super) fn part(bytes: &Bytes, file_size: u64, range: &Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(range.start.checked_sub(file_size)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(file_size)?).ok()?;
    (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// A data page with its header: `rows` values from `first` on.
fn page(first: i64, rows: i64) -> Result<Vec<u8>> {
    let count = i32::try_from(rows).map_err(|_| too_large())?;
    // One block, of miniblocks of 64: the decoder skips no others. Each has a width of no bits.
    let blocks = (rows as u64).div_ceil(128).max(1);
    let mut values = Vec::with_capacity(24 + blocks as usize * 2);
    varint(&mut values, blocks * 128);
    varint(&mut values, blocks * 2);
    varint(&mut values, rows as u64);
    zigzag(&mut values, first);
    if rows > 1 {
        zigzag(&mut values, 1);
        values.extend(std::iter::repeat_n(0, blocks as usize * 2));
    }
    // `PageHeader` in Thrift's compact form: a field's byte is its distance from the one before and its type.
    const I32: u8 = 0x15;
    let mut page = Vec::with_capacity(48);
    let field = |page: &mut Vec<u8>, value: i32| {
        page.push(I32);
        zigzag(page, i64::from(value));
    };
    field(&mut page, 0); // type: DATA_PAGE
    field(&mut page, values.len() as i32); // uncompressed_page_size
    field(&mut page, values.len() as i32); // compressed_page_size
    page.push(0x2c); // data_page_header, a struct, after crc
    field(&mut page, count); // num_values
    field(&mut page, Encoding::DELTA_BINARY_PACKED as i32);
    field(&mut page, Encoding::RLE as i32); // definition levels: none are stored
    field(&mut page, Encoding::RLE as i32); // repetition levels: none are stored
    page.extend([0, 0]);
    page.extend(values);
    Ok(page)
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn zigzag(into: &mut Vec<u8>, value: i64) {
    varint(into, ((value << 1) ^ (value >> 63)) as u64);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
    };
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn every_row_of_every_row_group_has_its_position() {
        for (rows, group) in [(1, 10), (1_000, 1), (1_000, 64), (300_000, 100_000), (70_000, 1 << 20)] {
            let values: ArrayRef = Arc::new(Int32Array::from_iter_values(0..rows));
            let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();

            let size = bytes.len() as u64;
            let plain =
                ArrowReaderMetadata::load(&Bytes::from(bytes.clone()), ArrowReaderOptions::new()).unwrap();
            let (footer, positions) = with_positions(plain.metadata(), size).unwrap();
            // The file as it would be if the column were in it.
            let mut file: File = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.write_all(&positions).unwrap();
            let metadata = ArrowReaderMetadata::try_new(
                Arc::new(footer),
                ArrowReaderOptions::new().with_skip_arrow_metadata(true),
            )
            .unwrap();
            let skip = rows as usize / 3;
            let selection =
                RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(rows as usize - skip)]);
            for (selection, first) in [(None, 0), (Some(selection), skip as i64)] {
                let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
                    file.try_clone().unwrap(),
                    metadata.clone(),
                );
                if let Some(selection) = selection {
                    reader = reader.with_row_selection(selection);
                }
                let mut found = Vec::new();
                for batch in reader.build().unwrap() {
                    found.extend_from_slice(batch.unwrap().column(1).as_primitive::<Int64Type>().values());
                }
                assert_eq!(found, (first..i64::from(rows)).collect::<Vec<_>>(), "{rows} rows");
            }
        }
    }
}
