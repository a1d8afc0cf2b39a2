//! Errors across the border to DataFusion: ours keep their kind on the way through it, its own get one.

use datafusion::common::{DataFusionError, SchemaError};
use icefield_core::{Error, ErrorKind};

/// A library error as DataFusion's, to be found again by [`from_datafusion`].
pub fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// DataFusion's error as the library's. One of ours that passed through DataFusion keeps its kind.
pub fn from_datafusion(error: DataFusionError) -> Error {
    if let Some(ours) = find_ours(&error) {
        let (kind, message) = (ours.kind(), ours.message().to_string());
        let context: Vec<_> = ours.context().map(|(key, value)| (key, value.to_string())).collect();
        let copy = Error::new(kind, message).with_source(error);
        return context.into_iter().fold(copy, |copy, (key, value)| copy.with(key, value));
    }
    let kind = kind_of(error.find_root());
    Error::new(kind, error.strip_backtrace()).with_source(error)
}

/// The error of a file whose decoder panicked.
pub(crate) fn broken() -> DataFusionError {
    to_datafusion(Error::data_invalid(
        "the file's content breaks its own promises; restore the file, or roll back to an earlier snapshot",
    ))
}

/// The error with the file's location, unless it has one.
pub(crate) fn in_file(location: &str, error: DataFusionError) -> DataFusionError {
    let error: Error = from_datafusion(error);
    let has_one = error.context().any(|(key, _)| key == "file");
    to_datafusion(if has_one { error } else { error.with("file", location) })
}

fn kind_of(error: &DataFusionError) -> ErrorKind {
    match error {
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::Configuration(_) => {
            ErrorKind::InvalidInput
        }
        DataFusionError::SchemaError(schema, _) => match **schema {
            SchemaError::FieldNotFound { .. }
            | SchemaError::AmbiguousReference { .. }
            | SchemaError::DuplicateQualifiedField { .. }
            | SchemaError::DuplicateUnqualifiedField { .. } => ErrorKind::InvalidInput,
        },
        DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
        DataFusionError::ResourcesExhausted(_) => ErrorKind::ResourceExhausted,
        DataFusionError::ParquetError(_) | DataFusionError::ArrowError(..) => ErrorKind::DataInvalid,
        DataFusionError::Execution(_) => ErrorKind::DataInvalid,
        DataFusionError::IoError(_) => ErrorKind::Io,
        DataFusionError::ObjectStore(e) => match **e {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ErrorKind::Io
            }
            _ => ErrorKind::Transient,
        },
        _ => ErrorKind::Internal,
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
    fn an_unknown_column_is_the_callers_mistake() {
        let theirs = DataFusionError::Plan("no column x".into()).context("select");
        assert_eq!(from_datafusion(theirs).kind(), ErrorKind::InvalidInput);
    }
}
