//! Position delete files: the columns that they have, and what their metadata says of the data files that they are of.

use iceberg::spec::{DataFile, Datum, PrimitiveLiteral};

use super::claims;

/// The field id of a position delete file's column of paths.
pub const DELETE_FILE_PATH_ID: i32 = 2_147_483_546;
/// The field id of a position delete file's column of positions.
pub const DELETE_POS_ID: i32 = 2_147_483_545;

/// Bounds of the paths that a position delete file names, when its metadata tells.
pub(crate) fn path_bounds(file: &DataFile) -> Option<(&str, &str)> {
    fn text(datum: &Datum) -> Option<&str> {
        match datum.literal() {
            PrimitiveLiteral::String(text) => Some(text),
            _ => None,
        }
    }
    let (lower, upper) = claims::bounds(file, DELETE_FILE_PATH_ID);
    Some((text(lower?)?, text(upper?)?))
}
