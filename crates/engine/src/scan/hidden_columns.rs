//! The columns that a scan with equality deletes has beside those that are asked for.

/// The id of the hidden column of classes. Real columns have ids above 0.
pub(super) const CLASS_ID: i32 = -1;
/// Its name.
pub(super) const CLASS_NAME: &str = "__icefield_deletes";
/// What the names of the hidden columns of keys begin with.
pub(super) const KEY_PREFIX: &str = "__icefield_key_";
