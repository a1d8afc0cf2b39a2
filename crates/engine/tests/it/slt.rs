//! The statements of `slt/*.slt`: a file for each family, with its errors, in the format of sqllogictest.
//!
//! Records are `statement ok`, `statement error <part of the message>` and `query <types> [rowsort]` with the
//! expected rows after `----`, values apart by a space. Blank lines end them. Before a record `connection
//! plain` runs it in the session's plain DataFusion context. Three directives are this runner's own: `branch
//! <table> <name>` and `tag <table> <name>`, made of the table as it is, and `let <name> = <query>`, whose
//! one value stands for `$name` from then on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use icefield_core::Result;
use icefield_engine::{Session, from_datafusion};

/// Where a file's statements run.
struct Runner {
    session: Session,
    values: BTreeMap<String, String>,
}

impl Runner {
    async fn rows(&self, sql: &str, plain: bool) -> Result<Vec<String>> {
        let frame = match plain {
            true => self.session.context().sql(sql).await.map_err(from_datafusion)?,
            false => self.session.sql(sql).await?,
        };
        let names: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
        let batches = frame.collect().await.map_err(from_datafusion)?;
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = vec![names.join(" ")];
        for batch in &batches {
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let values = columns.iter().zip(batch.columns()).map(|(column, array)| {
                    let value = column.value(row).to_string();
                    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::Utf8View);
                    if is_text && value.is_empty() { "(empty)".to_string() } else { value }
                });
                rows.push(values.collect::<Vec<_>>().join(" "));
            }
        }
        Ok(rows)
    }

    fn filled(&self, text: &str) -> String {
        // Longer names first: `$a` is no part of `$ab`.
        let names = self.values.iter().rev();
        names.fold(text.to_string(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }

    /// Runs one record; what is wrong with it, if anything is.
    async fn record(&mut self, lines: &[&str], plain: bool) -> std::result::Result<(), String> {
        let (head, body) = lines.split_first().ok_or("an empty record")?;
        let words: Vec<&str> = head.split_whitespace().collect();
        match &words[..] {
            ["statement", "ok"] => {
                let sql = self.filled(&body.join("\n"));
                self.rows(&sql, plain).await.map(drop).map_err(|e| e.to_string())
            }
            ["statement", "error", ..] => {
                let sql = self.filled(&body.join("\n"));
                let says = self.filled(head.trim_start_matches("statement error").trim());
                match self.rows(&sql, plain).await {
                    Ok(_) => Err("no error".to_string()),
                    Err(error) if error.to_string().contains(&says) => Ok(()),
                    Err(error) => Err(format!("another error: {error}")),
                }
            }
            ["query", rest @ ..] => {
                let split = body.iter().position(|line| *line == "----").ok_or("no ----")?;
                let sql = self.filled(&body[..split].join("\n"));
                let mut expected: Vec<String> =
                    body[split + 1..].iter().map(|line| self.filled(line)).collect();
                let mut rows = self.rows(&sql, plain).await.map_err(|e| e.to_string())?;
                if !rest.contains(&"header") {
                    rows.remove(0);
                }
                let mut rows: Vec<String> = rows
                    .iter()
                    .flat_map(|row| row.trim_end().split('\n').map(|line| line.trim_end().to_string()))
                    .collect();
                // A plan ends with a line end.
                while rows.last().is_some_and(String::is_empty) {
                    rows.pop();
                }
                if rest.contains(&"rowsort") {
                    rows.sort();
                    expected.sort();
                }
                if rows == expected { Ok(()) } else { Err(format!("the rows are\n{}", rows.join("\n"))) }
            }
            [kind @ ("branch" | "tag"), table, name] => {
                let table = self.session.table(table).await.map_err(|e| e.to_string())?;
                let made = match *kind {
                    "branch" => table.create_branch(*name).await,
                    _ => table.create_tag(*name).await,
                };
                made.map(drop).map_err(|e| e.to_string())
            }
            ["let", name, "=", ..] => {
                let (_, query) = head.split_once('=').ok_or("no query")?;
                let rows = self.rows(&self.filled(query), plain).await.map_err(|e| e.to_string())?;
                let [_, value] = &rows[..] else { return Err(format!("{} values", rows.len() - 1)) };
                self.values.insert(name.to_string(), value.clone());
                Ok(())
            }
            _ => Err("no such record".to_string()),
        }
    }
}

/// Runs a file; its records that went wrong, with their lines.
async fn run(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let session = Session::builder().parallelism(2).build().unwrap();
    let mut runner = Runner { session, values: BTreeMap::new() };
    let (mut wrong, mut plain, mut at) = (Vec::new(), false, 0);
    while at < lines.len() {
        if lines[at].trim().is_empty() || lines[at].starts_with('#') {
            at += 1;
            continue;
        }
        let end = lines[at..].iter().position(|line| line.trim().is_empty()).map_or(lines.len(), |n| at + n);
        if lines[at] == "connection plain" {
            plain = true;
            at += 1;
            continue;
        }
        if let Err(why) = runner.record(&lines[at..end], plain).await {
            let name = path.file_name().unwrap().to_string_lossy();
            wrong.push(format!("{name}:{}: {}\n{why}\n", at + 1, lines[at..end].join("\n")));
        }
        plain = false;
        at = end;
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_does_what_its_record_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/slt");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    let mut wrong = Vec::new();
    for file in &files {
        wrong.extend(run(file).await);
    }
    assert!(wrong.is_empty(), "{} records:\n\n{}", wrong.len(), wrong.join("\n"));
}
