//! The examples' binaries.

use std::path::PathBuf;

/// An example's binary, which cargo builds beside the tests.
pub(crate) fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let binary = test.parent()?.parent()?.join("examples").join(name);
    if !binary.exists() {
        eprintln!("skipped: {} is not built; run cargo test without --test", binary.display());
        return None;
    }
    Some(binary)
}
