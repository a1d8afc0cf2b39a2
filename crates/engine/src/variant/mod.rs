//! Variants: values that carry their own types, as Arrow structs of the two binary parts of their encoding.
//!
//! Files may hold parts of variants in columns of their own ("shredded"). Everything above a scan sees them whole:
//! [`unshredded`] puts them together, level by level with the rest of a nested column. [`functions`] are what SQL has for them.

mod functions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use datafusion::common::Result;
use icefield_core::Error;
use icefield_core::format::VARIANT_EXTENSION;
use parquet_variant_compute::{VariantArray, unshred_variant};

use crate::error::to_datafusion;

pub(crate) use functions::functions;

/// Whether a field is marked as a variant.
pub(crate) fn is_variant(field: &Field) -> bool {
    field.extension_type_name() == Some(VARIANT_EXTENSION)
}

/// Variants, of a file or of a function, in the form that `fields` is: metadata and value.
///
/// # Errors
/// When the array is no array of variants, or their bytes are not as the encoding has it.
pub(crate) fn unshredded(array: &ArrayRef, fields: &Fields) -> Result<ArrayRef> {
    let whole = guarded(|| unshred_variant(&VariantArray::try_new(array)?))?;
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = fields.iter().map(|field| {
        let (part, to) = (whole.inner().column_by_name(field.name()), field.data_type());
        let part = part.ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("a variant without its part '{}'", field.name()))
        })?;
        cast_with_options(part, to, &strict)
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, whole.nulls().cloned())?))
}

/// What is done with variants' bytes. Decoders panic on some that are not what they say.
fn guarded<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done?),
        Err(_) => Err(to_datafusion(Error::data_invalid(
            "a variant's bytes are not as its encoding has it; write the value again",
        ))),
    }
}

/// A struct's type that may be a variant's: its metadata is binary.
fn may_be_variant(of: &DataType) -> bool {
    let DataType::Struct(fields) = of else { return false };
    fields.find("metadata").is_some_and(|(_, field)| {
        matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    })
}
