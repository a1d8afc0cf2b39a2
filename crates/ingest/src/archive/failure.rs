//! [`Failure`]: why the reading of an archive, or of one member, ended.

use std::fmt;
use std::io;

use icefield_core::Error;

use crate::quarantine::Reason;

/// What ends the reading of an archive or, at [`Failure::Member`], of one member.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The archive's content is at fault: reading it again would end the same way.
    Archive(Reason, String),
    /// The member's content is at fault.
    Member(Reason, String),
    /// The store, or the machine.
    Storage(Error),
    /// A limit of the run, by no fault of the archive's.
    Run(String),
    /// The run was dropped.
    Cancelled,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(reason, detail) | Self::Member(reason, detail) => write!(f, "{reason}: {detail}"),
            Self::Storage(error) => error.fmt(f),
            Self::Run(detail) => f.write_str(detail),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        io::Error::other(failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Self::Storage(error.into()),
        }
    }
}
