//! DataFrames of rows that a service holds: JSON lines in memory, and values of its own types.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::{Decoder, ValueIter, infer_json_schema_from_iterator};
use datafusion::dataframe::DataFrame;
use icefield_core::{Error, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Session;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

impl Session {
    /// A DataFrame of JSON objects, one a line, that are in memory. Its columns are the schema's: a key that an object
    /// does not have is NULL, numbers and times may be given as text, and nothing of a number is
    /// lost in an integer or a decimal (`1.0` is a long, `1.7` is refused). Without a schema (`None`) all lines are looked
    /// through for their keys, in the order of the alphabet, and types: integers, floating point numbers, booleans, text,
    /// lists and structs of these. Of a column with fractions all numbers are `Float64`, as JSON has
    /// them. Of a key that an object has twice the last value counts.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> icefield_core::Result<()> {
    /// use icefield_engine::Session;
    ///
    /// let session = Session::builder().build()?;
    /// let events = session.read_json_lines("{\"id\": 1, \"kind\": \"seen\"}\n{\"id\": 2}\n", None)?;
    /// assert_eq!(events.count().await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput), with the number of the first line of the batch that it is
    /// in, for what is no JSON object, a value that its column does not take, a key that the schema does not have,
    /// a NULL in a column that takes none and, without a schema, an integer beyond 64 bits.
    pub fn read_json_lines(
        &self,
        lines: impl AsRef<[u8]>,
        schema: impl Into<Option<SchemaRef>>,
    ) -> Result<DataFrame> {
        let lines = lines.as_ref();
        let rows = match schema.into() {
            Some(schema) => Rows::exact(schema),
            None => Rows::of(Arc::new(schema_of(ValueIter::new(lines, None))?)),
        };
        let mut decoder = rows.decoder()?;
        let mut batches = Vec::new();
        let (mut rest, mut taken) = (lines, 0);
        loop {
            let at = |e: Error| e.with("from line", taken + 1);
            let decoded = decoder.decode(rest).map_err(malformed).map_err(at)?;
            rest = rest.get(decoded..).unwrap_or_default();
            let Some(batch) = decoder.flush().map_err(malformed).map_err(at)? else { break };
            let batch = rows.settled(batch).map_err(at)?;
            taken += batch.num_rows();
            batches.push(batch);
        }
        self.in_memory(rows.schema, batches)
    }

    /// A DataFrame of a service's own values, one a row: what `serde` calls a struct. Its columns are the fields of the
    /// first value, in their order, structs inside included, with the types that all values have: integers are `Int64` (one beyond it is refused), floating point numbers
    /// `Float64`, and what `serde` makes text, as dates and decimals, is text.
    /// [`read_rows_as`](Self::read_rows_as) takes the types from a schema, and does not look through the rows first.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> icefield_core::Result<()> {
    /// use icefield_engine::Session;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Order {
    ///     id: i64,
    ///     note: Option<String>,
    /// }
    ///
    /// let session = Session::builder().build()?;
    /// let orders = session.read_rows(&[Order { id: 1, note: None }, Order { id: 2, note: Some("gift".into()) }])?;
    /// assert_eq!(orders.schema().field_names(), ["?table?.id", "?table?.note"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for no rows, for what is not a struct or a map, for values of one column
    /// whose types differ, and for a column that is NULL in all rows: the schema is to be given then.
    pub fn read_rows<T: Serialize>(&self, rows: &[T]) -> Result<DataFrame> {
        self.decoded(rows, &Rows::of(Arc::new(inferred(rows)?)))
    }

    /// As [`read_rows`](Self::read_rows), with the columns of a schema. Text becomes the date, time or decimal that its
    /// column is. Nothing of a number is lost in an integer or a decimal: `1.0` is a long, `1.7` is refused.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is not a struct or a map, a value that its column does not take,
    /// a field that the schema does not have, and a NULL in a column that takes none.
    pub fn read_rows_as<T: Serialize>(&self, rows: &[T], schema: SchemaRef) -> Result<DataFrame> {
        self.decoded(rows, &Rows::exact(schema))
    }

    fn decoded<T: Serialize>(&self, rows: &[T], into: &Rows) -> Result<DataFrame> {
        let mut decoder = into.decoder()?;
        let mut batches = Vec::new();
        for rows in rows.chunks(BATCH_ROWS) {
            decoder.serialize(rows).map_err(malformed)?;
            let batch = decoder.flush().map_err(malformed)?;
            batches.extend(batch.map(|batch| into.settled(batch)).transpose()?);
        }
        self.in_memory(into.schema.clone(), batches)
    }

    fn in_memory(&self, schema: SchemaRef, mut batches: Vec<RecordBatch>) -> Result<DataFrame> {
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        self.read_batches(batches)
    }
}

/// Columns, and what they are decoded as. Arrow's decoder cuts off what an integer or a decimal can't hold of a number, so
/// that these are decoded as wide decimals first.
struct Rows {
    schema: SchemaRef,
    decoded_as: SchemaRef,
}

impl Rows {
    /// Columns that are known to hold all values.
    fn of(schema: SchemaRef) -> Self {
        Self { decoded_as: schema.clone(), schema }
    }

    /// Columns that refuse what they can't hold.
    fn exact(schema: SchemaRef) -> Self {
        Self { decoded_as: Arc::new(Schema::new(widened(schema.fields()))), schema }
    }

    fn decoder(&self) -> Result<Decoder> {
        let builder = ReaderBuilder::new(self.decoded_as.clone());
        builder.with_batch_size(BATCH_ROWS).with_strict_mode(true).build_decoder().map_err(malformed)
    }

    /// A decoded batch in the types of its columns.
    fn settled(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.schema == self.decoded_as {
            return Ok(batch);
        }
        const CHECKED: CastOptions<'_> =
            CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };
        let columns = self.schema.fields().iter().zip(batch.columns()).map(|(field, wide)| {
            if field.data_type() == wide.data_type() {
                return Ok(wide.clone());
            }
            let of = |e: ArrowError| malformed(e).with("column", field.name());
            let column = cast_with_options(wide, field.data_type(), &CHECKED).map_err(of)?;
            let back = cast_with_options(&column, wide.data_type(), &CHECKED).map_err(of)?;
            if back.as_ref() != wide.as_ref() {
                let message = "a number has more digits after the point than its column keeps; round it, or declare the \
                               column as a decimal of more digits or a double";
                return Err(Error::invalid_input(message).with("column", field.name()));
            }
            Ok(column)
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_>>()?).map_err(malformed)
    }
}

/// Fields with wide decimals in the place of integers and decimals, also inside others.
fn widened(fields: &Fields) -> Fields {
    fields.iter().map(|field| wide(field)).collect()
}

fn wide(field: &Field) -> FieldRef {
    let data_type = match field.data_type() {
        of if of.is_integer() || matches!(of, DataType::Decimal128(..)) => {
            DataType::Decimal256(DECIMAL256_MAX_PRECISION, DECIMAL256_MAX_PRECISION as i8 / 2)
        }
        DataType::Struct(fields) => DataType::Struct(widened(fields)),
        DataType::List(element) => DataType::List(wide(element)),
        DataType::LargeList(element) => DataType::LargeList(wide(element)),
        DataType::Map(entries, sorted) => DataType::Map(wide(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(field.clone().with_data_type(data_type))
}

/// The columns of rows, in the order of the first row's fields.
fn inferred<T: Serialize>(rows: &[T]) -> Result<Schema> {
    let Some(first) = rows.first() else {
        let message = "no rows are given, so that nothing tells their columns; give a schema (read_rows_as)";
        return Err(Error::invalid_input(message));
    };
    let unfit = || {
        let message = "a row can't be taken apart into columns; rows are structs or maps with keys of text";
        Error::invalid_input(message)
    };
    let text = serde_json::to_string(first).map_err(|e| unfit().with_source(e))?;
    if !text.starts_with('{') {
        return Err(unfit());
    }
    let order: Keys = serde_json::from_str(&text).map_err(|e| unfit().with_source(e))?;
    let values =
        rows.iter().map(|row| serde_json::to_value(row).map_err(|e| ArrowError::JsonError(e.to_string())));
    let schema = schema_of(values)?;
    if let Some(unknown) = schema.fields().iter().find(|field| matches!(field.data_type(), DataType::Null)) {
        let message =
            "a column is NULL in all rows, so that nothing tells its type; give a schema (read_rows_as)";
        return Err(Error::invalid_input(message).with("column", unknown.name()));
    }
    Ok(Schema::new(order.sorted(schema.fields())))
}

/// The columns that JSON objects have, with types that hold all their values.
fn schema_of(values: impl Iterator<Item = std::result::Result<Value, ArrowError>>) -> Result<Schema> {
    let in_range = |value: Value| match beyond_integers(&value) {
        Some(number) => {
            let message = format!(
                "{number} is beyond a 64-bit signed integer; give a schema that has a decimal for it"
            );
            Err(ArrowError::JsonError(message))
        }
        None => Ok(value),
    };
    infer_json_schema_from_iterator(values.map(|value| value.and_then(in_range))).map_err(malformed)
}

/// An integer that would become a floating point number, which loses its last digits.
fn beyond_integers(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) if !number.is_i64() => number.as_u64(),
        Value::Array(elements) => elements.iter().find_map(beyond_integers),
        Value::Object(fields) => fields.values().find_map(beyond_integers),
        _ => None,
    }
}

fn malformed(error: ArrowError) -> Error {
    Error::invalid_input("the rows don't have the form of the columns").with_source(error)
}

/// The keys of a JSON object in its order, with those inside it; none for anything else. A list has those of its first
/// element.
#[derive(Default)]
struct Keys(Vec<(String, Keys)>);

impl Keys {
    /// Fields in the order of the keys; what is not among them comes last.
    fn sorted(&self, fields: &Fields) -> Fields {
        let place = |name: &str| self.0.iter().position(|(key, _)| key == name).unwrap_or(self.0.len());
        let mut fields: Vec<FieldRef> = fields.iter().cloned().collect();
        fields.sort_by_key(|field| place(field.name()));
        let with_inner = |field: FieldRef| match self.0.get(place(field.name())) {
            Some((_, keys)) => keys.inside(&field),
            None => field,
        };
        fields.into_iter().map(with_inner).collect()
    }

    fn inside(&self, field: &FieldRef) -> FieldRef {
        let data_type = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(self.sorted(fields)),
            DataType::List(element) => DataType::List(self.inside(element)),
            other => other.clone(),
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(entry) = map.next_entry()? {
            keys.push(entry);
        }
        Ok(Keys(keys))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Keys, A::Error> {
        let first = elements.next_element()?.unwrap_or_default();
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_unit<E>(self) -> std::result::Result<Keys, E> {
        Ok(Keys::default())
    }
}
