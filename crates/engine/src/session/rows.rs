//! DataFrames of rows that a service holds: JSON lines in memory, and values of its own types.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::{Decoder, infer_json_schema, infer_json_schema_from_iterator};
use datafusion::dataframe::DataFrame;
use icefield_core::{Error, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Session;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

impl Session {
    /// A DataFrame of JSON objects, one a line, that are in memory. Its columns are the schema's: a key that an object
    /// does not have is NULL, numbers and times may be given as text. Without a schema (`None`) all lines are looked
    /// through for their keys, in the order of the alphabet, and types: integers, floating point numbers, booleans, text,
    /// lists and structs of these.
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
    /// in, for what is no JSON object, a value that its column does not take, a key that the schema does not have, and
    /// a NULL in a column that takes none.
    pub fn read_json_lines(
        &self,
        lines: impl AsRef<[u8]>,
        schema: impl Into<Option<SchemaRef>>,
    ) -> Result<DataFrame> {
        let lines = lines.as_ref();
        let schema = match schema.into() {
            Some(schema) => schema,
            None => Arc::new(infer_json_schema(lines, None).map(|(schema, _)| schema).map_err(malformed)?),
        };
        let mut decoder = decoder(&schema)?;
        let mut batches = Vec::new();
        let (mut rest, mut taken) = (lines, 0);
        loop {
            let at = |e| malformed(e).with("from line", taken + 1);
            let decoded = decoder.decode(rest).map_err(at)?;
            rest = rest.get(decoded..).unwrap_or_default();
            let Some(batch) = decoder.flush().map_err(at)? else { break };
            taken += batch.num_rows();
            batches.push(batch);
        }
        self.rows(schema, batches)
    }

    /// A DataFrame of a service's own values, one a row: what `serde` calls a struct. Its columns are the fields of the
    /// first value, in their order, structs inside included, with the types that all values have: integers are `Int64`, floating point numbers
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
        let schema = inferred(rows)?;
        self.read_rows_as(rows, Arc::new(schema))
    }

    /// As [`read_rows`](Self::read_rows), with the columns of a schema. Text becomes the date, time or decimal that its
    /// column is.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is not a struct or a map, a value that its column does not take,
    /// a field that the schema does not have, and a NULL in a column that takes none.
    pub fn read_rows_as<T: Serialize>(&self, rows: &[T], schema: SchemaRef) -> Result<DataFrame> {
        let mut decoder = decoder(&schema)?;
        let mut batches = Vec::new();
        for rows in rows.chunks(BATCH_ROWS) {
            decoder.serialize(rows).map_err(malformed)?;
            batches.extend(decoder.flush().map_err(malformed)?);
        }
        self.rows(schema, batches)
    }

    fn rows(&self, schema: SchemaRef, mut batches: Vec<RecordBatch>) -> Result<DataFrame> {
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        self.read_batches(batches)
    }
}

fn decoder(schema: &SchemaRef) -> Result<Decoder> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS).with_strict_mode(true);
    builder.build_decoder().map_err(malformed)
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
    let schema = infer_json_schema_from_iterator(values).map_err(malformed)?;
    if let Some(unknown) = schema.fields().iter().find(|field| matches!(field.data_type(), DataType::Null)) {
        let message =
            "a column is NULL in all rows, so that nothing tells its type; give a schema (read_rows_as)";
        return Err(Error::invalid_input(message).with("column", unknown.name()));
    }
    Ok(Schema::new(order.sorted(schema.fields())))
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
