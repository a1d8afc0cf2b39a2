//! Equality deletes: which keys are deleted up to which sequence number.
//!
//! Delete files of the same columns and scope (a partition, or the whole table) make one **group**. A group is a map from
//! key to the greatest sequence number at which it was deleted; a row goes when its file's is smaller. Data files that are
//! subject to the same groups and have the same sequence number make one **class**, and a hidden column of the scan tells
//! each row's class.
//!
//! Keys are compared as Iceberg Java does: NULL equals NULL, NaN equals NaN, and -0.0 differs from 0.0.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch, StructArray};
use arrow::compute::unary;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema as ArrowSchema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::HashMap as FastMap;
use futures::TryStreamExt;
use iceberg::spec::{NestedField, NestedFieldRef, Schema, Struct, StructType, Type};
use icefield_core::format::{LiveFile, arrow_field};
use icefield_core::{Error, Result, Table};
use tokio::sync::OnceCell;

use super::reader::DeleteReader;
use crate::error::from_datafusion;
use crate::scan::hidden_columns::{CLASS_ID, CLASS_NAME, KEY_PREFIX};
use crate::scan::schema::{ReadSchema, collect_defaults};

/// What a key takes in a group's map beside its bytes: pointer, length, sequence number, and the table's own.
const BYTES_PER_KEY: usize = 48;

/// The equality deletes of a scan.
pub(in crate::scan) struct EqualityDeletes {
    reader: Arc<DeleteReader>,
    /// The hidden columns: the key columns, then the class.
    hidden: Vec<Field>,
    groups: Vec<Group>,
    classes: Vec<Class>,
    read: ReadSchema,
}

impl fmt::Debug for EqualityDeletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EqualityDeletes")
            .field("groups", &self.groups.len())
            .field("classes", &self.classes.len())
            .finish_non_exhaustive()
    }
}

/// Data files that the same deletes apply to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Class {
    sequence_number: i64,
    /// Rows with keys of these are left out.
    drop: Vec<usize>,
    /// With some, only rows with keys of these are left.
    pick: Vec<usize>,
}

struct Group {
    /// The key columns, by their place among the hidden ones.
    columns: Vec<usize>,
    files: Vec<LiveFile>,
    keys: OnceCell<Keys>,
}

/// Deleted keys, row-encoded, each with the greatest sequence number of its deletes.
struct Keys {
    converter: RowConverter,
    deleted: FastMap<Box<[u8]>, i64>,
}

/// The columns of a group, the partition that it is of unless it is global, and what it is for.
type Scope = (Vec<i32>, Option<(i32, Struct)>, Role);

/// Whether rows with a group's keys are left out or are those that are left: of one delete file there may be both, of
/// different data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Drop,
    Pick,
}

/// Collects what a scan's data files are subject to.
pub(super) struct Planner<'a> {
    table: &'a Table,
    groups: Vec<(Vec<i32>, Vec<LiveFile>)>,
    by_scope: HashMap<Scope, usize>,
    /// The group of each delete file in each role.
    by_path: HashMap<Role, HashMap<String, usize>>,
    classes: Vec<Class>,
    by_class: HashMap<Class, i32>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self {
            table,
            groups: Vec::new(),
            by_scope: HashMap::new(),
            by_path: HashMap::new(),
            classes: Vec::new(),
            by_class: HashMap::new(),
        }
    }

    /// The class of a data file, of which rows that `drop` deletes are left out and, unless `pick` is empty, only those are
    /// left that it deletes.
    pub(super) fn class(
        &mut self,
        sequence_number: i64,
        drop: &[&LiveFile],
        pick: &[&LiveFile],
    ) -> Result<Option<i32>> {
        if drop.is_empty() && pick.is_empty() {
            return Ok(None);
        }
        let (drop, pick) = (self.groups(drop, Role::Drop), self.groups(pick, Role::Pick));
        let class = Class { sequence_number, drop, pick };
        if let Some(known) = self.by_class.get(&class) {
            return Ok(Some(*known));
        }
        let number = i32::try_from(self.classes.len())
            .map_err(|_| Error::unsupported("the scan has too many kinds of files; compact the table"))?;
        self.classes.push(class.clone());
        self.by_class.insert(class, number);
        Ok(Some(number))
    }

    fn groups(&mut self, deletes: &[&LiveFile], role: Role) -> Vec<usize> {
        let mut groups: Vec<usize> = deletes.iter().map(|delete| self.group(delete, role)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn group(&mut self, delete: &LiveFile, role: Role) -> usize {
        if let Some(known) = self.by_path.get(&role).and_then(|known| known.get(delete.path())) {
            return *known;
        }
        let mut ids = delete.file.equality_ids().unwrap_or_default();
        ids.sort_unstable();
        ids.dedup();
        let spec = self.table.metadata().partition_spec_by_id(delete.spec_id);
        let global = spec.is_some_and(|spec| spec.is_unpartitioned());
        let partition = (!global).then(|| (delete.spec_id, delete.file.partition().clone()));
        let at = *self.by_scope.entry((ids.clone(), partition, role)).or_insert_with(|| {
            self.groups.push((ids, Vec::new()));
            self.groups.len() - 1
        });
        if let Some((_, files)) = self.groups.get_mut(at) {
            files.push(delete.clone());
        }
        self.by_path.entry(role).or_default().insert(delete.path().to_string(), at);
        at
    }

    /// The deletes, if there are any.
    pub(super) fn finish(self, reader: Arc<DeleteReader>) -> Result<Option<EqualityDeletes>> {
        if self.groups.is_empty() {
            return Ok(None);
        }
        let mut ids: Vec<i32> = self.groups.iter().flat_map(|(ids, _)| ids).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut hidden = Vec::with_capacity(ids.len() + 1);
        let mut defaults = HashMap::new();
        for id in &ids {
            let column = key_column(self.table, *id)?;
            collect_defaults(std::slice::from_ref(&column), &mut defaults)?;
            hidden.push(arrow_field(&column)?.with_name(format!("{KEY_PREFIX}{id}")));
        }
        hidden.push(class_field());
        let group = |(columns, files): (Vec<i32>, Vec<LiveFile>)| Group {
            columns: columns.iter().filter_map(|id| ids.binary_search(id).ok()).collect(),
            files,
            keys: OnceCell::new(),
        };
        let read = ReadSchema::new(self.table, self.table.schema(), false)?;
        let read = ReadSchema { defaults, arrow: Arc::new(ArrowSchema::empty()), ..read };
        let groups = self.groups.into_iter().map(group).collect();
        Ok(Some(EqualityDeletes { reader, hidden, groups, classes: self.classes, read }))
    }
}

fn class_field() -> Field {
    let id = HashMap::from([(parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_string(), CLASS_ID.to_string())]);
    Field::new(CLASS_NAME, DataType::Int32, false).with_metadata(id)
}

/// The column that a key is in, in the newest schema that has it: the column itself, or the struct around it, without its
/// other fields.
fn key_column(table: &Table, id: i32) -> Result<NestedFieldRef> {
    let metadata = table.metadata();
    let mut schemas: Vec<&Schema> = metadata.schemas_iter().map(AsRef::as_ref).collect();
    schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut schemas = std::iter::once(metadata.current_schema().as_ref()).chain(schemas);
    schemas.find_map(|schema| reduced(schema.as_struct().fields(), id)).ok_or_else(|| {
        Error::data_invalid(
            "rows are deleted by a column that no schema of the table has any more; compact the table with an engine that can",
        )
        .with("table", table.ident())
        .with("field id", id)
    })
}

/// The field that is or holds `id`, with nothing but that, each level optional.
fn reduced(fields: &[NestedFieldRef], id: i32) -> Option<NestedFieldRef> {
    fields.iter().find_map(|field| {
        let of = match field.field_type.as_ref() {
            of if field.id == id => of.clone(),
            Type::Struct(inner) => Type::Struct(StructType::new(vec![reduced(inner.fields(), id)?])),
            _ => return None,
        };
        let mut column = NestedField::optional(field.id, &field.name, of);
        column.initial_default = field.initial_default.clone();
        column.doc = field.doc.clone(); // which may carry the default
        Some(column.into())
    })
}

impl EqualityDeletes {
    /// A scan's schema with the hidden columns after its own.
    pub(in crate::scan) fn extend(&self, schema: &ReadSchema) -> ReadSchema {
        let own = schema.arrow.fields().iter().map(|field| field.as_ref().clone());
        let arrow = Arc::new(ArrowSchema::new(own.chain(self.hidden.iter().cloned()).collect::<Vec<_>>()));
        let mut defaults = self.read.defaults.clone();
        defaults.extend(schema.defaults.clone());
        let (iceberg, mapping) = (schema.iceberg.clone(), schema.mapping.clone());
        ReadSchema { iceberg, arrow, mapping, defaults }
    }

    /// The number of hidden columns.
    pub(in crate::scan) fn hidden(&self) -> usize {
        self.hidden.len()
    }

    /// Which rows of a batch are left; `None` where all are. `hidden` are the batch's hidden columns, `rows` a run of
    /// rows of one class.
    pub(super) async fn keep(&self, class: i32, hidden: &[ArrayRef]) -> Result<Option<Vec<bool>>> {
        let Some(class) = usize::try_from(class).ok().and_then(|class| self.classes.get(class)) else {
            return Ok(None);
        };
        let mut keep = None;
        if !class.pick.is_empty() {
            let mut picked = vec![false; hidden.first().map_or(0, |column| column.len())];
            self.find(&class.pick, class.sequence_number, hidden, |row| set(&mut picked, row, true)).await?;
            keep = Some(picked);
        }
        self.find(&class.drop, class.sequence_number, hidden, |row| {
            let rows = hidden.first().map_or(0, |column| column.len());
            set(keep.get_or_insert_with(|| vec![true; rows]), row, false);
        })
        .await?;
        Ok(keep)
    }

    /// Hands over the rows, of a file of this sequence number, that groups delete.
    async fn find(
        &self,
        groups: &[usize],
        sequence_number: i64,
        hidden: &[ArrayRef],
        mut found: impl FnMut(usize),
    ) -> Result<()> {
        for group in groups.iter().filter_map(|group| self.groups.get(*group)) {
            let keys = group.keys.get_or_try_init(|| self.load(group)).await?;
            if keys.deleted.is_empty() {
                continue;
            }
            let rows = keys.rows(group.columns.iter().filter_map(|at| hidden.get(*at)))?;
            for (row, key) in rows.iter().enumerate() {
                if keys.deleted.get(key.as_ref()).is_some_and(|until| *until > sequence_number) {
                    found(row);
                }
            }
        }
        Ok(())
    }

    async fn load(&self, group: &Group) -> Result<Keys> {
        let fields = group.columns.iter().filter_map(|at| self.hidden.get(*at)).cloned();
        let schema: SchemaRef = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let sort = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(sort.collect())?;
        let mut keys = Keys { converter, deleted: FastMap::default() };
        let read = Arc::new(ReadSchema {
            iceberg: self.read.iceberg.clone(),
            arrow: schema,
            mapping: self.read.mapping.clone(),
            defaults: self.read.defaults.clone(),
        });
        for file in &group.files {
            let about = |e: Error| e.with("delete file", file.path());
            let mut batches = self.reader.rows(file, &read, None).map_err(about)?;
            while let Some(batch) = batches.try_next().await.map_err(|e| about(from_datafusion(e)))? {
                let bytes = keys.add(&batch, file.sequence_number)?;
                self.reader.reserve(bytes)?;
            }
        }
        Ok(keys)
    }
}

impl Keys {
    /// Adds deletes, and tells how many bytes more they take.
    fn add(&mut self, batch: &RecordBatch, sequence_number: i64) -> Result<usize> {
        let mut bytes = 0;
        for key in self.rows(batch.columns().iter())?.iter() {
            match self.deleted.get_mut(key.as_ref()) {
                Some(until) => *until = sequence_number.max(*until),
                None => {
                    bytes += key.as_ref().len() + BYTES_PER_KEY;
                    self.deleted.insert(key.as_ref().into(), sequence_number);
                }
            }
        }
        Ok(bytes)
    }

    fn rows<'a>(&self, columns: impl Iterator<Item = &'a ArrayRef>) -> Result<Rows> {
        let columns: Vec<ArrayRef> = columns.map(with_one_nan).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }
}

fn set(rows: &mut [bool], row: usize, value: bool) {
    if let Some(of_row) = rows.get_mut(row) {
        *of_row = value;
    }
}

/// The same values, with one NaN for all.
fn with_one_nan(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let one = |v: f32| if v.is_nan() { f32::NAN } else { v };
            let array: Float32Array = unary(array.as_primitive::<Float32Type>(), one);
            Arc::new(array)
        }
        DataType::Float64 => {
            let one = |v: f64| if v.is_nan() { f64::NAN } else { v };
            let array: Float64Array = unary(array.as_primitive::<Float64Type>(), one);
            Arc::new(array)
        }
        DataType::Struct(fields) => {
            let of = array.as_struct();
            let columns = of.columns().iter().map(with_one_nan).collect();
            Arc::new(StructArray::new(fields.clone(), columns, of.nulls().cloned()))
        }
        _ => array.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(columns: Vec<ArrayRef>) -> (Keys, RecordBatch) {
        let names = (0..columns.len()).map(|i| format!("c{i}"));
        let batch = RecordBatch::try_from_iter(names.zip(columns)).unwrap();
        let sort = batch.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
        (Keys { converter: RowConverter::new(sort).unwrap(), deleted: FastMap::default() }, batch)
    }

    fn deletes(keys: &Keys, column: ArrayRef) -> Vec<bool> {
        keys.rows([&column].into_iter())
            .unwrap()
            .iter()
            .map(|key| keys.deleted.contains_key(key.as_ref()))
            .collect()
    }

    #[test]
    fn nan_equals_nan_and_zeros_differ_as_in_java() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
        let (mut keys, batch) =
            keys(vec![Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.0), None]))]);
        keys.add(&batch, 1).unwrap();
        let rows = vec![Some(other_nan), Some(-f64::NAN), Some(-0.0), Some(0.0), None, Some(1.0)];
        let found = deletes(&keys, Arc::new(Float64Array::from(rows)));
        assert_eq!(found, [true, true, false, true, true, false]);
    }

    #[test]
    fn a_key_deleted_twice_takes_memory_once_and_keeps_the_later_number() {
        let column: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![7, 7]));
        let (mut keys, batch) = keys(vec![column]);
        assert!(keys.add(&batch, 5).unwrap() > 0);
        assert_eq!(keys.add(&batch, 3).unwrap(), 0);
        assert_eq!(keys.deleted.values().copied().collect::<Vec<_>>(), [5]);
    }
}
