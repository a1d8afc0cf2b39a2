//! [`SchemaUpdate`]: columns added, dropped, renamed, moved, promoted.
//!
//! Rules: Iceberg specification, Schema Evolution, Default values and Identifier Field IDs; Iceberg Java's `UpdateSchema`.
//! They differ from Java's in one way: each edit sees the result of those before it, so that a renamed column goes by its
//! new name from then on.

use std::sync::Arc;

use iceberg::spec::{Literal, Schema, Type};

mod checks;
mod draft;

pub(super) use draft::Draft;

/// Where a column goes among those beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnPosition {
    /// Before all others.
    First,
    /// Before another.
    Before(String),
    /// After another.
    After(String),
}

/// A column to add: optional, without default and last in its struct unless said otherwise.
///
/// ```
/// use icefield_core::evolve::{NewColumn, types};
/// use iceberg::spec::Literal;
///
/// let currency = NewColumn::new("currency", types::string()).doc("ISO 4217").default(Literal::string("USD")).after("price");
/// let altitude = NewColumn::new("altitude", types::double()).inside("location");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct NewColumn {
    name: String,
    column_type: Type,
    parent: Option<String>,
    doc: Option<String>,
    required: bool,
    default: Option<Literal>,
    position: Option<ColumnPosition>,
}

impl NewColumn {
    /// A column by its own name, in which dots have no meaning.
    pub fn new(name: impl Into<String>, column_type: Type) -> Self {
        Self {
            name: name.into(),
            column_type,
            parent: None,
            doc: None,
            required: false,
            default: None,
            position: None,
        }
    }

    /// Makes it a field of a struct, or of the struct that is a list's element or a map's value.
    pub fn inside(mut self, parent: impl Into<String>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Documents it.
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = Some(doc.into());
        self
    }

    /// Makes it never null. Without a default that is an incompatible change: rows that are there have no value.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The value of rows that were written before the column was there, and of rows written without it (format version 3).
    pub fn default(mut self, value: Literal) -> Self {
        self.default = Some(value);
        self
    }

    /// Puts it first in its struct.
    pub fn first(mut self) -> Self {
        self.position = Some(ColumnPosition::First);
        self
    }

    /// Puts it before a column of its struct, by that column's own name.
    pub fn before(mut self, sibling: impl Into<String>) -> Self {
        self.position = Some(ColumnPosition::Before(sibling.into()));
        self
    }

    /// Puts it after a column of its struct, by that column's own name.
    pub fn after(mut self, sibling: impl Into<String>) -> Self {
        self.position = Some(ColumnPosition::After(sibling.into()));
        self
    }
}

/// One recorded edit.
#[derive(Debug, Clone, PartialEq)]
enum Edit {
    Add(NewColumn),
    Drop(String),
    Rename { column: String, to: String },
    Move { column: String, to: ColumnPosition },
    Promote { column: String, to: Type },
    Optional(String),
    Require(String),
    Doc { column: String, doc: Option<String> },
    WriteDefault { column: String, value: Option<Literal> },
    Identifier(Vec<String>),
    Union { schema: Arc<Schema>, relax: bool },
}

/// Edits of a table's columns, recorded to be applied to any state of the table.
///
/// Columns go by full name, `location.lat`; `element`, `key` and `value` name the parts of lists and maps and may be left
/// out before a struct's fields. Each edit sees the result of those before it. Nothing is checked before
/// [`apply`](Self::apply).
///
/// ```
/// use icefield_core::evolve::{SchemaUpdate, types::string};
///
/// let update = SchemaUpdate::new().rename_column("price", "nightly_price").add_column("currency", string());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct SchemaUpdate {
    edits: Vec<Edit>,
    case_sensitive: bool,
    allow_incompatible: bool,
}

impl Default for SchemaUpdate {
    fn default() -> Self {
        Self { edits: Vec::new(), case_sensitive: true, allow_incompatible: false }
    }
}

impl SchemaUpdate {
    /// No edits; names are case-sensitive; incompatible changes are refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no edit was recorded.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Whether names match by case. When not, names that differ only in case clash.
    pub fn case_sensitive(mut self, case_sensitive: bool) -> Self {
        self.case_sensitive = case_sensitive;
        self
    }

    /// Allows changes under which rows that are there may break the schema: required columns without a default, and
    /// optional columns made required, where the caller knows that no null is there; and dates that become timestamps, where
    /// no other engine reads the table.
    pub fn allow_incompatible(mut self) -> Self {
        self.allow_incompatible = true;
        self
    }

    /// Adds an optional column at the end. Dots lead into structs: `location.altitude`.
    pub fn add_column(self, path: impl Into<String>, column_type: Type) -> Self {
        let path = path.into();
        self.add_column_with(match path.rsplit_once('.') {
            Some((parent, name)) => NewColumn::new(name, column_type).inside(parent),
            None => NewColumn::new(path, column_type),
        })
    }

    /// Adds a column with all that can be said of it.
    pub fn add_column_with(self, column: NewColumn) -> Self {
        self.edit(Edit::Add(column))
    }

    /// Drops a column. Its id is never used again: a later column of the same name does not show its values.
    ///
    /// Identifier fields, and columns that a partition spec or the sort order uses, can't be dropped.
    pub fn drop_column(self, column: impl Into<String>) -> Self {
        self.edit(Edit::Drop(column.into()))
    }

    /// Renames a column. `to` is its own new name, without its parents'.
    pub fn rename_column(self, column: impl Into<String>, to: impl Into<String>) -> Self {
        self.edit(Edit::Rename { column: column.into(), to: to.into() })
    }

    /// Moves a column to the front of its struct.
    pub fn move_first(self, column: impl Into<String>) -> Self {
        self.edit(Edit::Move { column: column.into(), to: ColumnPosition::First })
    }

    /// Moves a column before another of its struct. Both go by full name.
    pub fn move_before(self, column: impl Into<String>, other: impl Into<String>) -> Self {
        self.edit(Edit::Move { column: column.into(), to: ColumnPosition::Before(other.into()) })
    }

    /// Moves a column after another of its struct. Both go by full name.
    pub fn move_after(self, column: impl Into<String>, other: impl Into<String>) -> Self {
        self.edit(Edit::Move { column: column.into(), to: ColumnPosition::After(other.into()) })
    }

    /// Widens a column's type: int to long, float to double, decimal to more digits of the same scale.
    ///
    /// In format version 3 a date may become a timestamp or timestamp_ns, where [`allow_incompatible`](Self::allow_incompatible)
    /// was called: Iceberg Java 1.10 and PyIceberg 0.12 fail on the files that are there.
    pub fn promote_column(self, column: impl Into<String>, to: Type) -> Self {
        self.edit(Edit::Promote { column: column.into(), to })
    }

    /// Lets a column be null.
    pub fn make_optional(self, column: impl Into<String>) -> Self {
        self.edit(Edit::Optional(column.into()))
    }

    /// Makes a column never null: an incompatible change, unless this update adds the column with a default.
    pub fn require_column(self, column: impl Into<String>) -> Self {
        self.edit(Edit::Require(column.into()))
    }

    /// Documents a column.
    pub fn set_doc(self, column: impl Into<String>, doc: impl Into<String>) -> Self {
        self.edit(Edit::Doc { column: column.into(), doc: Some(doc.into()) })
    }

    /// Removes a column's documentation.
    pub fn remove_doc(self, column: impl Into<String>) -> Self {
        self.edit(Edit::Doc { column: column.into(), doc: None })
    }

    /// The value of rows written without the column from now on (format version 3). Rows that are there stay as they are.
    pub fn set_write_default(self, column: impl Into<String>, value: Literal) -> Self {
        self.edit(Edit::WriteDefault { column: column.into(), value: Some(value) })
    }

    /// Removes a column's write default: rows written without it get null.
    pub fn remove_write_default(self, column: impl Into<String>) -> Self {
        self.edit(Edit::WriteDefault { column: column.into(), value: None })
    }

    /// The columns that identify a row, in place of those that did. They are primitive, required, neither float nor double,
    /// and nested in required structs at most.
    pub fn set_identifier_fields<S: Into<String>>(self, columns: impl IntoIterator<Item = S>) -> Self {
        self.edit(Edit::Identifier(columns.into_iter().map(Into::into).collect()))
    }

    /// Makes room for another schema's columns by name: adds those that are missing, nested ones too, as optional columns at
    /// the end, and promotes where the other's type is wider. Never drops or narrows; what can't be united is an error that
    /// names the column and both types. Required columns stay required.
    ///
    /// Ids of the other schema have no meaning.
    pub fn union_by_name(self, schema: impl Into<Arc<Schema>>) -> Self {
        self.edit(Edit::Union { schema: schema.into(), relax: false })
    }

    /// As [`union_by_name`](Self::union_by_name), and columns that are optional in the other schema become optional, as
    /// Iceberg Java's `unionByNameWith` does it.
    pub fn union_by_name_relaxing(self, schema: impl Into<Arc<Schema>>) -> Self {
        self.edit(Edit::Union { schema: schema.into(), relax: true })
    }

    fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }
}
