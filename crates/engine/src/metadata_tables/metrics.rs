//! The column `readable_metrics`: for each primitive column of the table, nested ones too, what a file's metrics say of it.
//! Bounds of types that only the format knows (variants, geometries) are no values of theirs: such columns are left out, and so
//! are those of types that can't be carried.

use std::collections::HashMap;

use iceberg::spec::{DataFile, Datum, NestedFieldRef, PrimitiveType, Type};
use icefield_core::format::{arrow_field, foreign_kind};
use icefield_core::{Result, Table};

use super::columns::{Column, Columns};
use crate::scan::scalar;

/// The column, of what tells a row's file. `None` for a table without columns.
pub(super) fn readable<R: Send + Sync + 'static>(
    table: &Table,
    file: impl for<'a> Fn(&'a R) -> &'a DataFile + Copy + Send + Sync + 'static,
) -> Result<Option<Column<R>>> {
    let schema = table.schema();
    let mut leaves = Vec::new();
    collect(schema.as_struct().fields(), &mut leaves);
    let mut named: Vec<(&str, &NestedFieldRef, &PrimitiveType)> = leaves
        .into_iter()
        .filter_map(|(field, of)| Some((schema.name_by_field_id(field.id)?, field, of)))
        .collect();
    named.sort_by_key(|(name, ..)| *name);
    if named.is_empty() {
        return Ok(None);
    }
    let columns = named.into_iter().map(|(name, field, of)| {
        let (id, data_type) = (field.id, arrow_field(field)?.data_type().clone());
        let count = move |name: &str, counts: fn(&DataFile) -> &HashMap<i32, u64>| {
            Column::long(name, move |row: &R| counts(file(row)).get(&id).map(|count| *count as i64))
        };
        let bound = |name: &str, bounds: fn(&DataFile) -> &HashMap<i32, Datum>| {
            let of = of.clone();
            Column::scalar(name, data_type.clone(), move |row: &R| {
                // A bound that is not of the column's type says nothing that could be read.
                Ok(bounds(file(row)).get(&id).and_then(|bound| scalar(&of, bound.literal()).ok()))
            })
        };
        let metrics = vec![
            count("column_size", DataFile::column_sizes),
            count("value_count", DataFile::value_counts),
            count("null_value_count", DataFile::null_value_counts),
            count("nan_value_count", DataFile::nan_value_counts),
            bound("lower_bound", DataFile::lower_bounds),
            bound("upper_bound", DataFile::upper_bounds),
        ];
        Ok(Column::nested(name, Columns::from(metrics)))
    });
    Ok(Some(Column::nested("readable_metrics", Columns::from(columns.collect::<Result<Vec<_>>>()?))))
}

fn collect<'a>(fields: &'a [NestedFieldRef], into: &mut Vec<(&'a NestedFieldRef, &'a PrimitiveType)>) {
    for field in fields {
        match field.field_type.as_ref() {
            Type::Primitive(of) if foreign_kind(of).is_some() || arrow_field(field).is_err() => {}
            Type::Primitive(of) => into.push((field, of)),
            Type::Struct(inner) => collect(inner.fields(), into),
            Type::List(list) => collect(std::slice::from_ref(&list.element_field), into),
            Type::Map(map) => {
                collect(std::slice::from_ref(&map.key_field), into);
                collect(std::slice::from_ref(&map.value_field), into);
            }
        }
    }
}
