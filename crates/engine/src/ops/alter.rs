//! Changes of schema, partition spec, sort order, properties and format.

use std::future::IntoFuture;

use futures::future::BoxFuture;
use iceberg::spec::{Literal, Type};
use icefield_core::Result;
use icefield_core::commit::Transaction;
use icefield_core::evolve::{
    FormatUpgrade, MetadataEdit, NewColumn, PartitionTerm, PartitionUpdate, PropertiesUpdate, SchemaUpdate,
    SortOrderUpdate, SortTerm, Term, apply_all,
};
use icefield_core::format::parse_format_version;

use crate::table::Table;

/// Several changes of a table's metadata, committed as one. Edits apply in order, each to what those before it leave, and
/// again after a lost race.
#[must_use = "nothing happens before .await"]
#[derive(Debug, Clone)]
pub struct Alter {
    table: Table,
    edits: Vec<MetadataEdit>,
}

impl Alter {
    /// Adds a change: a [`SchemaUpdate`], [`PartitionUpdate`], [`SortOrderUpdate`], [`PropertiesUpdate`], [`FormatUpgrade`], ...
    pub fn edit(mut self, edit: impl Into<MetadataEdit>) -> Self {
        self.edits.push(edit.into());
        self
    }
}

impl IntoFuture for Alter {
    type Output = Result<Table>;
    type IntoFuture = BoxFuture<'static, Result<Table>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { table, edits } = self;
        Box::pin(async move {
            let change = move |metadata: &iceberg::spec::TableMetadata| apply_all(metadata, &edits);
            table.commit(Transaction::new(table.core()).change(change)).await
        })
    }
}

impl Table {
    /// Changes several things of the table in one commit.
    pub fn alter(&self) -> Alter {
        Alter { table: self.clone(), edits: Vec::new() }
    }

    /// Changes columns: `table.update_schema().rename_column("price", "nightly_price").await`.
    pub fn update_schema(&self) -> UpdateSchema {
        UpdateSchema { table: self.clone(), edit: SchemaUpdate::new() }
    }

    /// Changes the partition spec. Files of earlier specs stay as they are.
    pub fn update_spec(&self) -> UpdateSpec {
        UpdateSpec { table: self.clone(), edit: PartitionUpdate::new() }
    }

    /// Replaces the sort order, for files that are written from now on; no terms make the table unsorted.
    pub async fn update_sort_order(&self, terms: impl IntoIterator<Item = SortTerm>) -> Result<Self> {
        self.alter().edit(SortOrderUpdate::new(terms)).await
    }

    /// Sets table properties.
    pub async fn set_properties<N: Into<String>, V: Into<String>>(
        &self,
        properties: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        self.alter().edit(PropertiesUpdate::new().set_all(properties)).await
    }

    /// Removes table properties.
    pub async fn remove_properties(
        &self,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let edit = names.into_iter().fold(PropertiesUpdate::new(), |edit, name| edit.remove(name));
        self.alter().edit(edit).await
    }

    /// Upgrades the table's format to version 2 or 3. There is no way back.
    pub async fn upgrade_format_version(&self, version: u8) -> Result<Self> {
        self.alter().edit(FormatUpgrade::to(parse_format_version(&version.to_string())?)).await
    }
}

macro_rules! edit_builder {
    (
        $(#[$doc:meta])* $builder:ident($edit:ty) {
            $($(#[$method_doc:meta])* $method:ident($($argument:ident: $of:ty),*);)*
        }
    ) => {
        $(#[$doc])*
        #[must_use = "nothing happens before .await"]
        #[derive(Debug, Clone)]
        pub struct $builder {
            table: Table,
            edit: $edit,
        }

        impl $builder {
            $($(#[$method_doc])*
            pub fn $method(mut self, $($argument: $of),*) -> Self {
                self.edit = self.edit.$method($($argument),*);
                self
            })*
        }

        impl IntoFuture for $builder {
            type Output = Result<Table>;
            type IntoFuture = BoxFuture<'static, Result<Table>>;

            fn into_future(self) -> Self::IntoFuture {
                self.table.alter().edit(self.edit).into_future()
            }
        }
    };
}

edit_builder! {
    /// Changes of columns, nested ones by their path (`address.city`), committed as one. See [`SchemaUpdate`].
    UpdateSchema(SchemaUpdate) {
        /// Adds an optional column at the end.
        add_column(path: impl Into<String>, column_type: Type);
        /// Adds a column with position, comment or default.
        add_column_with(column: NewColumn);
        /// Drops a column. Its data stay in the files, unread.
        drop_column(column: impl Into<String>);
        /// Renames a column. Files are read by field id, so nothing is rewritten.
        rename_column(column: impl Into<String>, to: impl Into<String>);
        /// Makes a column the first.
        move_first(column: impl Into<String>);
        /// Puts a column before another of the same struct.
        move_before(column: impl Into<String>, other: impl Into<String>);
        /// Puts a column after another of the same struct.
        move_after(column: impl Into<String>, other: impl Into<String>);
        /// Widens a column's type: int to long, float to double, a wider decimal.
        promote_column(column: impl Into<String>, to: Type);
        /// Allows NULL.
        make_optional(column: impl Into<String>);
        /// Forbids NULL: an incompatible change, unless this update adds the column with a default.
        require_column(column: impl Into<String>);
        /// Sets a comment.
        set_doc(column: impl Into<String>, doc: impl Into<String>);
        /// Removes a comment.
        remove_doc(column: impl Into<String>);
        /// Sets the value of rows written without this column (format version 3).
        set_write_default(column: impl Into<String>, value: Literal);
        /// Lets rows written without this column have NULL again.
        remove_write_default(column: impl Into<String>);
        /// Sets the columns that identify a row.
        set_identifier_fields(columns: impl IntoIterator<Item = impl Into<String>>);
        /// Adds the columns of another schema that are missing, by name, and widens types.
        union_by_name(schema: impl Into<std::sync::Arc<iceberg::spec::Schema>>);
        /// As `union_by_name`, and columns that are optional in the other schema become optional.
        union_by_name_relaxing(schema: impl Into<std::sync::Arc<iceberg::spec::Schema>>);
        /// Whether names are matched with their case (the default) or without.
        case_sensitive(case_sensitive: bool);
        /// Allows changes that rows which are there may not fit, such as requiring a column.
        allow_incompatible();
    }
}

edit_builder! {
    /// Changes of the partition spec, committed as one. See [`PartitionUpdate`].
    UpdateSpec(PartitionUpdate) {
        /// Adds a partition field: `add_field(month("date"))`.
        add_field(term: impl Into<PartitionTerm>);
        /// Removes a partition field by its name.
        remove_field(name: impl Into<String>);
        /// Removes the partition field of a term.
        remove(term: impl Into<Term>);
        /// Renames a partition field.
        rename_field(field: impl Into<String>, to: impl Into<String>);
        /// Removes all partition fields.
        clear();
    }
}
