//! Filters over a table's rows, and what metadata alone says of them.
//!
//! A [`Filter`] names columns by field id, so that it means the same in every schema of the table, and holds values in
//! the column's own type. The query engine makes them of its expressions; commit validation and maintenance carry them as
//! the footprint of what an operation read.

mod facts;
mod matcher;
mod projection;

use iceberg::spec::Datum;

pub use matcher::FileMatcher;

/// A condition on rows, in SQL's three-valued logic: a row matches only when it is true, not when it is unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Filter {
    /// Every row.
    #[default]
    True,
    /// No row.
    False,
    /// All of these.
    And(Vec<Filter>),
    /// Any of these.
    Or(Vec<Filter>),
    /// Not this one: where it is unknown, this is unknown too.
    Not(Box<Filter>),
    /// A test of one column.
    Test(i32, Test),
}

/// A test of one column's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The value is NULL.
    IsNull,
    /// The value is not NULL.
    NotNull,
    /// The value is not a number. NULL is not NaN.
    IsNan,
    /// The value is a number or NULL.
    NotNan,
    /// `=`. NaN equals NaN here and is above every number, as in Iceberg's ordering.
    Eq(Datum),
    /// `<>`
    NotEq(Datum),
    /// `<`
    Lt(Datum),
    /// `<=`
    LtEq(Datum),
    /// `>`
    Gt(Datum),
    /// `>=`
    GtEq(Datum),
    /// One of these.
    In(Vec<Datum>),
    /// None of these.
    NotIn(Vec<Datum>),
    /// A string that starts with this.
    StartsWith(String),
    /// A string that does not start with this.
    NotStartsWith(String),
}
