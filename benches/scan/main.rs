//! TPC-H on icefield tables and on the same Parquet files through DataFusion's own `ListingTable`, in the same run.
//!
//! `cargo bench --bench scan [-- SCALE_FACTOR [QUERY...]]`. Makes the data (scale factor 1 unless another is given), writes it as
//! tables, and runs each of the 22 queries on both in turn. Prints the ratio of the best times by query and their geometric
//! mean. The answers must be the same.

use std::fmt::{Display, Write as _};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use tpchgen::csv::{
    CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv,
};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

const ROUNDS: usize = 5;
const CORES: usize = 2;

const TABLES: [&str; 8] =
    ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<f64>().ok());
    let scale = numbers.next().unwrap_or(1.0);
    let chosen: Vec<usize> = numbers.map(|number| number as usize).collect();
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(CORES).open(folder.path()).await.unwrap();
    for table in TABLES {
        let csv = folder.path().join(format!("{table}.csv"));
        generate(table, scale, &csv);
        let schema = schema(table, &csv);
        let options = CsvReadOptions::new().schema(&schema);
        let rows = session.context().read_csv(csv.to_str().unwrap(), options).await.unwrap();
        rows.append_to(&session, format!("tpch.{table}")).create_with(|t| t).await.unwrap();
        std::fs::remove_file(&csv).unwrap();
    }

    // The very same files, and the same settings.
    let listing = SessionContext::new_with_config(
        SessionConfig::new().with_target_partitions(CORES).with_collect_statistics(true),
    );
    for table in TABLES {
        let location = session.table(&format!("tpch.{table}")).await.unwrap();
        let data = format!("{}/data/", location.core().metadata().location().trim_start_matches("file://"));
        listing.register_parquet(table, &data, ParquetReadOptions::default()).await.unwrap();
        let ours = location.provider().unwrap();
        session.context().register_table(format!("icefield.public.{table}"), ours).unwrap();
    }
    println!("TPC-H, scale factor {scale}, {CORES} cores; seconds: icefield, ListingTable, ratio");
    let queries = include_str!("queries.sql").split("\n-- q").skip(1);
    let (mut sum, mut count, mut worst) = (0.0, 0, (0.0, 0));
    for query in queries {
        let (number, sql) = query.split_once('\n').unwrap();
        let number: usize = number.trim().parse().unwrap();
        if !chosen.is_empty() && !chosen.contains(&number) {
            continue;
        }
        let sql = sql.trim().trim_end_matches(';');
        let mut best = [f64::MAX; 2];
        let mut answers = [const { String::new() }; 2];
        for round in 0..=ROUNDS {
            for (run, context) in [session.context(), &listing].into_iter().enumerate() {
                let start = Instant::now();
                let batches = context.sql(sql).await.unwrap().collect().await;
                let batches = batches.unwrap_or_else(|e| panic!("q{number}: {e}"));
                // The first round fills caches.
                if round > 0 {
                    best[run] = best[run].min(start.elapsed().as_secs_f64());
                }
                answers[run] = pretty_format_batches(&batches).unwrap().to_string();
            }
        }
        assert_eq!(answers[0], answers[1], "q{number} has two answers");
        let ratio = best[0] / best[1];
        println!("q{number:<3} {:8.4} {:8.4} {ratio:6.2}", best[0], best[1]);
        sum += ratio.ln();
        count += 1;
        if ratio > worst.0 {
            worst = (ratio, number);
        }
    }
    println!(
        "geometric mean of {count} ratios: {:.3} (at most 1.05 is asked)",
        (sum / f64::from(count)).exp()
    );
    println!("worst: {:.2}, q{} (at most 1.25 is asked)", worst.0, worst.1);
}

fn generate(table: &str, scale: f64, to: &Path) {
    match table {
        "region" => {
            write(to, RegionCsv::header(), RegionGenerator::new(scale, 1, 1).iter().map(RegionCsv::new))
        }
        "nation" => {
            write(to, NationCsv::header(), NationGenerator::new(scale, 1, 1).iter().map(NationCsv::new))
        }
        "supplier" => {
            write(
                to,
                SupplierCsv::header(),
                SupplierGenerator::new(scale, 1, 1).iter().map(SupplierCsv::new),
            );
        }
        "customer" => {
            write(
                to,
                CustomerCsv::header(),
                CustomerGenerator::new(scale, 1, 1).iter().map(CustomerCsv::new),
            );
        }
        "part" => write(to, PartCsv::header(), PartGenerator::new(scale, 1, 1).iter().map(PartCsv::new)),
        "partsupp" => {
            write(
                to,
                PartSuppCsv::header(),
                PartSuppGenerator::new(scale, 1, 1).iter().map(PartSuppCsv::new),
            );
        }
        "orders" => write(to, OrderCsv::header(), OrderGenerator::new(scale, 1, 1).iter().map(OrderCsv::new)),
        _ => {
            write(to, LineItemCsv::header(), LineItemGenerator::new(scale, 1, 1).iter().map(LineItemCsv::new))
        }
    }
}

fn write(to: &Path, header: &str, rows: impl Iterator<Item = impl Display>) {
    let mut file = BufWriter::new(std::fs::File::create(to).unwrap());
    let mut line = String::new();
    writeln!(file, "{header}").unwrap();
    for row in rows {
        line.clear();
        writeln!(line, "{row}").unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// The columns of a table, in the order of its header, with TPC-H's types.
fn schema(table: &str, csv: &Path) -> Schema {
    use std::io::BufRead;
    let mut header = String::new();
    std::io::BufReader::new(std::fs::File::open(csv).unwrap()).read_line(&mut header).unwrap();
    let decimal = DataType::Decimal128(15, 2);
    let fields = header.trim().split(',').map(|name| {
        let short = name.split_once('_').map_or(name, |(_, short)| short);
        let of = match short {
            _ if short.ends_with("key") => DataType::Int64,
            "size" | "availqty" | "shippriority" | "linenumber" => DataType::Int32,
            "retailprice" | "acctbal" | "supplycost" | "totalprice" | "quantity" | "extendedprice"
            | "discount" | "tax" => decimal.clone(),
            "orderdate" | "shipdate" | "commitdate" | "receiptdate" => DataType::Date32,
            _ => DataType::Utf8,
        };
        Field::new(name, of, true)
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    assert!(schema.fields().len() > 2, "{table}: {header}");
    schema
}
