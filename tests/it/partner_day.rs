//! The main example as its users run it: once, again, killed at any moment, and with archives that come late or mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::prelude::{col, lit};
use datafusion::scalar::ScalarValue;
use icefield::{Session, parse_ident};
use icefield_testkit::{Content, Pick, Referee, content_hash};

use crate::examples::example;

const TABLES: [&str; 4] = ["rooms.calendar", "rooms.listings", "rooms.quarantine", "marts.nightly"];

/// The log of what arrived.
const ARRIVALS: &str = "rooms.arrivals";

/// The mart as it was before the sample's last drop.
const BEFORE: &str = "marts.nightly FOR VERSION AS OF 'before-city4-2025-06-30'";

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data")
}

fn start(binary: &Path, drops: &Path, warehouse: &Path) -> Child {
    Command::new(binary)
        .arg(drops)
        .arg("--warehouse")
        .arg(warehouse)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts")
}

fn finish(child: Child) -> Output {
    child.wait_with_output().expect("the example ends")
}

/// Runs the example to a good end, and gives what it printed.
fn run(binary: &Path, drops: &Path, warehouse: &Path) -> String {
    let output = finish(start(binary, drops, warehouse));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn open(warehouse: &Path) -> Session {
    Session::open(warehouse).await.expect("the warehouse opens")
}

async fn content(session: &Session, name: &str) -> Content {
    let table = session.table(name).await.expect("the table is there");
    let batches = table.dataframe().await.unwrap().collect().await.expect("the table reads");
    content_hash(&batches, table.core().schema())
}

/// Every table of the sample, and the mart's past.
async fn contents(warehouse: &Path) -> BTreeMap<&'static str, Content> {
    let session = open(warehouse).await;
    let mut contents = BTreeMap::new();
    for name in TABLES.into_iter().chain([ARRIVALS]) {
        contents.insert(name, content(&session, name).await);
    }
    let before = session.sql(&format!("SELECT * FROM {BEFORE}")).await.expect("the tag is there");
    let schema = session.table("marts.nightly").await.unwrap().core().schema().clone();
    contents.insert(BEFORE, content_hash(&before.collect().await.unwrap(), &schema));
    contents
}

/// Source, line and reason of what was set aside, sorted.
async fn set_aside(warehouse: &Path) -> Vec<(String, Option<i64>, String)> {
    let rows = open(warehouse).await.table("rooms.quarantine").await.unwrap().dataframe().await.unwrap();
    let batches = rows.select_columns(&["archive", "line", "reason"]).unwrap().collect().await.unwrap();
    let mut rows: Vec<_> = batches.iter().flat_map(set_aside_of).collect();
    rows.sort();
    rows
}

fn set_aside_of(batch: &RecordBatch) -> Vec<(String, Option<i64>, String)> {
    let text =
        |column: usize, row: usize| match ScalarValue::try_from_array(batch.column(column), row).unwrap() {
            ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) => text.unwrap(),
            other => panic!("{other} is no text"),
        };
    let lines = batch.column(1).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
    let name = |location: String| location.rsplit('/').next().unwrap().to_string();
    (0..batch.num_rows())
        .map(|row| (name(text(0, row)), lines.iter().nth(row).unwrap(), text(2, row)))
        .collect()
}

#[tokio::test]
async fn other_engines_read_what_it_leaves_and_running_it_again_adds_nothing() {
    let Some(binary) = example("partner_day") else { return };
    let folder = tempfile::tempdir().unwrap();
    let printed = run(&binary, &sample(), folder.path());
    shows_what_the_library_does(&printed);
    let once = contents(folder.path()).await;
    assert!(once["rooms.calendar"].rows > 100_000, "{once:?}");
    assert!(once["rooms.listings"].rows > 100, "{once:?}");
    assert!(once[BEFORE].rows < once["marts.nightly"].rows, "{once:?}");
    let session = open(folder.path()).await;
    for name in TABLES {
        let location = session.table(name).await.unwrap().core().metadata_location().to_string();
        println!("{name}: {:?}", Referee::new().check(&location, Pick::Current, &once[name]).await);
    }

    let again = run(&binary, &sample(), folder.path());
    assert!(again.contains("albany/2024-11-05 was here already"), "{again}");
    assert!(again.contains("written now: 0 rows"), "{again}");
    assert_eq!(contents(folder.path()).await, once);
}

/// The numbers of a line of what was printed.
fn numbers(printed: &str, line: &str) -> Vec<u64> {
    let line = printed.lines().find(|shown| shown.starts_with(line));
    let line = line.unwrap_or_else(|| panic!("no line {line:?} in {printed}"));
    let words = line.split(|c: char| !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
}

/// A first run has work for all that the library does: rows compacted, snapshots expired, an orphan removed, a column added,
/// the mart's past beside its present.
fn shows_what_the_library_does(printed: &str) {
    let [files, rows, made, snapshots, deleted, orphans] = numbers(printed, "maintained: ")[..] else {
        panic!("{printed}")
    };
    assert!(files >= 10 && rows >= 20 && made >= 1 && made < files, "{printed}");
    assert!(snapshots >= 10 && deleted >= 10, "{printed}");
    assert_eq!(orphans, 1, "{printed}");
    assert!(printed.contains("\n    rooms.calendar: new column currency\n"), "{printed}");
    assert_eq!(numbers(printed, "evolved: "), [1], "{printed}");
    let (_, travel) = printed.split_once("  before city4/2025-06-30:\n").expect("time travel");
    let (before, now) = travel.split_once("  now:\n").expect("the present");
    let now = now.split("\n== ").next().unwrap_or_default();
    assert!(before.contains("albany") && !before.contains("city4"), "{before}");
    assert!(now.contains("albany") && now.contains("city4"), "{now}");
}

#[tokio::test]
async fn what_was_set_aside_is_kept_with_source_line_and_reason() {
    let Some(binary) = example("partner_day") else { return };
    let folder = tempfile::tempdir().unwrap();
    let printed = run(&binary, &sample(), folder.path());
    let aside = set_aside(folder.path()).await;
    let of = |kind: &str| format!("albany_2024-11-05_fault-{kind}.tar.gz");
    for known in [
        (of("cut-row"), Some(2), "cut row".to_string()),
        (of("missing"), None, "missing".to_string()),
        (of("ragged"), Some(2), "too many fields".to_string()),
        (of("truncated"), None, "truncated".to_string()),
    ] {
        assert!(aside.contains(&known), "{known:?} is not in {aside:?}");
    }
    let shown = printed.lines().rfind(|line| line.starts_with("rooms.quarantine")).unwrap();
    assert_eq!(shown.split_whitespace().nth(1), Some(aside.len().to_string().as_str()), "{shown}");
}

/// A folder with one drop, made of some of the sample's archives.
struct Delivery {
    root: tempfile::TempDir,
}

impl Delivery {
    fn new() -> Self {
        let delivery = Self { root: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(delivery.path("")).unwrap();
        let promised: Vec<String> =
            (0..3).map(|i| format!(r#"{{"name": "{}"}}"#, Self::archive(i))).collect();
        delivery.put("_manifest.json", format!(r#"{{"archives": [{}]}}"#, promised.join(",")));
        delivery
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("albany/2024-11-05").join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn archive(number: usize) -> String {
        format!("albany_2024-11-05_{number:05}.tar.gz")
    }

    fn bytes(number: usize) -> Vec<u8> {
        std::fs::read(sample().join("albany/2024-11-05").join(Self::archive(number))).unwrap()
    }

    fn put_whole(&self, number: usize) {
        self.put(&Self::archive(number), Self::bytes(number));
    }

    fn put_half(&self, number: usize) {
        let bytes = Self::bytes(number);
        self.put(&Self::archive(number), &bytes[..bytes.len() / 2]);
    }

    /// A file of two nights, whose second has this room.
    fn put_nights(&self, second: &str) {
        let rows = format!("1,2024-11-05,t,$10.00\n{second},2024-11-06,t,$11.00\n");
        self.put("calendar_2024-11-05_more.csv", format!("listing_id,date,available,price\n{rows}"));
    }
}

#[tokio::test]
async fn archives_that_come_late_or_mended_are_taken_and_nothing_is_doubled() {
    let Some(binary) = example("partner_day") else { return };
    let (drop, folder) = (Delivery::new(), tempfile::tempdir().unwrap());
    let rooms = async |warehouse: &Path| {
        let session = open(warehouse).await;
        [content(&session, "rooms.calendar").await, content(&session, "rooms.listings").await]
    };
    // The first is whole, the second cut, the third missing, and one night has no room.
    drop.put_whole(0);
    drop.put_half(1);
    drop.put_nights("x");
    run(&binary, drop.root.path(), folder.path());
    assert_eq!(rooms(folder.path()).await.map(|content| content.rows), [10_585 + 1, 29]);
    let aside = |archive: String, line, reason: &str| (archive, line, reason.to_string());
    let night = "calendar_2024-11-05_more.csv".to_string();
    let expected = [
        aside(Delivery::archive(1), None, "truncated"),
        aside(Delivery::archive(2), None, "missing"),
        aside(night, Some(3), "bad value"),
    ];
    assert_eq!(set_aside(folder.path()).await, expected);

    drop.put_whole(1);
    drop.put_whole(2);
    drop.put_nights("2");
    run(&binary, drop.root.path(), folder.path());
    let whole = rooms(folder.path()).await;
    let of_one_go = tempfile::tempdir().unwrap();
    run(&binary, drop.root.path(), of_one_go.path());
    assert_eq!(whole, rooms(of_one_go.path()).await);
    assert_eq!(whole.clone().map(|content| content.rows), [10_585 + 2 * 10_220 + 2, 29 + 2 * 28]);
    assert_eq!(set_aside(folder.path()).await, []);

    let third = run(&binary, drop.root.path(), folder.path());
    assert!(third.contains("written now: 0 rows"), "{third}");
    assert_eq!(rooms(folder.path()).await, whole);

    // What was taken of an archive stays when it can't be read any more.
    drop.put_half(1);
    std::fs::remove_file(drop.path(&Delivery::archive(2))).unwrap();
    run(&binary, drop.root.path(), folder.path());
    assert_eq!(rooms(folder.path()).await, whole);
    assert_eq!(set_aside(folder.path()).await, expected[..2]);

    // A file that comes again without rows has none any more, of any table.
    let without = drop.path("calendar_2024-11-05_more.csv");
    std::fs::write(without, "listing_id,date,available,price\n").unwrap();
    for archive in [0, 1, 2] {
        std::fs::remove_file(drop.path(&Delivery::archive(archive))).unwrap_or_default();
    }
    run(&binary, drop.root.path(), folder.path());
    let left = rooms(folder.path()).await.map(|content| content.rows);
    assert_eq!(left, [whole[0].rows - 2, whole[1].rows], "the missing archives' rows stay");
}

#[tokio::test]
async fn the_mart_before_a_drop_stays_under_a_tag_of_that_drop() {
    let Some(binary) = example("partner_day") else { return };
    let (drops, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |city: &str, date: &str| {
        let drop = drops.path().join(city).join(date);
        std::fs::create_dir_all(&drop).unwrap();
        std::fs::write(drop.join("_manifest.json"), "{}").unwrap();
        let nights = format!("listing_id,date,available,price\n1,{date},t,$10.00\n");
        std::fs::write(drop.join(format!("calendar_{date}_1.csv")), nights).unwrap();
    };
    // A row for each city that there was.
    let before = async |drop: &str| {
        let mart = open(folder.path()).await.table("marts.nightly").await.unwrap();
        let mart = mart.as_of(format!("before-{drop}").as_str()).unwrap();
        mart.dataframe().await.unwrap().count().await.unwrap()
    };
    put("first", "2024-06-01");
    put("second", "2024-06-02");
    run(&binary, drops.path(), folder.path());
    assert_eq!(before("second-2024-06-02").await, 1);

    put("third", "2024-06-03");
    for _ in 0..2 {
        let printed = run(&binary, drops.path(), folder.path());
        assert!(printed.contains("before third/2024-06-03:"), "{printed}");
        assert_eq!(before("third-2024-06-03").await, 2);
        assert_eq!(before("second-2024-06-02").await, 1);
    }
}

#[tokio::test]
async fn a_table_that_fails_stops_nothing_else() {
    let Some(binary) = example("partner_day") else { return };
    let (drop, folder) = (Delivery::new(), tempfile::tempdir().unwrap());
    (0..3).for_each(|number| drop.put_whole(number));
    // A name that the example has for something else; the tables before and after it are written.
    drop.put("quarantine_2024-11-05_0.csv", "id\n1\n");
    drop.put("reviews_2024-11-05_0.csv", "id,stars\n1,5\n");
    let output = finish(start(&binary, drop.root.path(), folder.path()));
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("albany/2024-11-05 to rooms.quarantine: "), "{errors}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let in_all = printed.split_once("== In all").unwrap().1;
    for table in ["rooms.calendar", "rooms.listings", "rooms.quarantine", "rooms.reviews", "marts.nightly"] {
        assert!(in_all.contains(table), "{printed}");
        assert!(printed.contains(&format!("\n{table}\n  ")), "maintenance of {table}: {printed}");
    }
    let session = open(folder.path()).await;
    assert!(session.catalog().table_exists(&parse_ident("rooms.reviews").unwrap()).await.unwrap());

    // It is tried again as long as it fails, and no longer.
    assert!(!finish(start(&binary, drop.root.path(), folder.path())).status.success());
    std::fs::remove_file(drop.path("quarantine_2024-11-05_0.csv")).unwrap();
    run(&binary, drop.root.path(), folder.path());
    let reviews = session.table("rooms.reviews").await.unwrap().dataframe().await.unwrap();
    let of_five = reviews.filter(col("stars").eq(lit(5))).unwrap();
    assert_eq!(of_five.count().await.unwrap(), 1);
}

/// Numbers from a seed that is printed: `ICEFIELD_SEED` gives the same again.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let set = std::env::var("ICEFIELD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = set.unwrap_or_else(|| u64::from(std::process::id()));
        println!("ICEFIELD_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// `ICEFIELD_KILLS` says how often; a few times by default.
#[tokio::test]
async fn killed_at_any_moment_the_next_run_completes_it() {
    let Some(binary) = example("partner_day") else { return };
    let kills: u32 = std::env::var("ICEFIELD_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut chance = Chance::new();
    let undisturbed = tempfile::tempdir().unwrap();
    let started = Instant::now();
    run(&binary, &sample(), undisturbed.path());
    let duration = started.elapsed();
    let expected = contents(undisturbed.path()).await;

    let mut folder = tempfile::tempdir().unwrap();
    let (mut killed, mut starts) = (0, 0);
    while killed < kills {
        starts += 1;
        assert!(starts <= 20 * kills, "the example ends before it can be killed");
        // Spread over the run, the golden ratio's multiples, each later by chance.
        let spread = f64::from(starts) * 0.618_033_988_749_895;
        let share = (spread + chance.share() / f64::from(kills)).fract();
        let mut child = start(&binary, &sample(), folder.path());
        tokio::time::sleep(duration.mul_f64(share)).await;
        child.kill().unwrap();
        let was_running = !child.wait().unwrap().success();
        killed += u32::from(was_running);
        // Every few kills the road is gone to its end and compared, and a new one begun.
        if killed % 2 == 0 || killed == kills || !was_running {
            run(&binary, &sample(), folder.path());
            assert_eq!(
                contents(folder.path()).await,
                expected,
                "after kill {killed} at {share:.2} of the run"
            );
            folder = tempfile::tempdir().unwrap();
        }
    }
}
