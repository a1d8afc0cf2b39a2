//! The one error of the library.
//!
//! An [`Error`] has a [`ErrorKind`] that tells the caller what to do, a message that says what was wrong and what to do
//! about it, context as key-value pairs (`table`, `file`, `snapshot`, ...) and, where there is one, its source. Shown, it is one line,
//! and one more for each cause in `Debug`, whatever names are in it.

use std::error::Error as StdError;
use std::{fmt, io};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::text::{Plain, write_plain};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A table, namespace, snapshot, reference or file does not exist. Look at the name.
    NotFound,
    /// A snapshot that was there has expired, and with it what came to the table since. Begin anew: read the table as it is, and
    /// go on from there.
    Expired,
    /// What was to be created exists. Choose another name, or load it.
    AlreadyExists,
    /// The caller's input is wrong: a name, a type, an option. Retrying won't help.
    InvalidInput,
    /// Stored data breaks the format: a corrupt metadata file, manifest or data file. Retrying won't help.
    DataInvalid,
    /// Valid, but not something that this version does.
    Unsupported,
    /// A concurrent change makes the operation's result wrong. Read again and run the operation again.
    Conflict,
    /// The commit may or may not have happened. Reload the table and look, or run again with the same idempotency key;
    /// nothing that the commit wrote was deleted.
    CommitStateUnknown,
    /// A store, database or network failed in passing. The same call may succeed later.
    Transient,
    /// A store or the operating system refused for good: permissions, a full disk.
    Io,
    /// A limit that the caller set was reached: memory, size, time.
    ResourceExhausted,
    /// A bug in the library, or in one below it.
    Internal,
}

/// The part of a concurrent change that makes an operation's result wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConflictReason {
    /// Another commit was first, whatever it did: the operation may well succeed when it is tried again.
    LostRace,
    /// Rows were added where the operation read.
    ConcurrentAppend,
    /// Rows were deleted that the operation read, or carries over as they were.
    ConcurrentDelete,
    /// A file that the operation replaces, or deletes rows of, is not in the table any more.
    FileRemoved,
    /// The schema changed so that the operation's files do not fit it.
    SchemaChanged,
    /// The partition spec of the operation's files was removed.
    SpecChanged,
    /// The format version changed: delete files of the kind that the operation wrote are not added to such
    /// tables.
    FormatChanged,
    /// The snapshot that the operation was computed from is not in the branch's history any more: it expired, or was rolled
    /// back past.
    BaseExpired,
    /// A branch or tag was made, moved or dropped.
    ReferenceChanged,
    /// Another table has the name, or the folder, by now.
    TableReplaced,
}

impl ErrorKind {
    /// The kind's name, in lower-case words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Expired => "expired",
            Self::AlreadyExists => "already exists",
            Self::InvalidInput => "invalid input",
            Self::DataInvalid => "invalid data",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
            Self::CommitStateUnknown => "commit state unknown",
            Self::Transient => "transient failure",
            Self::Io => "i/o failure",
            Self::ResourceExhausted => "resource exhausted",
            Self::Internal => "internal error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The library's error.
///
/// ```
/// use icefield_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::NotFound, "no such snapshot; see the table's history")
///     .with("table", "hotel.rates")
///     .with("snapshot", 17);
/// assert_eq!(error.to_string(), "not found: no such snapshot; see the table's history (table: hotel.rates, snapshot: 17)");
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
    conflict: Option<ConflictReason>,
}

impl Error {
    /// An error of a kind; the message says what was wrong and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let conflict = (kind == ErrorKind::Conflict).then_some(ConflictReason::LostRace);
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None, conflict }))
    }

    /// [`ErrorKind::InvalidInput`].
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::DataInvalid`].
    pub fn data_invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataInvalid, message)
    }

    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Conflict`], by [`ConflictReason::LostRace`] unless [`because`](Self::because) says another reason.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Says what of a concurrent change conflicts.
    pub fn because(mut self, reason: ConflictReason) -> Self {
        self.0.conflict = Some(reason);
        self
    }

    /// Adds a key-value pair of context.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Sets the error underneath.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The error with another message, made of the one that it has.
    pub fn reworded(mut self, message: impl FnOnce(&str) -> String) -> Self {
        self.0.message = message(&self.0.message);
        self
    }

    /// The error again, without the one underneath: to go around that of a library which it passed through.
    pub fn without_source(&self) -> Self {
        let Inner { kind, message, context, conflict, .. } = &*self.0;
        Self(Box::new(Inner {
            kind: *kind,
            message: message.clone(),
            context: context.clone(),
            source: None,
            conflict: *conflict,
        }))
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The part of a concurrent change that conflicts; `None` for other kinds than [`Conflict`](ErrorKind::Conflict).
    pub fn conflict_reason(&self) -> Option<ConflictReason> {
        self.0.conflict
    }

    /// The message alone, without kind, context and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The context, in the order in which it was added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Whether the same call may succeed when it is made again, unchanged.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::Transient
    }

    /// Whether the commit may or may not have happened.
    pub fn is_commit_state_unknown(&self) -> bool {
        self.0.kind == ErrorKind::CommitStateUnknown
    }
}

/// As reports have it: the kind, and what [`Display`](fmt::Display) says.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 2)?;
        error.serialize_field("kind", &self.kind())?;
        error.serialize_field("message", &self.to_string())?;
        error.end()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and values of others are among it.
        write!(f, "{}: {}", self.0.kind, Plain(&self.0.message))?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}: {}", if i == 0 { " (" } else { ", " }, Plain(value))?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut source = self.source();
        while let Some(error) = source {
            f.write_str("\n  caused by: ")?;
            write_plain(f, error)?;
            source = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<iceberg::Error> for Error {
    fn from(error: iceberg::Error) -> Self {
        use iceberg::ErrorKind as Their;
        // A storage error that passed through iceberg stays what it was.
        if let Some(ours) = error.source().and_then(find_ours) {
            return ours.without_source().with_source(error);
        }
        let kind = match error.kind() {
            Their::DataInvalid => ErrorKind::DataInvalid,
            Their::FeatureUnsupported => ErrorKind::Unsupported,
            Their::TableNotFound | Their::NamespaceNotFound => ErrorKind::NotFound,
            Their::TableAlreadyExists | Their::NamespaceAlreadyExists => ErrorKind::AlreadyExists,
            Their::PreconditionFailed => ErrorKind::InvalidInput,
            Their::CatalogCommitConflicts => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.message().to_string()).with_source(error)
    }
}

fn find_ours<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        at = error.source();
    }
    None
}

impl From<Error> for iceberg::Error {
    fn from(error: Error) -> Self {
        use iceberg::ErrorKind as Their;
        let kind = match error.kind() {
            ErrorKind::DataInvalid => Their::DataInvalid,
            ErrorKind::Unsupported => Their::FeatureUnsupported,
            ErrorKind::InvalidInput => Their::PreconditionFailed,
            ErrorKind::Conflict => Their::CatalogCommitConflicts,
            _ => Their::Unexpected,
        };
        iceberg::Error::new(kind, error.to_string()).with_retryable(error.is_retryable()).with_source(error)
    }
}

/// What to do where an error, or one underneath it, is a refusal of the operating system or of a store: [`ErrorKind::Io`].
/// `None` for all others, which may be failures in passing.
pub fn refusal(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    use io::ErrorKind as Os;
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
        ) = error.downcast_ref()
        {
            return Some("check the store's credentials and what they allow");
        }
        let Some(os) = error.downcast_ref::<io::Error>() else {
            at = error.source();
            continue;
        };
        match os.kind() {
            Os::PermissionDenied => return Some("give this process the rights to the file and its folder"),
            Os::ReadOnlyFilesystem => return Some("use a folder of a file system that can be written to"),
            Os::StorageFull => return Some("make room on the disk"),
            Os::QuotaExceeded => return Some("make room on the disk, or have the quota raised"),
            Os::NotADirectory => return Some("move away the file that is where a folder is to be"),
            _ => {}
        }
        // The source of an error that was put into one of the operating system's is the next but one.
        at = os.get_ref().map(|inner| inner as &(dyn StdError + 'static)).or_else(|| os.source());
    }
    None
}

impl From<&object_store::Error> for ErrorKind {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error as Their;
        match error {
            Their::NotFound { .. } => Self::NotFound,
            Their::AlreadyExists { .. } => Self::AlreadyExists,
            Their::Precondition { .. } => Self::Conflict,
            Their::NotSupported { .. } | Their::NotImplemented { .. } => Self::Unsupported,
            Their::InvalidPath { .. } | Their::UnknownConfigurationKey { .. } => Self::InvalidInput,
            error if refusal(error).is_some() => Self::Io,
            _ => Self::Transient,
        }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        let message = match refusal(&error) {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        };
        Self::new(ErrorKind::from(&error), message).with_source(error)
    }
}

/// The error of an upload or download: behind tokio's, the store's own where it is one.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<object_store::Error>() {
            Ok(store) => store.into(),
            Err(error) => {
                use io::ErrorKind as Os;
                let (kind, remedy) = match (refusal(&error), error.kind()) {
                    (Some(remedy), _) => (ErrorKind::Io, remedy),
                    (None, Os::NotFound) => (ErrorKind::NotFound, "check the path"),
                    (
                        None,
                        Os::Interrupted
                        | Os::TimedOut
                        | Os::WouldBlock
                        | Os::ConnectionRefused
                        | Os::ConnectionReset
                        | Os::ConnectionAborted
                        | Os::NotConnected
                        | Os::BrokenPipe
                        | Os::UnexpectedEof
                        | Os::Other,
                    ) => (ErrorKind::Transient, "try again"),
                    (None, _) => (ErrorKind::Io, "check the file and its folder"),
                };
                Self::new(kind, format!("{error}; {remedy}")).with_source(error)
            }
        }
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        if let parquet::errors::ParquetError::External(source) = error {
            return match source.downcast::<object_store::Error>() {
                Ok(store) => (*store).into(),
                Err(source) => Self::new(ErrorKind::DataInvalid, source.to_string()).with_source(source),
            };
        }
        Self::new(ErrorKind::DataInvalid, error.to_string()).with_source(error)
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        use arrow_schema::ArrowError as Their;
        let kind = match &error {
            // Values and text that came from the caller.
            Their::CastError(_)
            | Their::ParseError(_)
            | Their::CsvError(..)
            | Their::JsonError(_)
            | Their::DivideByZero
            | Their::ArithmeticOverflow(_) => ErrorKind::InvalidInput,
            _ => ErrorKind::DataInvalid,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_error_keeps_its_kind_through_iceberg() {
        let ours =
            Error::new(ErrorKind::Transient, "the store did not answer; try again").with("file", "a.avro");
        let theirs: iceberg::Error = ours.into();
        let back = Error::from(theirs);
        assert_eq!(back.kind(), ErrorKind::Transient);
        assert!(back.is_retryable());
        assert!(back.to_string().contains("a.avro"), "{back}");
    }

    fn local(error: io::Error) -> object_store::Error {
        object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(Local(error)) }
    }

    /// As `object_store` wraps what the operating system says of a local file.
    #[derive(Debug)]
    struct Local(io::Error);

    impl fmt::Display for Local {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Unable to copy data to file: {}", self.0)
        }
    }

    impl StdError for Local {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn what_the_operating_system_refuses_is_no_failure_in_passing() {
        use io::ErrorKind as Os;
        for (kind, remedy) in [
            (Os::PermissionDenied, Some("rights")),
            (Os::ReadOnlyFilesystem, Some("file system")),
            (Os::StorageFull, Some("make room")),
            (Os::QuotaExceeded, Some("quota")),
            (Os::NotADirectory, Some("move away")),
            (Os::Interrupted, None),
            (Os::TimedOut, None),
            (Os::Other, None),
        ] {
            // As a store gives it, as an upload does, and as the operating system itself.
            let upload = io::Error::other(local(kind.into()));
            assert_eq!(Error::from(io::Error::from(Os::NotFound)).kind(), ErrorKind::NotFound);
            assert_eq!(Error::from(io::Error::from(Os::IsADirectory)).kind(), ErrorKind::Io);
            for error in [local(kind.into()).into(), upload.into(), Error::from(io::Error::from(kind))] {
                let expected = if remedy.is_some() { ErrorKind::Io } else { ErrorKind::Transient };
                assert_eq!(error.kind(), expected, "{kind:?}: {error}");
                assert_eq!(error.is_retryable(), remedy.is_none(), "{kind:?}");
                assert!(remedy.is_none_or(|remedy| error.message().contains(remedy)), "{kind:?}: {error}");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_told_so() {
        use std::io::Write;
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = Error::from(local(full.write_all(b"rows").unwrap_err()));
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.message().contains("make room"), "{error}");
    }

    #[test]
    fn a_store_that_refuses_its_user_is_told_so() {
        let path = "a".to_string();
        let refused = object_store::Error::PermissionDenied { path, source: "403".into() };
        let error = Error::from(refused);
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.message().contains("credentials"), "{error}");
    }

    #[test]
    fn no_name_in_an_error_begins_a_line_or_turns_one_around() {
        let marks = ["\n", "\r", "\u{85}", "\u{2028}", "\u{1b}[2J", "\0", "\u{9b}", "\u{202e}", "\u{2066}"];
        for mark in marks {
            let name = format!("a{mark}b");
            let source = Error::not_found(format!("no {name}")).with("file", &name);
            let error = Error::data_invalid(format!("bad {name}")).with("table", &name);
            let error = error.with_source(io::Error::other(source));
            let shown = error.to_string();
            assert!(
                shown.chars().all(crate::text::is_plain) && shown.matches("a\\u{").count() == 2,
                "{shown}"
            );
            let lines: Vec<String> = format!("{error:?}").lines().map(str::to_string).collect();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines.iter().flat_map(|line| line.chars()).all(crate::text::is_plain), "{lines:?}");
            // As it was given, for programs.
            assert_eq!(error.context().next(), Some(("table", name.as_str())));
        }
        let harmless = "données/é.csv 日本 a b\\n'\" 👍🏽 ש";
        assert!(Error::invalid_input(harmless).to_string().ends_with(harmless));
    }

    #[test]
    fn debug_shows_the_chain_of_causes() {
        let error = Error::invalid_input("no").with_source(std::io::Error::other("below"));
        assert_eq!(format!("{error:?}"), "invalid input: no\n  caused by: below");
    }
}
