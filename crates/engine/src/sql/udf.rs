//! `CREATE [OR REPLACE] [TEMPORARY] FUNCTION f(a INT) RETURN a + 1`: functions of the session, written in
//! SQL.
//!
//! Such a function is its expression: where it is called the expression stands in its place before anything
//! else is optimized, so that filters on it prune as filters on the expression do.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::{FunctionFactory, RegisterFunction};
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, CreateFunction, Expr, ExprSchemable, OperateFunctionArg, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    CreateFunctionBody, Expr as SqlExpr, Ident, Statement as SqlStatement, Value, VisitMut, VisitorMut,
};
use icefield_core::{Error, ErrorKind};

use crate::error::to_datafusion;

/// Puts placeholders in the place of the arguments that a function's expression names: those the planner
/// knows.
pub(super) fn number_arguments(statement: &mut SqlStatement) {
    let SqlStatement::CreateFunction(create) = statement else { return };
    let names = create.args.iter().flatten().map(|argument| argument.name.clone()).collect();
    if let Some(CreateFunctionBody::Return(body)) = &mut create.function_body {
        let _ = body.visit(&mut Arguments { names });
    }
}

struct Arguments {
    names: Vec<Option<Ident>>,
}

impl VisitorMut for Arguments {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Identifier(name) = expr {
            let is_named = |argument: &Option<Ident>| argument.as_ref().is_some_and(|of| is_same(of, name));
            if let Some(at) = self.names.iter().position(is_named) {
                *expr = SqlExpr::value(Value::Placeholder(format!("${}", at + 1)));
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_same(one: &Ident, other: &Ident) -> bool {
    match (one.quote_style, other.quote_style) {
        (None, None) => one.value.eq_ignore_ascii_case(&other.value),
        _ => one.value == other.value,
    }
}

/// Makes functions of statements.
#[derive(Debug)]
pub(crate) struct SqlFunctions;

#[async_trait]
impl FunctionFactory for SqlFunctions {
    async fn create(&self, state: &SessionState, create: CreateFunction) -> Result<RegisterFunction> {
        let CreateFunction { or_replace, name, args, return_type, params, .. } = create;
        let name = name.to_lowercase();
        if !or_replace && state.scalar_functions().contains_key(&name) {
            let message = "the function exists; write CREATE OR REPLACE FUNCTION, or choose another name";
            let error = Error::new(ErrorKind::AlreadyExists, message).with("function", name);
            return Err(to_datafusion(error));
        }
        let args = args.unwrap_or_default();
        let unfit = args.iter().any(|argument| argument.default_expr.is_some()) || params.language.is_some();
        let Some(body) = params.function_body.filter(|_| !unfit) else {
            let message = "a function is an expression over its arguments: CREATE FUNCTION f(a INT, b INT) RETURN a + b";
            return Err(to_datafusion(Error::unsupported(message).with("function", name)));
        };
        let function = SqlFunction::new(name, args, body, return_type, state)?;
        Ok(RegisterFunction::Scalar(Arc::new(ScalarUDF::from(function))))
    }
}

/// A function that is an expression.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SqlFunction {
    name: String,
    types: Vec<DataType>,
    body: Expr,
    result: DataType,
    signature: Signature,
}

impl SqlFunction {
    fn new(
        name: String,
        args: Vec<OperateFunctionArg>,
        body: Expr,
        result: Option<DataType>,
        state: &SessionState,
    ) -> Result<Self> {
        let types: Vec<DataType> = args.into_iter().map(|argument| argument.data_type).collect();
        // Never evaluated before its expression stands in its place.
        let volatility = Volatility::Volatile;
        let signature = match types.is_empty() {
            true => Signature::nullary(volatility),
            false => Signature::exact(types.clone(), volatility),
        };
        let nulls = types.iter().map(ScalarValue::try_from).collect::<Result<Vec<_>>>()?;
        let nulls = nulls.into_iter().map(|value| Expr::Literal(value, None)).collect();
        let columns = DFSchema::empty();
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(columns.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let typed = ExprSimplifier::new(context).coerce(filled(&body, nulls)?, &columns)?;
        let own = typed.get_type(&columns)?;
        let result = result.unwrap_or(own);
        Ok(Self { name, types, body, result, signature })
    }
}

/// The expression over these arguments.
fn filled(body: &Expr, arguments: Vec<Expr>) -> Result<Expr> {
    let filled = body.clone().transform_up(|expr| {
        let Expr::Placeholder(Placeholder { id, .. }) = &expr else { return Ok(Transformed::no(expr)) };
        let at = id.trim_start_matches('$').parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match at.and_then(|at| arguments.get(at)) {
            Some(argument) => Ok(Transformed::yes(argument.clone())),
            None => exec_err!("the function has no argument {id}"),
        }
    });
    filled.map(|filled| filled.data)
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn simplify(&self, arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let cast = |expr: Expr, of: &DataType| Expr::Cast(Cast::new(Box::new(expr), of.clone()));
        let arguments =
            arguments.into_iter().zip(&self.types).map(|(argument, of)| cast(argument, of)).collect();
        let body = ExprSimplifier::new(info.clone()).coerce(filled(&self.body, arguments)?, info.schema())?;
        Ok(ExprSimplifyResult::Simplified(cast(body, &self.result)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("the function {} is an expression, and is run by the optimizer's leave alone", self.name)
    }
}
