//! [`Columns`]: how rows of some kind become a record batch, column by column, and only the columns that are wanted.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, Int64Builder, ListArray, MapBuilder,
    MapFieldNames, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, new_empty_array,
};
use arrow::array::{BinaryBuilder, Int32Builder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use icefield_core::Result;
use icefield_core::format::UTC;

use crate::error::from_datafusion;

type Values<R> = Arc<dyn Fn(&[R]) -> Result<ArrayRef> + Send + Sync>;

/// A column and how its values are had of rows.
pub(super) struct Column<R> {
    field: Arc<Field>,
    values: Values<R>,
}

impl<R> Clone for Column<R> {
    fn clone(&self) -> Self {
        Self { field: self.field.clone(), values: self.values.clone() }
    }
}

/// A count or size in a column of longs, which ends before those do.
pub(super) fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl<R: 'static> Column<R> {
    fn new<A: Into<Arc<dyn arrow::array::Array>>>(
        name: &str,
        data_type: DataType,
        nullable: bool,
        values: impl Fn(&[R]) -> Result<A> + Send + Sync + 'static,
    ) -> Self {
        Self {
            field: Arc::new(Field::new(name, data_type, nullable)),
            values: Arc::new(move |rows| Ok(values(rows)?.into())),
        }
    }

    /// The same column, never NULL.
    pub(super) fn required(mut self) -> Self {
        self.field = Arc::new(self.field.as_ref().clone().with_nullable(false));
        self
    }

    pub(super) fn int(name: &str, value: impl Fn(&R) -> Option<i32> + Send + Sync + 'static) -> Self {
        Self::new(name, DataType::Int32, true, move |rows| {
            Ok(Arc::new(rows.iter().map(&value).collect::<Int32Array>()) as ArrayRef)
        })
    }

    pub(super) fn long(name: &str, value: impl Fn(&R) -> Option<i64> + Send + Sync + 'static) -> Self {
        Self::new(name, DataType::Int64, true, move |rows| {
            Ok(Arc::new(rows.iter().map(&value).collect::<Int64Array>()) as ArrayRef)
        })
    }

    pub(super) fn boolean(name: &str, value: impl Fn(&R) -> Option<bool> + Send + Sync + 'static) -> Self {
        Self::new(name, DataType::Boolean, true, move |rows| {
            Ok(Arc::new(rows.iter().map(&value).collect::<BooleanArray>()) as ArrayRef)
        })
    }

    pub(super) fn string(name: &str, value: impl Fn(&R) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::new(name, DataType::Utf8, true, move |rows| {
            Ok(Arc::new(rows.iter().map(&value).collect::<StringArray>()) as ArrayRef)
        })
    }

    pub(super) fn binary(name: &str, value: impl Fn(&R) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::new(name, DataType::Binary, true, move |rows| {
            Ok(Arc::new(rows.iter().map(&value).collect::<BinaryArray>()) as ArrayRef)
        })
    }

    /// An instant, of milliseconds since the epoch.
    pub(super) fn instant(name: &str, ms: impl Fn(&R) -> Option<i64> + Send + Sync + 'static) -> Self {
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        Self::new(name, data_type, true, move |rows| {
            let micros = rows.iter().map(|row| ms(row).map(|ms| ms.saturating_mul(1000)));
            let array = micros.collect::<TimestampMicrosecondArray>().with_timezone(UTC);
            Ok(Arc::new(array) as ArrayRef)
        })
    }

    /// Values of any type that has scalars.
    pub(super) fn scalar(
        name: &str,
        data_type: DataType,
        value: impl Fn(&R) -> Result<Option<ScalarValue>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, data_type.clone(), true, move |rows| {
            if rows.is_empty() {
                return Ok(new_empty_array(&data_type));
            }
            let null = ScalarValue::try_from(&data_type).map_err(from_datafusion)?;
            let values = rows.iter().map(|row| Ok(value(row)?.unwrap_or_else(|| null.clone())));
            let values = values.collect::<Result<Vec<_>>>()?;
            ScalarValue::iter_to_array(values).map_err(from_datafusion)
        })
    }

    /// A column of columns, never NULL as a whole.
    pub(super) fn nested(name: &str, columns: Columns<R>) -> Self
    where
        R: Send + Sync,
    {
        let fields = columns.fields();
        Self::new(name, DataType::Struct(fields.clone()), true, move |rows| {
            let arrays = columns.arrays(rows)?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, None)?) as ArrayRef)
        })
    }

    /// Lists of what other rows are, which have columns themselves.
    pub(super) fn list_of<E: Send + Sync + 'static>(
        name: &str,
        elements: Columns<E>,
        of: impl Fn(&R) -> Result<Vec<E>> + Send + Sync + 'static,
    ) -> Self {
        let fields = elements.fields();
        let item = Arc::new(Field::new("element", DataType::Struct(fields.clone()), false));
        Self::new(name, DataType::List(item.clone()), true, move |rows| {
            let lists = rows.iter().map(&of).collect::<Result<Vec<_>>>()?;
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            let all: Vec<E> = lists.into_iter().flatten().collect();
            let values = StructArray::try_new(fields.clone(), elements.arrays(&all)?, None)?;
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(values), None)?) as ArrayRef)
        })
    }

    /// Lists of integers, `Int32` or `Int64` as `element` says.
    pub(super) fn list(
        name: &str,
        element: DataType,
        of: impl Fn(&R) -> Option<Vec<i64>> + Send + Sync + 'static,
    ) -> Self {
        let item = Arc::new(Field::new("element", element.clone(), false));
        Self::new(name, DataType::List(item.clone()), true, move |rows| {
            let lists: Vec<Option<Vec<i64>>> = rows.iter().map(&of).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|l| l.as_ref().map_or(0, Vec::len)));
            let nulls = lists.iter().map(Option::is_some).collect::<Vec<_>>().into();
            let values: Int64Array = lists.into_iter().flatten().flatten().map(Some).collect();
            let values = arrow::compute::cast(&values, &element)?;
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, Some(nulls))?) as ArrayRef)
        })
    }

    /// Maps of text to text, none of them NULL.
    pub(super) fn texts(
        name: &str,
        of: impl Fn(&R) -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> Self {
        let data_type = map_type(DataType::Utf8, DataType::Utf8);
        Self::new(name, data_type, true, move |rows| {
            let mut builder = MapBuilder::new(Some(names()), StringBuilder::new(), StringBuilder::new())
                .with_values_field(Arc::new(Field::new("value", DataType::Utf8, false)));
            for row in rows {
                for (key, value) in of(row) {
                    builder.keys().append_value(key);
                    builder.values().append_value(value);
                }
                builder.append(true)?;
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        })
    }

    /// Maps of column ids to numbers; an empty one is NULL.
    pub(super) fn counts(name: &str, of: impl Fn(&R) -> Vec<(i32, i64)> + Send + Sync + 'static) -> Self {
        let data_type = map_type(DataType::Int32, DataType::Int64);
        Self::new(name, data_type, true, move |rows| {
            let mut builder = MapBuilder::new(Some(names()), Int32Builder::new(), Int64Builder::new())
                .with_values_field(Arc::new(Field::new("value", DataType::Int64, false)));
            for row in rows {
                let entries = of(row);
                let is_valid = !entries.is_empty();
                for (key, value) in entries {
                    builder.keys().append_value(key);
                    builder.values().append_value(value);
                }
                builder.append(is_valid)?;
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        })
    }

    /// Maps of column ids to bytes; an empty one is NULL.
    pub(super) fn bounds(
        name: &str,
        of: impl Fn(&R) -> Result<Vec<(i32, Vec<u8>)>> + Send + Sync + 'static,
    ) -> Self {
        let data_type = map_type(DataType::Int32, DataType::Binary);
        Self::new(name, data_type, true, move |rows| {
            let mut builder = MapBuilder::new(Some(names()), Int32Builder::new(), BinaryBuilder::new())
                .with_values_field(Arc::new(Field::new("value", DataType::Binary, false)));
            for row in rows {
                let entries = of(row)?;
                let is_valid = !entries.is_empty();
                for (key, value) in entries {
                    builder.keys().append_value(key);
                    builder.values().append_value(value);
                }
                builder.append(is_valid)?;
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        })
    }
}

fn names() -> MapFieldNames {
    MapFieldNames { entry: "key_value".to_string(), key: "key".to_string(), value: "value".to_string() }
}

fn map_type(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, false)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
}

/// The columns of a table whose rows are `R`s.
pub(super) struct Columns<R>(Vec<Column<R>>);

impl<R> Clone for Columns<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R> From<Vec<Column<R>>> for Columns<R> {
    fn from(columns: Vec<Column<R>>) -> Self {
        Self(columns)
    }
}

impl<R> Columns<R> {
    fn fields(&self) -> Fields {
        self.0.iter().map(|column| column.field.clone()).collect()
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    /// The columns at these places, or all.
    pub(super) fn project(&self, places: Option<&Vec<usize>>) -> Self {
        match places {
            Some(places) => Self(places.iter().filter_map(|place| self.0.get(*place).cloned()).collect()),
            None => self.clone(),
        }
    }

    fn arrays(&self, rows: &[R]) -> Result<Vec<ArrayRef>> {
        self.0.iter().map(|column| (column.values)(rows)).collect()
    }

    pub(super) fn batch(&self, rows: &[R]) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(self.schema(), self.arrays(rows)?, &options)?)
    }
}
