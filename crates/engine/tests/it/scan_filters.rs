//! Filters that are pushed into a scan give what the same filters give after a full read.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, Operator, binary_expr};
use datafusion::prelude::{col, lit};
use iceberg::spec::{FormatVersion, Schema};
use icefield_engine::Table;
use icefield_testkit::{everything_schema, random_batches};

use crate::scan_support::{append, create, session, text_rows, write_file};

async fn filtered(table: &Table, full: &Arc<MemTable>, filter: Expr) -> (Vec<String>, Vec<String>) {
    let pushed = table.dataframe().await.unwrap().filter(filter.clone()).unwrap();
    let after = table.session().context().read_table(full.clone()).unwrap().filter(filter).unwrap();
    let pushed = pushed.select_columns(&["id"]).unwrap().sort_by(vec![col("id")]).unwrap();
    let after = after.select_columns(&["id"]).unwrap().sort_by(vec![col("id")]).unwrap();
    (text_rows(&pushed.collect().await.unwrap()), text_rows(&after.collect().await.unwrap()))
}

fn filters(column: &str, values: &[ScalarValue]) -> Vec<Expr> {
    let comparisons =
        [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];
    let mut filters = vec![col(column).is_null(), col(column).is_not_null()];
    for value in values {
        let value = lit(value.clone());
        filters.extend(comparisons.iter().map(|op| binary_expr(col(column), *op, value.clone())));
        filters.push(binary_expr(value.clone(), Operator::Lt, col(column)));
        filters.push(Expr::Not(Box::new(col(column).lt(value.clone()))));
        filters.push(col(column).eq(value).or(col(column).is_null()));
    }
    let literals = || values.iter().map(|value| lit(value.clone())).collect::<Vec<_>>();
    filters.push(col(column).in_list(literals(), false));
    filters.push(col(column).in_list(literals(), true));
    if let [low, high, ..] = values {
        filters.push(col(column).between(lit(low.clone()), lit(high.clone())));
        filters.push(col(column).not_between(lit(low.clone()), lit(high.clone())));
    }
    filters
}

fn some_values(batches: &[RecordBatch], column: &str) -> Vec<ScalarValue> {
    let mut values = Vec::new();
    for batch in batches {
        let array = batch.column_by_name(column).unwrap();
        for row in [1, 40, 77] {
            if row < array.len() && !array.is_null(row) {
                values.push(ScalarValue::try_from_array(array, row).unwrap());
            }
        }
    }
    values.truncate(3);
    values
}

#[tokio::test]
async fn a_filter_on_any_column_gives_what_a_full_read_gives() {
    let session = session();
    let table = create(&session, "t", everything_schema(FormatVersion::V3), FormatVersion::V3, None).await;
    let schema = Schema::clone(table.core().schema());
    let mut files = Vec::new();
    for seed in 1..3 {
        let batches = random_batches(seed, &schema, 2, 80);
        let name = format!("f{seed}");
        files.push(write_file(&table, &name, &batches, iceberg::spec::Struct::empty()).await);
    }
    let table = append(&table, files).await;
    let all = table.dataframe().await.unwrap().collect().await.unwrap();
    let full = Arc::new(MemTable::try_new(all[0].schema(), vec![all.clone()]).unwrap());
    let mut checked = 0;
    for field in all[0].schema().fields() {
        if field.data_type().is_nested() {
            continue;
        }
        for filter in filters(field.name(), &some_values(&all, field.name())) {
            let (pushed, after) = filtered(&table, &full, filter.clone()).await;
            assert_eq!(pushed, after, "{filter}");
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}
