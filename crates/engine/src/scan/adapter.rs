//! Expressions over a table's columns as expressions over a file's.
//!
//! DataFusion's Parquet source asks for this once a file's schema is known, for the projection, the filters and the
//! dynamic filters alike, and prunes row groups and pages with the result. So a renamed column is a plain column of
//! another name, a promoted one a cast (which DataFusion turns into a cast of the literal, so that only one that keeps all
//! values apart may be one), and an absent one a constant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, SchemaRef};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, IsNotNullExpr, Literal,
};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use iceberg::spec::MappedField;
use icefield_core::Error;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::hidden::Hidden;
use super::hidden_columns::KEY_PREFIX;
use super::metadata_columns::{Constants, FIRST_ROW_ID, LAST_UPDATED_ID, ROW_ID};
use super::positions::{POS_COLUMN, POS_ID};
use super::reshape::{Reading, Reshaped, Shape, constant, plan};
use super::schema::{ReadSchema, field_id, require_carried};
use crate::error::to_datafusion;
use crate::rules::keeps_all;

/// The key in a file's schema metadata under which the reader leaves the file's location, for errors.
pub(super) const FILE_KEY: &str = "icefield.file";

/// Makes an adapter for each file of a scan.
#[derive(Debug)]
pub(super) struct FieldIdAdapterFactory {
    schema: Arc<ReadSchema>,
    constants: Constants,
    nans: Nans,
}

/// The ids of the floating-point columns that may hold NaN, by the location of the file.
pub(super) type Nans = HashMap<String, Vec<i32>>;

impl FieldIdAdapterFactory {
    pub(super) fn new(schema: Arc<ReadSchema>, constants: Constants, nans: Nans) -> Self {
        Self { schema, constants, nans }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let file = || physical.metadata().get(FILE_KEY).cloned().unwrap_or_default();
        // Of a file without ids a copy that has them, so that the rest knows one kind of file.
        let own = physical.fields().iter().filter(|field| field.name() != POS_COLUMN);
        let own_ids = has_ids(&own.cloned().collect());
        let identified = if own_ids {
            physical.clone()
        } else {
            match &self.schema.mapping {
                Some(mapping) => {
                    let fields = mapped(physical.fields(), &mapping.fields().iter().collect::<Vec<_>>());
                    Arc::new(ArrowSchema::new(fields))
                }
                None if physical.fields().iter().all(|field| field.name() == POS_COLUMN) => physical.clone(),
                None => {
                    return Err(to_datafusion(
                        Error::data_invalid(
                            "the file has no field ids and the table no name mapping; set schema.name-mapping.default",
                        )
                        .with("file", file()),
                    ));
                }
            }
        };
        let by_id = identified
            .fields()
            .iter()
            .enumerate()
            .filter_map(|(index, field)| Some((field_id(field)?, index)))
            .collect();
        let may_be_nan = match self.nans.is_empty() {
            true => HashSet::new(),
            false => self.nans.get(&file()).into_iter().flatten().copied().collect(),
        };
        let schema = self.schema.clone();
        let constants = match self.constants.is_empty() {
            true => HashMap::new(),
            false => self.constants.get(&file()).cloned().unwrap_or_default(),
        };
        Ok(Arc::new(FieldIdAdapter {
            schema,
            constants,
            logical,
            physical,
            identified,
            own_ids,
            by_id,
            may_be_nan,
        }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    schema: Arc<ReadSchema>,
    constants: HashMap<i32, ScalarValue>,
    logical: SchemaRef,
    physical: SchemaRef,
    /// The physical schema with field ids, given by the name mapping where the file has none.
    identified: SchemaRef,
    /// Whether the ids are the file's own.
    own_ids: bool,
    by_id: HashMap<i32, usize>,
    may_be_nan: HashSet<i32>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        // A column that is only produced, or compared in a way in which NaN does not matter, stays plain.
        if expr.is::<Column>() || self.may_be_nan.is_empty() {
            return self.rewrite_columns(expr, false);
        }
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, op, right) = (binary.left(), *binary.op(), binary.right());
            if matches!(op, Operator::And | Operator::Or) {
                let (left, right) = (self.rewrite(left.clone())?, self.rewrite(right.clone())?);
                return Ok(Arc::new(BinaryExpr::new(left, op, right)));
            }
            if ignores_nan(left, op, right) || op.swap().is_some_and(|op| ignores_nan(right, op, left)) {
                return self.rewrite_columns(expr, false);
            }
        }
        self.rewrite_columns(expr, true)
    }
}

/// Whether a comparison is false of NaN, as the statistics that it is pruned by suppose: those of a Parquet file leave NaN
/// out, while DataFusion has it equal to itself and above every number.
fn ignores_nan(column: &Arc<dyn PhysicalExpr>, op: Operator, value: &Arc<dyn PhysicalExpr>) -> bool {
    let is_number = value.downcast_ref::<Literal>().is_some_and(|literal| match literal.value() {
        ScalarValue::Float32(Some(v)) => !v.is_nan(),
        ScalarValue::Float64(Some(v)) => !v.is_nan(),
        ScalarValue::Float32(None) | ScalarValue::Float64(None) => false,
        _ => true,
    });
    column.is::<Column>() && is_number && matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq)
}

impl FieldIdAdapter {
    fn rewrite_columns(&self, expr: Arc<dyn PhysicalExpr>, hide: bool) -> Result<Arc<dyn PhysicalExpr>> {
        let rewritten = expr.transform_up(|expr| match expr.downcast_ref::<Column>() {
            Some(column) => {
                let found = self.column(column)?;
                let id = self.logical.field_with_name(column.name()).ok().and_then(field_id);
                let hidden = hide && id.is_some_and(|id| self.may_be_nan.contains(&id));
                Ok(Transformed::yes(if hidden && !found.is::<Literal>() {
                    Hidden::around(found)
                } else {
                    found
                }))
            }
            None => Ok(Transformed::no(expr)),
        })?;
        Ok(rewritten.data)
    }

    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let to = self.logical.field_with_name(column.name())?;
        let id = field_id(to);
        if let Some(id @ (ROW_ID | LAST_UPDATED_ID)) = id {
            return self.lineage(to, id);
        }
        if let Some(value) = id.and_then(|id| self.constants.get(&id)) {
            return Ok(Arc::new(Literal::new_with_metadata(value.clone(), Some(FieldMetadata::from(to)))));
        }
        if to.data_type().is_null() {
            // Of type unknown, or of one that can't be carried.
            require_carried(to).map_err(to_datafusion)?;
            return Ok(Arc::new(Literal::new_with_metadata(
                ScalarValue::Null,
                Some(FieldMetadata::from(to)),
            )));
        }
        let Some(&index) = id.and_then(|id| self.by_id.get(&id)) else {
            let value = constant(to, id, &self.schema.defaults).map_err(|e| self.about(to, e))?;
            return Ok(Arc::new(Literal::new_with_metadata(value, Some(FieldMetadata::from(to)))));
        };
        let (Some(physical), Some(from)) =
            (self.physical.fields().get(index), self.identified.fields().get(index))
        else {
            return exec_err!("a column of the file is out of place");
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(physical.name(), index));
        if physical.data_type() == to.data_type() {
            return Ok(column);
        }
        // Keys of deletes are optional at every level.
        let schema = Some(self.schema.iceberg.as_ref()).filter(|_| !to.name().starts_with(KEY_PREFIX));
        let reading = Reading { defaults: &self.schema.defaults, schema, own_ids: self.own_ids };
        let shape = plan(from, to, reading).map_err(|e| self.about(to, e))?;
        let target = Arc::new(to.clone());
        Ok(match shape {
            Shape::Same => column,
            Shape::Cast(_) if keeps_all(physical.data_type(), to.data_type()) => {
                Arc::new(CastExpr::new_with_target_field(column, target, None))
            }
            shape => Arc::new(Reshaped::new(column, shape, target)),
        })
    }

    /// A row's own value where its file has one, else what it inherits from the file.
    fn lineage(&self, to: &Field, id: i32) -> Result<Arc<dyn PhysicalExpr>> {
        let column = |id: i32| {
            let index = *self.by_id.get(&id)?;
            let name = self.physical.fields().get(index)?.name();
            Some(Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>)
        };
        let constant = |id: i32| self.constants.get(&id).cloned().unwrap_or(ScalarValue::Int64(None));
        let inherited: Arc<dyn PhysicalExpr> = match (constant(FIRST_ROW_ID), column(POS_ID)) {
            (ScalarValue::Int64(Some(first)), Some(position)) if id == ROW_ID => {
                let first = Arc::new(Literal::new(ScalarValue::Int64(Some(first))));
                Arc::new(BinaryExpr::new(first, Operator::Plus, position))
            }
            _ if id == LAST_UPDATED_ID => {
                Arc::new(Literal::new_with_metadata(constant(id), Some(FieldMetadata::from(to))))
            }
            _ => Arc::new(Literal::new(ScalarValue::Int64(None))),
        };
        let Some(own) = column(id) else { return Ok(inherited) };
        let has_one = Arc::new(IsNotNullExpr::new(own.clone()));
        Ok(Arc::new(CaseExpr::try_new(None, vec![(has_one, own)], Some(inherited))?))
    }

    fn about(&self, column: &Field, error: DataFusionError) -> DataFusionError {
        let file = self.physical.metadata().get(FILE_KEY).map(String::as_str).unwrap_or_default();
        to_datafusion(
            Error::data_invalid(format!(
                "the file can't be read in the table's schema: {}",
                error.strip_backtrace()
            ))
            .with("column", column.name())
            .with("file", file),
        )
    }
}

fn has_ids(fields: &Fields) -> bool {
    fields.iter().any(|field| {
        field_id(field).is_some()
            || match field.data_type() {
                DataType::Struct(fields) => has_ids(fields),
                DataType::List(element) => has_ids(&Fields::from(vec![element.clone()])),
                DataType::Map(entries, _) => has_ids(&Fields::from(vec![entries.clone()])),
                _ => false,
            }
    })
}

/// Fields with the ids that a name mapping gives them. Those that it does not name stay without.
fn mapped(fields: &Fields, mapping: &[&MappedField]) -> Fields {
    fields.iter().map(|field| Arc::new(mapped_field(field, field.name(), mapping))).collect()
}

fn mapped_field(field: &Field, name: &str, mapping: &[&MappedField]) -> Field {
    let Some(entry) = mapping.iter().find(|entry| entry.names().iter().any(|n| n == name)) else {
        return field.clone();
    };
    let inner: Vec<&MappedField> = entry.fields().iter().map(AsRef::as_ref).collect();
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(mapped(fields, &inner)),
        DataType::List(element) => DataType::List(Arc::new(mapped_field(element, "element", &inner))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let fields = Fields::from(vec![
                    mapped_field(&fields[0], "key", &inner),
                    mapped_field(&fields[1], "value", &inner),
                ]);
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    let field = field.clone().with_data_type(data_type);
    match entry.field_id() {
        Some(id) => {
            field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]))
        }
        None => field,
    }
}
