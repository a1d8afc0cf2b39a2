//! The main example as its users run it: once, again, and killed at any moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use icefield::Session;
use icefield_testkit::{Content, content_hash};

const TABLES: [&str; 3] = ["rooms.calendar", "rooms.listings", "marts.nightly"];

/// The example's binary, which cargo builds beside the tests.
fn example() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let binary = test.parent()?.parent()?.join("examples/partner_day");
    if !binary.exists() {
        eprintln!("skipped: {} is not built; run cargo test without --test", binary.display());
        return None;
    }
    Some(binary)
}

fn start(binary: &Path, warehouse: &Path) -> Child {
    Command::new(binary)
        .arg("--warehouse")
        .arg(warehouse)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts")
}

fn finish(child: Child) -> String {
    let output = child.wait_with_output().expect("the example ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn contents(warehouse: &Path) -> BTreeMap<&'static str, Content> {
    let session = Session::open(warehouse).await.expect("the warehouse opens");
    let mut contents = BTreeMap::new();
    for name in TABLES {
        let table = session.table(name).await.expect("the table is there");
        let batches = table.dataframe().await.unwrap().collect().await.expect("the table reads");
        contents.insert(name, content_hash(&batches, table.core().schema()));
    }
    contents
}

#[tokio::test]
async fn running_it_again_adds_nothing() {
    let Some(binary) = example() else { return };
    let folder = tempfile::tempdir().unwrap();
    finish(start(&binary, folder.path()));
    let once = contents(folder.path()).await;
    assert!(once["rooms.calendar"].rows > 100_000, "{once:?}");
    assert!(once["rooms.listings"].rows > 100, "{once:?}");
    let again = finish(start(&binary, folder.path()));
    assert!(again.contains("was here already"), "{again}");
    assert_eq!(contents(folder.path()).await, once);
}

/// `ICEFIELD_KILLS` says how often; a few times by default.
#[tokio::test]
async fn killed_at_any_moment_the_next_run_completes_it() {
    let Some(binary) = example() else { return };
    let kills: u32 = std::env::var("ICEFIELD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    finish(start(&binary, undisturbed.path()));
    let duration = started.elapsed();
    let expected = contents(undisturbed.path()).await;

    let mut folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    while killed < kills {
        // Spread evenly over the run, a different moment each time: the golden ratio's multiples.
        let share = (f64::from(killed + 1) * 0.618_033_988_749_895).fract();
        let mut child = start(&binary, folder.path());
        tokio::time::sleep(duration.mul_f64(share)).await;
        let was_running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        // Every few kills the road is gone to its end and compared, and a new one begun.
        if killed % 2 == 0 || killed == kills || !was_running {
            finish(start(&binary, folder.path()));
            assert_eq!(
                contents(folder.path()).await,
                expected,
                "after kill {killed} at {share:.2} of the run"
            );
            folder = tempfile::tempdir().unwrap();
        }
    }
}
