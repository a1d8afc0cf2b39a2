//! Transforms: named, typed units of work whose plan is checked before any data is read.
//!
//! A [`Transform`] says which columns it needs of each input, builds a DataFrame of them and says what comes out. It knows
//! of no scheduler, session or table: [`Transform::plan`] takes any DataFrames, such as batches in a test. A [`Pipeline`]
//! connects several by the names of their inputs and outputs, with the session's tables for the names that nothing makes.

mod cached;
mod pipeline;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, SchemaError, plan_datafusion_err};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::ident;
use icefield_core::{Error, Result};

pub(crate) use cached::Cached;
pub use pipeline::Pipeline;

type Build = dyn Fn(&Frames) -> DfResult<DataFrame> + Send + Sync;

/// A column that a transform needs or makes. It may hold NULLs.
pub fn column(name: impl Into<String>, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// The inputs of a transform, by name, each with just the columns that it asked for. Its name qualifies them: of two inputs
/// that are joined, `col("orders.id")` and `col("customers.id")`.
#[derive(Debug, Clone, Default)]
pub struct Frames(BTreeMap<String, DataFrame>);

impl Frames {
    /// An input.
    ///
    /// # Errors
    /// When the transform did not declare it.
    pub fn get(&self, name: &str) -> DfResult<DataFrame> {
        let frame = self.0.get(name).cloned();
        frame.ok_or_else(|| plan_datafusion_err!("the transform did not declare an input named {name}"))
    }
}

/// A named, typed unit of work: inputs with their columns, a plan over them, and an output with its columns. Cheap to
/// clone.
///
/// ```
/// use icefield_engine::Session;
/// use icefield_engine::transform::{Transform, column};
/// use datafusion::arrow::datatypes::DataType;
/// use datafusion::functions_aggregate::expr_fn::avg;
/// use datafusion::prelude::col;
///
/// # fn main() -> icefield_core::Result<()> {
/// let price_by_city = Transform::new("price_by_city", |inputs| {
///     inputs.get("rates")?.aggregate(vec![col("city")], vec![avg(col("price")).alias("price")])
/// })
/// .input("rates", [column("city", DataType::Utf8), column("price", DataType::Float64)])
/// .output([column("city", DataType::Utf8), column("price", DataType::Float64)]);
///
/// let session = Session::builder().build()?;
/// let rates = session.read_batches([datafusion::common::record_batch!(
///     ("city", Utf8, vec!["Boston"]),
///     ("cost", Float64, vec![100.0])
/// )?])?;
/// let error = price_by_city.plan([("rates", rates)]).unwrap_err();
/// assert!(error.to_string().contains("column: price"), "{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transform {
    name: String,
    inputs: Vec<(String, Vec<FieldRef>)>,
    output: Option<Vec<FieldRef>>,
    cached: bool,
    build: Arc<Build>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform")
            .field("name", &self.name)
            .field("inputs", &self.inputs)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl Transform {
    /// A transform, whose output has its name, and the plan that it makes of its inputs.
    pub fn new(
        name: impl Into<String>,
        build: impl Fn(&Frames) -> DfResult<DataFrame> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), inputs: Vec::new(), output: None, cached: false, build: Arc::new(build) }
    }

    /// Declares an input and the columns that are needed of it. Others that it has are not seen.
    pub fn input(mut self, name: impl Into<String>, columns: impl IntoIterator<Item = Field>) -> Self {
        self.inputs.push((name.into(), columns.into_iter().map(Arc::new).collect()));
        self
    }

    /// Declares the columns that come out, in this order, and no others.
    pub fn output(mut self, columns: impl IntoIterator<Item = Field>) -> Self {
        self.output = Some(columns.into_iter().map(Arc::new).collect());
        self
    }

    /// In a [`Pipeline`], computes the output once and keeps it in memory, within the session's budget, for all that use
    /// it.
    pub fn cache(mut self) -> Self {
        self.cached = true;
        self
    }

    /// The transform's name, which is its output's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(name, _)| name.as_str())
    }

    /// The checked plan over these inputs. Reads no data.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the transform, the input and the column: an input
    /// that is missing, a column that is missing or of another type, in the inputs, the plan or the output.
    pub fn plan<N: Into<String>>(
        &self,
        frames: impl IntoIterator<Item = (N, DataFrame)>,
    ) -> Result<DataFrame> {
        let mut given: BTreeMap<String, DataFrame> =
            frames.into_iter().map(|(name, frame)| (name.into(), frame)).collect();
        let mut inputs = Frames::default();
        for (name, columns) in &self.inputs {
            let frame = given.remove(name).ok_or_else(|| {
                self.wrong("an input is missing; give a DataFrame of this name").with("input", name)
            })?;
            inputs.0.insert(name.clone(), self.narrowed(name, frame, columns)?);
        }
        let built = (self.build)(&inputs).map_err(|e| self.failed(e))?;
        let output = match &self.output {
            Some(columns) => self.checked_output(built, columns)?,
            None => built,
        };
        // Types are settled by the analyser; what it refuses is better refused now.
        let (state, plan) = output.clone().into_parts();
        state.optimize(&plan).map_err(|e| self.failed(e))?;
        Ok(output)
    }

    fn narrowed(&self, name: &str, frame: DataFrame, columns: &[FieldRef]) -> Result<DataFrame> {
        for column in columns {
            let found = frame.schema().fields().iter().find(|field| field.name() == column.name());
            let found = found.ok_or_else(|| {
                let has: Vec<_> = frame.schema().fields().iter().map(|f| f.name().as_str()).collect();
                self.wrong(format!("an input lacks a column; it has {}", has.join(", ")))
                    .with("input", name)
                    .with("column", column.name())
            })?;
            self.check(found, column).map_err(|e| e.with("input", name))?;
        }
        let selection: Vec<_> = columns.iter().map(|column| ident(column.name().as_str())).collect();
        frame.select(selection).and_then(|frame| frame.alias(name)).map_err(|e| self.failed(e))
    }

    fn checked_output(&self, built: DataFrame, columns: &[FieldRef]) -> Result<DataFrame> {
        for field in built.schema().fields() {
            if !columns.iter().any(|column| column.name() == field.name()) {
                return Err(self
                    .wrong("the output has a column that was not declared; declare it or leave it out")
                    .with("column", field.name()));
            }
        }
        for column in columns {
            let found = built.schema().fields().iter().find(|field| field.name() == column.name());
            let found = found.ok_or_else(|| {
                self.wrong("the output lacks a column that was declared").with("column", column.name())
            })?;
            self.check(found, column)?;
        }
        let selection: Vec<_> = columns.iter().map(|column| ident(column.name().as_str())).collect();
        built.select(selection).map_err(|e| self.failed(e))
    }

    fn check(&self, found: &Field, wanted: &Field) -> Result<()> {
        if !same_values(found.data_type(), wanted.data_type()) {
            return Err(self
                .wrong("a column has another type than was declared; cast it")
                .with("column", wanted.name())
                .with("expected", wanted.data_type())
                .with("found", found.data_type()));
        }
        if found.is_nullable() && !wanted.is_nullable() {
            return Err(self
                .wrong("a column may hold NULLs and was declared without; filter or coalesce them")
                .with("column", wanted.name()));
        }
        Ok(())
    }

    fn wrong(&self, message: impl Into<String>) -> Error {
        Error::invalid_input(message).with("transform", &self.name)
    }

    fn failed(&self, error: DataFusionError) -> Error {
        let column = match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, .. } | SchemaError::AmbiguousReference { field } => {
                    Some(field.name.clone())
                }
                SchemaError::DuplicateUnqualifiedField { name }
                | SchemaError::DuplicateQualifiedField { name, .. } => Some(name.clone()),
            },
            _ => None,
        };
        let wrong = self.wrong(format!("the transform can't be planned: {}", error.strip_backtrace()));
        let wrong = match column {
            Some(column) => wrong.with("column", column),
            None => wrong,
        };
        wrong.with_source(error)
    }
}

/// Whether two types hold the same values, in whatever layout, at every level.
fn same_values(a: &DataType, b: &DataType) -> bool {
    use DataType as T;
    match (a, b) {
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8 | T::LargeUtf8 | T::Utf8View) => true,
        (T::Binary | T::LargeBinary | T::BinaryView, T::Binary | T::LargeBinary | T::BinaryView) => true,
        (T::Timestamp(a, a_zone), T::Timestamp(b, b_zone)) => a == b && a_zone.is_some() == b_zone.is_some(),
        (T::Dictionary(_, a), b) | (b, T::Dictionary(_, a)) => same_values(a, b),
        (T::List(a) | T::LargeList(a), T::List(b) | T::LargeList(b)) => {
            same_values(a.data_type(), b.data_type())
        }
        (T::Map(a, _), T::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (T::Struct(a), T::Struct(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_values(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.name() == b.name() && same_values(a.data_type(), b.data_type()))
        }
        (a, b) => a == b,
    }
}
