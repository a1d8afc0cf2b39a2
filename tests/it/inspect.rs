//! The example that looks at a table, on tables that Spark and Iceberg Java wrote.

use std::path::Path;
use std::process::{Command, Output};

use icefield_testkit::{ReferenceTables, newest_metadata};

use crate::examples::example;

fn inspect(binary: &Path, words: &[&str]) -> Output {
    Command::new(binary).args(words).output().expect("the example runs")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The line on which a failure is reported.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn every_table_of_the_reference_implementation_is_read_as_it_reads_it() {
    let (Some(binary), Some(tables)) = (example("inspect"), ReferenceTables::find()) else { return };
    let copies = tempfile::tempdir().unwrap();
    for expected in tables.expected() {
        let table = tables.table(&expected.table);
        let metadata = newest_metadata(&table).unwrap();
        let words = [metadata.to_str().unwrap(), "--ref", &expected.reference, "--hash"];
        let here = inspect(&binary, &words);
        assert_eq!(printed(&here), expected.content, "{expected:?}");

        // The copy names its files where the original was made: in the folder of make-tables.
        let copy = copies.path().join(&expected.table);
        let copied = Command::new("cp").arg("-r").arg(&table).arg(&copy).status().unwrap();
        assert!(copied.success());
        let metadata = newest_metadata(&copy).unwrap();
        let map = format!("{}={}", table.display(), copy.display());
        let words = [metadata.to_str().unwrap(), "--map", &map, "--ref", &expected.reference, "--hash"];
        assert_eq!(printed(&inspect(&binary, &words)), expected.content, "{expected:?}");
        // That it is the copy which was read shows when a part of it is gone.
        std::fs::remove_dir_all(copy.join("data")).unwrap();
        let gone = refusal(&inspect(&binary, &words));
        assert!(gone.contains("not found") && gone.contains(copy.to_str().unwrap()), "{gone}");
        std::fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn what_a_table_is_and_what_is_asked_of_it_is_printed() {
    let Some(binary) = example("inspect") else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let metadata = runtime.block_on(async {
        use icefield::prelude::*;
        let session = Session::open(folder.path()).await.unwrap();
        let rows = "SELECT column1 AS id, column2 AS city FROM (VALUES (1, 'a'), (2, 'b'), (3, 'b'))";
        let rows = session.sql(rows).await.unwrap();
        let report =
            rows.append_to(&session, "db.t").create_with(|t| t.partition_by([identity("city")])).await;
        report.unwrap().table.core().metadata_location().to_string()
    });
    let all = printed(&inspect(&binary, &[&metadata]));
    for line in [
        "table db.t, format version v2",
        "  city: identity of city (2)",
        "  main: branch",
        "operation = append",
        "rows: 3",
    ] {
        assert!(all.contains(line), "no {line:?} in\n{all}");
    }
    let of = |words: &[&str]| printed(&inspect(&binary, &[&[metadata.as_str(), "--hash"], words].concat()));
    assert!(of(&[]).starts_with("rows=3 hash="));
    assert!(of(&["--where", "city = 'b'"]).starts_with("rows=2 hash="));
    assert_ne!(of(&["--columns", "id"]), of(&["--columns", "city"]));
    assert_eq!(
        of(&["--columns", "id", "--where", "id = 2"]),
        of(&["--columns", "id", "--where", "city < 'c' AND id = 2"])
    );
    for (words, why) in [
        (&["--snapshot", "1"][..], "no such snapshot"),
        (&["--ref", "nobody"], "no such branch or tag"),
        (&["--ref", "main", "--snapshot", "1"], "not several"),
        (&["--as-of", "1970-01-01"], "no snapshot as old"),
        (&["--columns", "nope"], "no column nope"),
        (&["--where", "nope = 1"], "No field named nope"),
        (&["--map", "/a"], "FROM=TO"),
        (&["--what"], "unknown option --what"),
    ] {
        let refused = refusal(&inspect(&binary, &[&[metadata.as_str(), "--hash"], words].concat()));
        assert!(refused.contains(why), "{refused}");
    }
    assert!(refusal(&inspect(&binary, &["/nowhere/v1.metadata.json"])).contains("not found"));
}
