//! The rows that are meant: how many, and their hash.

use std::error::Error;

use datafusion::prelude::ident;
use futures::TryStreamExt;
use iceberg::spec::{NestedFieldRef, Schema};
use icefield::prelude::*;
use icefield_engine::from_datafusion;
use icefield_testkit::{Content, content_hash};

use crate::args::Args;

pub(crate) async fn count(table: &Table, args: &Args) -> Result<usize, Box<dyn Error>> {
    Ok(frame(table, args).await?.count().await.map_err(from_datafusion)?)
}

/// The content of the rows, read as a stream: the hash of rows is the sum of theirs.
pub(crate) async fn content(table: &Table, args: &Args) -> Result<Content, Box<dyn Error>> {
    let schema = schema(table, args)?;
    let mut rows = frame(table, args).await?.execute_stream().await.map_err(from_datafusion)?;
    let (mut count, mut sum) = (0, 0_u128);
    while let Some(batch) = rows.try_next().await.map_err(from_datafusion)? {
        let content = content_hash([&batch], &schema);
        count += content.rows;
        sum = sum.wrapping_add(u128::from_str_radix(&content.hash, 16)?);
    }
    Ok(Content { rows: count, hash: format!("{sum:032x}") })
}

async fn frame(table: &Table, args: &Args) -> Result<DataFrame, Box<dyn Error>> {
    let mut frame = table.dataframe().await?;
    if let Some(filter) = &args.filter {
        let filter = frame.parse_sql_expr(filter)?;
        frame = frame.filter(filter)?;
    }
    if let Some(columns) = &args.columns {
        frame = frame.select(columns.iter().map(ident))?;
    }
    Ok(frame)
}

/// The columns that are meant, in the order in which they are.
fn schema(table: &Table, args: &Args) -> Result<Schema, Box<dyn Error>> {
    let schema = table.core().schema_as_of(table.snapshot())?;
    let Some(columns) = &args.columns else { return Ok(schema.as_ref().clone()) };
    let field = |name: &String| -> Result<NestedFieldRef, Box<dyn Error>> {
        let found = schema.as_struct().fields().iter().find(|field| field.name == *name);
        Ok(found.ok_or_else(|| format!("the table has no column {name}"))?.clone())
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Schema::builder().with_fields(fields).build()?)
}
