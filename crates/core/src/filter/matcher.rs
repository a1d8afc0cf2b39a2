//! Filters against manifests and file entries.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{
    DataContentType, DataFile, Datum, ManifestFile, PrimitiveType, Schema, StructType, TableMetadata, Type,
};

use super::facts::Facts;
use super::projection::PartitionColumn;
use super::{Filter, Test};
use crate::error::{Error, Result};
use crate::format::{WantedStatistics, foreign_kind};

/// Tells, from metadata alone, which manifests and files can hold rows that match a filter, and of which files every row
/// does. Reads nothing; one serves any number of files of one table.
///
/// NULL and NaN are exact: a comparison with NULL is unknown, under NOT as well. What metadata leaves open (no statistics, a
/// bound of another type, a transform that is not known) never excludes a file.
#[derive(Debug, Clone)]
pub struct FileMatcher {
    root: Node,
    /// Of each partition spec, its fields over columns that the filter tests.
    specs: HashMap<i32, Vec<PartitionColumn>>,
}

/// A filter without NOT.
#[derive(Debug, Clone)]
enum Node {
    True,
    False,
    And(Vec<Node>),
    Or(Vec<Node>),
    Test(Column, Test),
}

#[derive(Debug, Clone)]
struct Column {
    id: i32,
    /// Nothing of a struct, list or map, and of what is inside a list or map.
    of: Option<PrimitiveType>,
}

/// What a filter is held against.
#[derive(Clone, Copy)]
enum Rows<'a> {
    File { file: &'a DataFile, columns: &'a [PartitionColumn], metrics: bool },
    Manifest { manifest: &'a ManifestFile, columns: &'a [PartitionColumn] },
}

impl FileMatcher {
    /// A matcher for a filter on a table; its schemas and partition specs, old ones too, are taken from the metadata.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the filter names a column that no schema of the table has, or
    /// compares it with a value of another type.
    pub fn new(filter: &Filter, metadata: &TableMetadata) -> Result<Self> {
        let columns = Columns::new(metadata);
        let root = columns.node(filter, false)?;
        let mut tested = HashSet::new();
        root.collect(&mut tested);
        let specs = metadata
            .partition_specs_iter()
            .map(|spec| {
                let fields =
                    spec.fields().iter().enumerate().filter(|(_, field)| tested.contains(&field.source_id));
                let fields = fields.filter_map(|(index, field)| {
                    let source = columns.types.get(&field.source_id)?.as_ref()?;
                    // A date that became a timestamp hashes and truncates to other values than before.
                    if columns.retyped.contains_key(&field.source_id) {
                        return None;
                    }
                    let result = field.transform.result_type(&Type::Primitive(source.clone())).ok()?;
                    Some(PartitionColumn {
                        index,
                        source_id: field.source_id,
                        source: source.clone(),
                        transform: field.transform,
                        result: result.as_primitive_type()?.clone(),
                    })
                });
                (spec.spec_id(), fields.collect())
            })
            .collect();
        Ok(Self { root, specs })
    }

    /// The statistics of files that it asks for.
    pub(crate) fn statistics(&self) -> WantedStatistics {
        let mut tested = HashSet::new();
        self.root.collect(&mut tested);
        WantedStatistics::of(tested)
    }

    /// Whether a file of the manifest may hold a matching row: false only if none can.
    pub fn might_match_manifest(&self, manifest: &ManifestFile) -> bool {
        self.root.might_match(Rows::Manifest { manifest, columns: self.columns(manifest.partition_spec_id) })
    }

    /// Whether the file may hold a matching row: false only if none can. Of a delete file only the partition counts: false
    /// only if it can't delete a matching row.
    pub fn might_match(&self, spec_id: i32, file: &DataFile) -> bool {
        let is_data = file.content_type() == DataContentType::Data;
        if is_data && file.record_count() == 0 {
            return false;
        }
        self.root.might_match(Rows::File { file, columns: self.columns(spec_id), metrics: is_data })
    }

    /// Whether every row of the file matches: true only if so. Of a delete file only the partition counts.
    pub fn all_match(&self, spec_id: i32, file: &DataFile) -> bool {
        let metrics = file.content_type() == DataContentType::Data;
        self.root.all_match(Rows::File { file, columns: self.columns(spec_id), metrics })
    }

    /// What the file's partition value alone says: `Some(true)` when all rows that such a partition can have match,
    /// `Some(false)` when none does, `None` when the rows decide.
    pub fn partition_decides(&self, spec_id: i32, file: &DataFile) -> Option<bool> {
        let rows = Rows::File { file, columns: self.columns(spec_id), metrics: false };
        if self.root.all_match(rows) {
            Some(true)
        } else if !self.root.might_match(rows) {
            Some(false)
        } else {
            None
        }
    }

    fn columns(&self, spec_id: i32) -> &[PartitionColumn] {
        self.specs.get(&spec_id).map_or(&[], Vec::as_slice)
    }
}

impl Node {
    fn collect(&self, into: &mut HashSet<i32>) {
        match self {
            Self::True | Self::False => {}
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.collect(into)),
            Self::Test(column, _) => {
                into.insert(column.id);
            }
        }
    }

    fn might_match(&self, rows: Rows<'_>) -> bool {
        match self {
            Self::True => true,
            Self::False => false,
            Self::And(nodes) => nodes.iter().all(|node| node.might_match(rows)),
            Self::Or(nodes) => nodes.iter().any(|node| node.might_match(rows)),
            Self::Test(Column { id, of: Some(of) }, test) => {
                rows.facts(*id, of).iter().all(|facts| facts.might_match(test, of))
            }
            Self::Test(_, _) => true,
        }
    }

    fn all_match(&self, rows: Rows<'_>) -> bool {
        match self {
            Self::True => true,
            Self::False => false,
            Self::And(nodes) => nodes.iter().all(|node| node.all_match(rows)),
            Self::Or(nodes) => nodes.iter().any(|node| node.all_match(rows)),
            Self::Test(Column { id, of: Some(of) }, test) => {
                rows.facts(*id, of).iter().any(|facts| facts.all_match(test, of))
            }
            Self::Test(_, _) => false,
        }
    }
}

impl<'a> Rows<'a> {
    /// Everything that is known of a column; each is true by itself.
    fn facts(self, id: i32, of: &PrimitiveType) -> Vec<Facts<'a>> {
        let mut facts = Vec::new();
        let of_column =
            |columns: &'a [PartitionColumn]| columns.iter().filter(move |column| column.source_id == id);
        match self {
            Self::File { file, columns, metrics } => {
                if metrics {
                    facts.push(Facts::of_file(file, id, of));
                }
                let values = file.partition().fields();
                facts
                    .extend(of_column(columns).map(|column| column.facts_of_value(values.get(column.index))));
            }
            Self::Manifest { manifest, columns } => {
                let summaries = manifest.partitions.as_deref().unwrap_or_default();
                facts.extend(
                    of_column(columns)
                        .filter_map(|column| Some(column.facts_of_summary(summaries.get(column.index)?))),
                );
            }
        }
        facts
    }
}

/// The columns of all schemas of a table. Those that are gone are still in old files and specs.
struct Columns {
    types: HashMap<i32, Option<PrimitiveType>>,
    /// Columns whose values of before are not of the type of now, but converted to it, and the types that they were of.
    retyped: HashMap<i32, Vec<PrimitiveType>>,
}

impl Columns {
    fn new(metadata: &TableMetadata) -> Self {
        let mut types: HashMap<i32, Option<PrimitiveType>> = HashMap::new();
        let mut retyped: HashMap<i32, Vec<PrimitiveType>> = HashMap::new();
        let mut schemas: Vec<&Schema> = metadata.schemas_iter().map(AsRef::as_ref).collect();
        // The newest schema's type of a column is its widest.
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        for schema in std::iter::once(metadata.current_schema().as_ref()).chain(schemas) {
            let mut found = HashMap::new();
            for id in schema.field_id_to_fields().keys() {
                found.insert(*id, None);
            }
            outside_of_lists(schema.as_struct(), &mut found);
            for (id, of) in found {
                let newest = types.entry(id).or_insert_with(|| of.clone());
                if let (Some(newest), Some(of)) = (newest, of)
                    && !kin(newest, &of)
                {
                    retyped.entry(id).or_default().push(of);
                }
            }
        }
        Self { types, retyped }
    }

    fn node(&self, filter: &Filter, negated: bool) -> Result<Node> {
        let all = |filters: &[Filter]| -> Result<Vec<Node>> {
            filters.iter().map(|filter| self.node(filter, negated)).collect()
        };
        Ok(match (filter, negated) {
            (Filter::True, false) | (Filter::False, true) => Node::True,
            (Filter::False, false) | (Filter::True, true) => Node::False,
            (Filter::And(filters), false) | (Filter::Or(filters), true) => Node::And(all(filters)?),
            (Filter::Or(filters), false) | (Filter::And(filters), true) => Node::Or(all(filters)?),
            (Filter::Not(filter), negated) => self.node(filter, !negated)?,
            (Filter::Test(id, test), negated) => {
                let column = self.column(*id, test)?;
                Node::Test(column, if negated { opposite(test) } else { test.clone() })
            }
        })
    }

    fn column(&self, id: i32, test: &Test) -> Result<Column> {
        let of = self.types.get(&id).ok_or_else(|| {
            Error::invalid_input(
                "the filter names a column that the table has never had; use a field id of its schemas",
            )
            .with("field id", id)
        })?;
        if let Some(of) = of {
            let wrong = |found: &dyn std::fmt::Display| {
                Error::invalid_input("the filter compares a column with a value of another type; cast the value to the column's")
                    .with("field id", id)
                    .with("column type", of)
                    .with("value type", found)
            };
            let earlier = self.retyped.get(&id).map_or(&[][..], Vec::as_slice);
            for value in values_of(test) {
                if kin(of, value.data_type()) {
                    continue;
                }
                // In an earlier snapshot's type it says something of the rows, but nothing that bounds of now compare with.
                return match earlier.iter().any(|of| kin(of, value.data_type())) {
                    true => Ok(Column { id, of: None }),
                    false => Err(wrong(value.data_type())),
                };
            }
            if matches!(test, Test::StartsWith(_) | Test::NotStartsWith(_)) && *of != PrimitiveType::String {
                return Err(wrong(&PrimitiveType::String));
            }
        }
        Ok(Column { id, of: of.clone() })
    }
}

fn outside_of_lists(fields: &StructType, into: &mut HashMap<i32, Option<PrimitiveType>>) {
    for field in fields.fields() {
        match field.field_type.as_ref() {
            Type::Primitive(of) => {
                // Bounds of types that `iceberg` does not know tell nothing.
                into.insert(field.id, foreign_kind(of).is_none().then(|| of.clone()));
            }
            Type::Struct(inner) => outside_of_lists(inner, into),
            Type::List(_) | Type::Map(_) => {}
        }
    }
}

fn values_of(test: &Test) -> &[Datum] {
    match test {
        Test::Eq(value)
        | Test::NotEq(value)
        | Test::Lt(value)
        | Test::LtEq(value)
        | Test::Gt(value)
        | Test::GtEq(value) => std::slice::from_ref(value),
        Test::In(values) | Test::NotIn(values) => values,
        _ => &[],
    }
}

/// Whether values of two types are the same ones, of one type or of one that was widened.
fn kin(a: &PrimitiveType, b: &PrimitiveType) -> bool {
    use PrimitiveType as T;
    match (a, b) {
        (T::Int | T::Long, T::Int | T::Long) | (T::Float | T::Double, T::Float | T::Double) => true,
        (T::Decimal { .. }, T::Decimal { .. }) | (T::Fixed(_) | T::Binary, T::Fixed(_) | T::Binary) => true,
        (a, b) => a == b,
    }
}

/// The test that is true where this one is false, and unknown where it is.
fn opposite(test: &Test) -> Test {
    match test.clone() {
        Test::IsNull => Test::NotNull,
        Test::NotNull => Test::IsNull,
        Test::IsNan => Test::NotNan,
        Test::NotNan => Test::IsNan,
        Test::Eq(value) => Test::NotEq(value),
        Test::NotEq(value) => Test::Eq(value),
        Test::Lt(value) => Test::GtEq(value),
        Test::LtEq(value) => Test::Gt(value),
        Test::Gt(value) => Test::LtEq(value),
        Test::GtEq(value) => Test::Lt(value),
        Test::In(values) => Test::NotIn(values),
        Test::NotIn(values) => Test::In(values),
        Test::StartsWith(start) => Test::NotStartsWith(start),
        Test::NotStartsWith(start) => Test::StartsWith(start),
    }
}

#[cfg(test)]
mod tests;
