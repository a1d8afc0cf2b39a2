//! The column `partition`.

use iceberg::spec::Struct;
use icefield_core::Result;

use super::columns::{Column, Columns};
use crate::scan::PartitionFields;

/// The column, of what tells a row's spec and partition.
pub(super) fn column<R: Send + Sync + 'static>(
    fields: &PartitionFields,
    partition: impl for<'a> Fn(&'a R) -> (i32, &'a Struct) + Clone + Send + Sync + 'static,
) -> Result<Column<R>> {
    let fields = fields.iter().cloned().map(|field| {
        let partition = partition.clone();
        let data_type = field.arrow()?.data_type().clone();
        let name = field.name().to_string();
        Ok(Column::scalar(&name, data_type, move |row| {
            let (spec_id, values) = partition(row);
            field.value(spec_id, values)
        }))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(Column::nested("partition", Columns::from(fields)).required())
}
