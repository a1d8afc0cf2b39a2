//! Ingests of whole drops, good and bad, on real files and real archives.

mod archives;
mod bad_input;
mod budgets;
#[cfg(feature = "dataframe")]
mod dataframes;
mod drops;
mod encodings;
mod floods;
mod hostile;
mod hostile_drop;
mod hostile_folder;
mod litter;
mod memory;
mod options;
mod reports;
mod shared_parts;
mod support;
mod types;
mod untrusted;
