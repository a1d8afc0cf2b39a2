//! What an orphan removal found and did.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use icefield_core::serialize_seconds;
use icefield_core::text::Plain;
use serde::Serialize;

use crate::common::{Bytes, DeleteFailure, FileCount, SHOWN};

/// A file that nothing names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OrphanFile {
    /// Where it is, or was.
    pub location: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its last modification by the store's clock, in milliseconds since the epoch.
    pub modified_ms: i64,
}

/// A file that the table does not name and that stays all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptFile {
    /// Where it is.
    pub location: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its last modification by the store's clock, in milliseconds since the epoch.
    pub modified_ms: i64,
    /// The rule that keeps it.
    pub reason: KeptReason,
}

/// Why a file that the table does not name stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum KeptReason {
    /// It is younger than the limit: a running write may be about to commit it.
    TooYoung,
    /// Only an earlier metadata file that the table still names reaches it. It goes when that file leaves the log.
    PreviousMetadata,
    /// A name on its path begins with `_` or `.`: other programs keep their own files so.
    Hidden,
    /// `version-hint.text`, which some catalogs read.
    VersionHint,
    /// It lies in the folder of this other table of the catalog.
    OtherTable(String),
    /// A link leads to it, out of the folders that were listed.
    Link,
    /// The table names this location: the same path with another scheme or authority.
    PrefixMismatch(String),
}

impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooYoung => f.write_str("younger than the limit"),
            Self::PreviousMetadata => f.write_str("named by an earlier metadata file"),
            Self::Hidden => f.write_str("hidden name"),
            Self::VersionHint => f.write_str("version hint"),
            Self::OtherTable(table) => write!(f, "in the folder of {table}"),
            Self::Link => f.write_str("behind a link"),
            Self::PrefixMismatch(named) => write!(f, "the table names {}", Plain(named)),
        }
    }
}

/// What an orphan removal deleted, or would delete, and what it kept back.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OrphanReport {
    /// Whether nothing was deleted and this is what would be.
    pub dry_run: bool,
    /// The folders that were listed.
    pub locations: Vec<String>,
    /// All files in them.
    pub listed: FileCount,
    /// Those of them that the table's current metadata reaches.
    pub reachable: FileCount,
    /// The orphans: files that were deleted, or would be, or could not be ([`OrphanReport::failures`]).
    pub orphans: Vec<OrphanFile>,
    /// What was deleted.
    pub deleted: FileCount,
    /// The orphans that could not be deleted.
    pub failures: Vec<DeleteFailure>,
    /// The files that nothing in the current metadata reaches and that stay, each with the rule that keeps it.
    pub kept: Vec<KeptFile>,
    /// Earlier metadata files that the table names and that do not exist: what they reached is not known.
    pub missing_metadata: Vec<String>,
    /// Time spent listing.
    #[serde(serialize_with = "serialize_seconds")]
    pub listing: Duration,
    /// Time spent reading metadata.
    #[serde(serialize_with = "serialize_seconds")]
    pub planning: Duration,
    /// Time spent deleting.
    #[serde(serialize_with = "serialize_seconds")]
    pub deleting: Duration,
}

impl OrphanReport {
    /// The files kept back, counted by the rule that keeps them.
    pub fn kept_by_reason(&self) -> BTreeMap<&'static str, FileCount> {
        let mut counts: BTreeMap<&'static str, FileCount> = BTreeMap::new();
        for file in &self.kept {
            let reason = match file.reason {
                KeptReason::TooYoung => "younger than the limit",
                KeptReason::PreviousMetadata => "named by an earlier metadata file",
                KeptReason::Hidden => "hidden name",
                KeptReason::VersionHint => "version hint",
                KeptReason::OtherTable(_) => "in another table's folder",
                KeptReason::Link => "behind a link",
                KeptReason::PrefixMismatch(_) => "named with another scheme or authority",
            };
            counts.entry(reason).or_default().add(file.bytes);
        }
        counts
    }
}

impl fmt::Display for OrphanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, what) = if self.dry_run {
            let mut all = FileCount::default();
            self.orphans.iter().for_each(|file| all.add(file.bytes));
            ("would delete", all)
        } else {
            ("deleted", self.deleted)
        };
        write!(
            f,
            "{verb} {} orphan files ({}) of {} listed, {} of them reachable",
            what.files,
            Bytes(what.bytes),
            self.listed.files,
            self.reachable.files
        )?;
        for (reason, count) in self.kept_by_reason() {
            write!(f, "; kept {} ({}): {reason}", count.files, Bytes(count.bytes))?;
        }
        if !self.missing_metadata.is_empty() {
            write!(f, "; {} earlier metadata files do not exist", self.missing_metadata.len())?;
        }
        if !self.failures.is_empty() {
            write!(f, "; {} files could not be deleted", self.failures.len())?;
            for failure in self.failures.iter().take(SHOWN) {
                write!(f, "\n  {}: {}", Plain(&failure.location), failure.error)?;
            }
        }
        Ok(())
    }
}
