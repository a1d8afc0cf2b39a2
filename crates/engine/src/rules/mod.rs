//! Rules that make DataFusion's answers right where its own rules take one expression for another that is not the same.
//!
//! | rule | what it keeps right |
//! | --- | --- |
//! | [`compare`] | comparisons of times of different types and units, with literals of any century |
//! | [`casts`], [`trunc`], [`part`] | casts and functions of times that lose something: what equals a literal is told exactly, as a range of what is cast, so that files are pruned by it |
//! | [`subqueries`] | `IN`, `ANY` and `ALL` of a subquery where NULL makes them unknown |
//! | [`refused`] | subqueries that would be answered wrongly are errors |

/// The methods of a function of a part and a time that are DataFusion's, and its preimage by `Self::preimage_of`.
macro_rules! as_inner {
    () => {
        fn name(&self) -> &str {
            self.inner.name()
        }

        fn aliases(&self) -> &[String] {
            self.inner.aliases()
        }

        fn signature(&self) -> &datafusion::logical_expr::Signature {
            self.inner.signature()
        }

        fn return_type(&self, types: &[DataType]) -> datafusion::common::Result<DataType> {
            self.inner.return_type(types)
        }

        fn return_field_from_args(
            &self,
            args: datafusion::logical_expr::ReturnFieldArgs<'_>,
        ) -> datafusion::common::Result<arrow::datatypes::FieldRef> {
            self.inner.return_field_from_args(args)
        }

        fn preimage(
            &self,
            args: &[Expr],
            value: &Expr,
            info: &datafusion::logical_expr::simplify::SimplifyContext,
        ) -> datafusion::common::Result<datafusion::logical_expr::preimage::PreimageResult> {
            use datafusion::logical_expr::preimage::PreimageResult;
            let ([part, of], Expr::Literal(value, _)) = (args, value) else {
                return Ok(PreimageResult::None);
            };
            let from = info.get_data_type(of)?;
            Ok(match Self::preimage_of(part, &from, value) {
                Some(preimage) => super::casts::range(of, &from, preimage),
                None => PreimageResult::None,
            })
        }

        fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
            self.inner.documentation()
        }
    };
}

mod casts;
mod compare;
mod part;
mod plans;
mod refused;
mod subqueries;
mod ticks;
mod trunc;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, ExprSchemable, Like, LogicalPlan, ScalarUDF, cast};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;

use casts::{WholeCast, kept_whole};
pub(crate) use casts::{cast_floor, keeps_all};
use part::DatePart;
use plans::schema_of_inputs;
pub(crate) use ticks::{Preimage, value_of};
use trunc::DateTrunc;

/// DataFusion's analyzer rules, and among them ours.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = Analyzer::new().rules;
    // Before types are made equal, which loses what they differ in, and after.
    let coercion = rules.iter().position(|rule| rule.name() == "type_coercion").unwrap_or(rules.len());
    rules.insert(coercion, Arc::new(EachExpression::new("compare_times", compare::exactly)));
    rules.push(Arc::new(EachExpression::new("keep_casts_whole", whole_casts)));
    rules.push(Arc::new(subqueries::UnknownIsUnknown));
    rules
}

/// The functions that stand for DataFusion's of the same names.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![ScalarUDF::new_from_impl(DateTrunc::new()), ScalarUDF::new_from_impl(DatePart::new())]
}

/// An expression over columns of `schema` whose types are those that DataFusion made equal, with casts kept whole.
pub(crate) fn with_whole_casts(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(expr.transform_up(|expr| whole_casts(expr, schema))?.data)
}

/// An expression over columns of `schema` with comparisons of times made exact. Its types need not be equal yet.
pub(crate) fn with_exact_times(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(expr.transform_up(|expr| compare::exactly(expr, schema))?.data)
}

/// What a function or a kept cast of one expression takes to a value: that expression, and a range of its counts.
pub(crate) struct Origin<'a> {
    pub(crate) of: &'a Expr,
    pub(crate) from: DataType,
    pub(crate) range: Preimage,
}

/// The origin of a value under a function that keeps the order, if `expr` is one. `type_of` gives the types of what is in it.
pub(crate) fn origin<'a>(
    expr: &'a Expr,
    value: &ScalarValue,
    type_of: impl Fn(&Expr) -> Option<DataType>,
) -> Option<Origin<'a>> {
    if let Expr::Cast(Cast { expr: of, field }) = expr {
        let from = type_of(of)?;
        let range = casts::preimage(&from, field.data_type(), value)?;
        return Some(Origin { of, from, range });
    }
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let function = func.inner();
    let (of, from, range) = match args.as_slice() {
        [of] => {
            let from = type_of(of)?;
            let range = function.downcast_ref::<WholeCast>()?.preimage_of(&from, value)?;
            (of, from, range)
        }
        [part, of] => {
            let from = type_of(of)?;
            let range = if function.is::<DateTrunc>() {
                DateTrunc::preimage_of(part, &from, value)?
            } else if function.is::<DatePart>() {
                DatePart::preimage_of(part, &from, value)?
            } else {
                return None;
            };
            (of, from, range)
        }
        _ => return None,
    };
    Some(Origin { of, from, range })
}

/// The type of a function of ours, given that of its argument.
pub(crate) fn result_type(
    func: &ScalarUDF,
    args: &[Expr],
    type_of: impl Fn(&Expr) -> Option<DataType>,
) -> Option<DataType> {
    let function = func.inner();
    if let Some(cast) = function.downcast_ref::<WholeCast>() {
        return Some(cast.to().clone());
    }
    match args {
        [_, of] if function.is::<DateTrunc>() => type_of(of),
        _ => None,
    }
}

type Rewrite = fn(Expr, &DFSchema) -> Result<Transformed<Expr>>;

/// A rule that rewrites every expression of a plan, from the inside out.
#[derive(Debug)]
struct EachExpression {
    name: &'static str,
    rewrite: Rewrite,
}

impl EachExpression {
    fn new(name: &'static str, rewrite: Rewrite) -> Self {
        Self { name, rewrite }
    }
}

impl AnalyzerRule for EachExpression {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        each_expression(plan, &self.rewrite)
    }

    fn name(&self) -> &str {
        self.name
    }
}

/// Rewrites every expression of a plan, from the inside out, under the names that they had.
pub(crate) fn each_expression(
    plan: LogicalPlan,
    rewrite: &dyn Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let schema = schema_of_inputs(&plan)?;
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let expr = expr.transform_up(|expr| rewrite(expr, &schema))?;
            Ok(match expr.transformed {
                true => expr.update_data(|expr| name.restore(expr)),
                false => expr,
            })
        })?
        .transform_data(|plan| Ok(Transformed::yes(plan.recompute_schema()?)))
    })?;
    Ok(rewritten.data)
}

/// Keeps a cast whole that may lose something, and puts our functions in the place of DataFusion's.
fn whole_casts(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let expr = match expr {
        Expr::ScalarFunction(function) => return replaced(function, schema),
        Expr::SimilarTo(like) => return similar(like, schema),
        expr => expr,
    };
    let (inner, field, tried) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return Ok(Transformed::no(expr)),
    };
    // What has no type yet is none of a table's columns.
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
    Ok(match kept_whole(inner, &from, field.data_type(), tried) {
        Some(whole) => Transformed::yes(whole),
        None => Transformed::no(expr),
    })
}

/// A pattern in the representation of the text: DataFusion does not see to that here, and fails when it compares.
fn similar(mut like: Like, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (text, pattern) = (like.expr.get_type(schema), like.pattern.get_type(schema));
    Ok(match (text, pattern) {
        (Ok(text), Ok(pattern)) if text != pattern && text.is_string() => {
            like.pattern = Box::new(cast(*like.pattern, text));
            Transformed::yes(Expr::SimilarTo(like))
        }
        _ => Transformed::no(Expr::SimilarTo(like)),
    })
}

fn replaced(function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (func, args) = (&function.func, &function.args);
    let inner = func.inner();
    Ok(match func.name() {
        "date_trunc" if !inner.is::<DateTrunc>() => {
            Transformed::yes(ScalarUDF::new_from_impl(DateTrunc::new()).call(function.args))
        }
        "date_part" if !inner.is::<DatePart>() => {
            Transformed::yes(ScalarUDF::new_from_impl(DatePart::new()).call(function.args))
        }
        // These become casts when they are simplified, and would then be moved at once.
        "arrow_cast" | "arrow_try_cast" | "cast_to_type" | "try_cast_to_type" => {
            let columns: DFSchemaRef = Arc::new(schema.clone());
            let context = SimplifyContext::builder().with_schema(columns).build();
            match func.simplify(args.clone(), &context) {
                Ok(ExprSimplifyResult::Simplified(cast)) => Transformed::yes(whole_casts(cast, schema)?.data),
                _ => Transformed::no(Expr::ScalarFunction(function)),
            }
        }
        _ => Transformed::no(Expr::ScalarFunction(function)),
    })
}
