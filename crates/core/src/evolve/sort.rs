//! [`SortOrderUpdate`]: the order in which rows are written, replaced as a whole; and sort orders for new tables.

use iceberg::spec::{NullOrder, Schema, SortDirection, SortField, SortOrder, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};

use super::change::MetadataChange;
use super::partition::{Term, resolve};
use super::tree::Tree;
use crate::error::{Error, Result};

/// A [`Term`] as a sort field. Ascending puts nulls first and descending last, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct SortTerm {
    term: Term,
    direction: SortDirection,
    nulls: NullOrder,
}

/// Lowest values first, nulls before them.
pub fn asc(term: impl Into<Term>) -> SortTerm {
    SortTerm { term: term.into(), direction: SortDirection::Ascending, nulls: NullOrder::First }
}

/// Highest values first, nulls after them.
pub fn desc(term: impl Into<Term>) -> SortTerm {
    SortTerm { term: term.into(), direction: SortDirection::Descending, nulls: NullOrder::Last }
}

impl SortTerm {
    /// Puts nulls before all values.
    pub fn nulls_first(mut self) -> Self {
        self.nulls = NullOrder::First;
        self
    }

    /// Puts nulls after all values.
    pub fn nulls_last(mut self) -> Self {
        self.nulls = NullOrder::Last;
        self
    }
}

/// A new sort order for a table, in place of the one it has. Data that is there stays as it is.
///
/// ```
/// use icefield_core::evolve::{SortOrderUpdate, asc, bucket, desc};
///
/// let order = SortOrderUpdate::new([asc("listing_id"), desc("date").nulls_first(), asc(bucket("id", 16))]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct SortOrderUpdate {
    terms: Vec<SortTerm>,
    case_sensitive: bool,
}

impl SortOrderUpdate {
    /// Sorts by these, the first foremost. None means unsorted.
    pub fn new(terms: impl IntoIterator<Item = SortTerm>) -> Self {
        Self { terms: terms.into_iter().collect(), case_sensitive: true }
    }

    /// Rows are written as they come.
    pub fn unsorted() -> Self {
        Self::new([])
    }

    /// Whether names of columns match by case.
    pub fn case_sensitive(mut self, case_sensitive: bool) -> Self {
        self.case_sensitive = case_sensitive;
        self
    }

    /// Works the order out against `metadata`. An order that the table has already is used again.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) that names the column, when it is missing, given twice, or of a type
    /// that the transform does not take.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let fields = fields(metadata.current_schema(), &self.terms, self.case_sensitive)?;
        let current = metadata.default_sort_order();
        if current.fields == fields {
            return Ok(MetadataChange::default());
        }
        let requirements = vec![
            TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id: current.order_id },
            // The columns must still be there.
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
        ];
        let orders = || metadata.sort_orders_iter();
        let known = orders().filter(|order| order.fields == fields).map(|order| order.order_id).min();
        let updates = match known {
            Some(sort_order_id) => vec![TableUpdate::SetDefaultSortOrder { sort_order_id }],
            None => {
                let highest = orders().map(|order| order.order_id).max().unwrap_or(0);
                let order_id = if fields.is_empty() { 0 } else { highest + 1 };
                vec![
                    TableUpdate::AddSortOrder { sort_order: SortOrder { order_id, fields } },
                    TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
                ]
            }
        };
        MetadataChange::checked(metadata, updates, requirements)
    }
}

/// A sort order for a new table.
///
/// # Errors
/// As [`SortOrderUpdate::apply`].
pub fn sort_order(schema: &Schema, terms: impl IntoIterator<Item = SortTerm>) -> Result<SortOrder> {
    let fields = fields(schema, &terms.into_iter().collect::<Vec<_>>(), true)?;
    let order_id = i64::from(!fields.is_empty());
    Ok(SortOrder { order_id, fields })
}

fn fields(schema: &Schema, terms: &[SortTerm], case_sensitive: bool) -> Result<Vec<SortField>> {
    let columns = Tree::new(schema.as_struct().fields(), 0, case_sensitive);
    let mut fields: Vec<SortField> = Vec::with_capacity(terms.len());
    for SortTerm { term, direction, nulls } in terms {
        let source_id = resolve(schema, &columns, term)?;
        if fields.iter().any(|field| field.source_id == source_id && field.transform == term.transform) {
            return Err(Error::invalid_input("a sort order names each column and transform once")
                .with("column", &term.column)
                .with("transform", term.transform));
        }
        fields.push(SortField {
            source_id,
            transform: term.transform,
            direction: *direction,
            null_order: *nulls,
        });
    }
    Ok(fields)
}
