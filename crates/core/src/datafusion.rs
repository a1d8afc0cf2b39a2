//! Errors across the border to DataFusion, so that `?` takes each to the other: ours keep their kind on the way through it, its
//! own get one.

use arrow_schema::ArrowError;
use datafusion_common::{DataFusionError, SchemaError};

use crate::error::{Error, ErrorKind, refusal};

/// A library error as DataFusion's, to be found again on the way back.
impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// DataFusion's error as the library's. One of ours that passed through DataFusion keeps its kind. Of its own, what a statement
/// or its values are wrong about is [`InvalidInput`](ErrorKind::InvalidInput), a table that a statement names and nobody has
/// [`NotFound`](ErrorKind::NotFound).
impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        classified(error, false)
    }
}

/// As [`DataFusionError::from`], where a function is wanted.
pub fn to_datafusion(error: Error) -> DataFusionError {
    error.into()
}

/// As [`Error::from`], where a function is wanted.
pub fn from_datafusion(error: DataFusionError) -> Error {
    error.into()
}

fn classified(error: DataFusionError, in_file: bool) -> Error {
    if let Some(ours) = find_ours(&error) {
        return ours.without_source().with_source(error);
    }
    let root = error.find_root();
    let message = root.message();
    let message = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim();
    if let Some(remedy) = refusal(&error) {
        return Error::new(ErrorKind::Io, format!("{message}; {remedy}")).with_source(error);
    }
    if let Some(table) = missing_table(root) {
        let missing = Error::not_found("no such table; SHOW TABLES lists those that there are");
        return missing.with("table", table).with_source(error);
    }
    let (kind, remedy) = kind_of(root, in_file);
    let message = match remedy {
        Some(remedy) => format!("{message}; {remedy}"),
        None => message.to_string(),
    };
    Error::new(kind, message).with_source(error)
}

/// The name, without the catalog's, of a table that the planner did not find.
fn missing_table(error: &DataFusionError) -> Option<String> {
    let DataFusionError::Plan(message) = error else { return None };
    let message = message.split(DataFusionError::BACK_TRACE_SEP).next()?;
    let name = message.trim().strip_prefix("table '")?.strip_suffix("' not found")?;
    Some(name.split_once('.').map_or(name, |(_, name)| name).to_string())
}

/// The error of a file whose decoder panicked.
pub fn broken() -> DataFusionError {
    to_datafusion(Error::data_invalid(
        "the file's content breaks its own promises; restore the file, or roll back to an earlier snapshot",
    ))
}

/// The error with the file's location, unless it has one, and with what to do about it.
pub fn in_file(location: &str, error: DataFusionError) -> DataFusionError {
    let tells_what_to_do = find_ours(&error).is_some();
    let mut error = classified(error, true);
    if !error.context().any(|(key, _)| key == "file") {
        error = error.with("file", location);
    }
    // Filters and projections, which are evaluated while the file is read, are at fault where values are wrong.
    if !tells_what_to_do && error.kind() == ErrorKind::DataInvalid {
        error = error.reworded(|why| {
            format!("{why}; if the file is damaged, restore it, or roll back to an earlier snapshot")
        });
    }
    to_datafusion(error)
}

/// The caller's remedy for an error, in a word and in a sentence.
fn kind_of(error: &DataFusionError, in_file: bool) -> (ErrorKind, Option<&'static str>) {
    use DataFusionError as Their;
    match error {
        Their::SQL(..) | Their::Plan(_) | Their::Configuration(_) => (ErrorKind::InvalidInput, None),
        Their::SchemaError(schema, _) => match **schema {
            SchemaError::FieldNotFound { .. } => (ErrorKind::InvalidInput, None),
            SchemaError::AmbiguousReference { .. } => {
                (ErrorKind::InvalidInput, Some("say the table before the column's name"))
            }
            SchemaError::DuplicateQualifiedField { .. } | SchemaError::DuplicateUnqualifiedField { .. } => {
                (ErrorKind::InvalidInput, Some("give one of them another name with an alias"))
            }
        },
        Their::ArrowError(error, _) => kind_of_arrow(error, in_file),
        Their::Execution(message) => kind_of_execution(message),
        Their::NotImplemented(message) if message.contains("does not support logical expression") => {
            (ErrorKind::Unsupported, Some("write the subquery as a join"))
        }
        Their::NotImplemented(_) => (ErrorKind::Unsupported, None),
        Their::ResourcesExhausted(_) => (ErrorKind::ResourceExhausted, None),
        Their::ParquetError(_) => (ErrorKind::DataInvalid, None),
        Their::IoError(_) => (ErrorKind::Io, None),
        Their::ObjectStore(e) => (ErrorKind::from(&**e), None),
        _ => (ErrorKind::Internal, None),
    }
}

/// Of Arrow's errors, those of values are the statement's, or its input's: nothing is damaged where `1 / 0` has no value.
fn kind_of_arrow(error: &ArrowError, in_file: bool) -> (ErrorKind, Option<&'static str>) {
    match error {
        ArrowError::DivideByZero => {
            (ErrorKind::InvalidInput, Some("divide by NULLIF(divisor, 0), which gives NULL"))
        }
        ArrowError::ArithmeticOverflow(_) => {
            (ErrorKind::InvalidInput, Some("cast the operands to a wider type first"))
        }
        ArrowError::CastError(_) | ArrowError::ParseError(_) => {
            (ErrorKind::InvalidInput, Some("mend the value, or use TRY_CAST, which gives NULL"))
        }
        ArrowError::ComputeError(_) | ArrowError::CsvError(..) | ArrowError::JsonError(_) => {
            (ErrorKind::InvalidInput, None)
        }
        ArrowError::InvalidArgumentError(_) if !in_file => (ErrorKind::InvalidInput, None),
        ArrowError::NotYetImplemented(_) => (ErrorKind::Unsupported, None),
        ArrowError::MemoryError(_)
        | ArrowError::DictionaryKeyOverflowError
        | ArrowError::RunEndIndexOverflowError
        | ArrowError::OffsetOverflowError(_) => (ErrorKind::ResourceExhausted, None),
        _ => (ErrorKind::DataInvalid, None),
    }
}

/// DataFusion refuses values and names while it runs a statement in sentences alone.
fn kind_of_execution(message: &str) -> (ErrorKind, Option<&'static str>) {
    let message = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim_end();
    if message.ends_with("already exists") {
        (ErrorKind::AlreadyExists, None)
    } else if message.ends_with("doesn't exist.") || message.ends_with("does not exist") {
        (ErrorKind::NotFound, None)
    } else if message.starts_with("Placeholder ") {
        (ErrorKind::InvalidInput, Some("give the DataFrame its values with with_param_values"))
    } else {
        (ErrorKind::InvalidInput, None)
    }
}

fn find_ours(error: &DataFusionError) -> Option<&Error> {
    if let DataFusionError::Collection(errors) = error {
        return errors.iter().find_map(find_ours);
    }
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        if let Some(DataFusionError::Shared(shared)) = error.downcast_ref::<DataFusionError>()
            && let Some(ours) = find_ours(shared)
        {
            return Some(ours);
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_kind_and_context_through_datafusion() {
        let ours = Error::not_found("no such file").with("file", "a.parquet");
        let theirs = to_datafusion(ours).context("while scanning");
        let shared = DataFusionError::Shared(std::sync::Arc::new(theirs));
        let back = from_datafusion(shared);
        assert_eq!(back.kind(), ErrorKind::NotFound);
        assert!(back.to_string().contains("a.parquet"), "{back}");
    }

    #[test]
    fn what_a_decoder_says_of_a_file_comes_with_the_file_and_what_to_do() {
        let theirs =
            DataFusionError::ParquetError(Box::new(parquet::errors::ParquetError::EOF("eof".into())));
        let error = from_datafusion(in_file("a.parquet", theirs));
        assert_eq!(error.kind(), ErrorKind::DataInvalid);
        assert_eq!(error.context().collect::<Vec<_>>(), [("file", "a.parquet")]);
        assert!(error.message().contains("restore it, or roll back"), "{error}");
        // Once is enough.
        assert_eq!(
            from_datafusion(in_file("b.parquet", to_datafusion(error.without_source()))).to_string(),
            error.to_string()
        );
    }

    #[test]
    fn a_full_disk_is_no_failure_in_passing_wherever_datafusion_meets_it() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let store = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(full()) };
        for error in [DataFusionError::IoError(full()), DataFusionError::ObjectStore(Box::new(store))] {
            let error = from_datafusion(error.context("while spilling"));
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.message().ends_with("make room on the disk"), "{error}");
        }
    }

    #[test]
    fn an_unknown_column_is_the_callers_mistake() {
        let theirs = DataFusionError::Plan("no column x".into()).context("select");
        assert_eq!(from_datafusion(theirs).kind(), ErrorKind::InvalidInput);
    }
}
