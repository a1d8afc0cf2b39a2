//! Errors across the border to DataFusion: ours keep their kind on the way through it, its own get one.

use datafusion::common::{DataFusionError, SchemaError};
use icefield_core::{Error, ErrorKind, refusal};

/// A library error as DataFusion's, to be found again by [`from_datafusion`].
pub fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// DataFusion's error as the library's. One of ours that passed through DataFusion keeps its kind.
pub fn from_datafusion(error: DataFusionError) -> Error {
    if let Some(ours) = find_ours(&error) {
        return ours.without_source().with_source(error);
    }
    let message = error.strip_backtrace();
    match refusal(&error) {
        Some(remedy) => Error::new(ErrorKind::Io, format!("{message}; {remedy}")),
        None => Error::new(kind_of(error.find_root()), message),
    }
    .with_source(error)
}

/// The error of a file whose decoder panicked.
pub(crate) fn broken() -> DataFusionError {
    to_datafusion(Error::data_invalid(
        "the file's content breaks its own promises; restore the file, or roll back to an earlier snapshot",
    ))
}

/// The error with the file's location, unless it has one, and with what to do about it.
pub(crate) fn in_file(location: &str, error: DataFusionError) -> DataFusionError {
    let tells_what_to_do = find_ours(&error).is_some();
    let mut error: Error = from_datafusion(error);
    if !error.context().any(|(key, _)| key == "file") {
        error = error.with("file", location);
    }
    // A filter that is evaluated while the file is read may be at fault as well.
    if !tells_what_to_do && error.kind() == ErrorKind::DataInvalid {
        error = error.reworded(|why| {
            format!("{why}; if the file is damaged, restore it, or roll back to an earlier snapshot")
        });
    }
    to_datafusion(error)
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
        DataFusionError::ObjectStore(e) => ErrorKind::from(&**e),
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
