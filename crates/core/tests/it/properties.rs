//! Table properties that say how commits are done (`commit.*`).

use std::time::Duration;

use iceberg::spec::{FormatVersion, NestedField, Schema};
use icefield_core::commit::{Committed, Transaction};
use icefield_core::evolve::types;
use icefield_core::format::load_manifest_list;
use icefield_core::{ErrorKind, Result, SystemClock};
use icefield_testkit::{CommitFault, FakeClock, FaultyCatalog};

use crate::support::{file, names, table};

fn schema() -> Schema {
    Schema::builder().with_fields([NestedField::optional(1, "id", types::long()).into()]).build().unwrap()
}

#[tokio::test]
async fn manifests_are_merged_up_to_their_target_size() {
    // A manifest of one file has some thousands of bytes.
    for (target, manifests) in [("1", 6), ("1000000", 1)] {
        let properties =
            [("commit.manifest.min-count-to-merge", "2"), ("commit.manifest.target-size-bytes", target)];
        let clock = SystemClock::shared();
        let (catalog, mut t) = table(clock, FormatVersion::V2, schema(), None, &properties).await;
        for name in ["a", "b", "c", "d", "e", "f"] {
            t = Transaction::new(&t).append(vec![file(name)]).commit(&*catalog).await.unwrap().table;
        }
        let listed = load_manifest_list(t.storage(), t.metadata().current_snapshot().unwrap()).await.unwrap();
        assert_eq!(listed.len(), manifests, "a target of {target} bytes");
        assert_eq!(names(&t, "main").await, ["a", "b", "c", "d", "e", "f"]);
    }
}

/// An append to a table with these properties that loses this many races, and how long it slept between its tries.
async fn raced(properties: &[(&str, &str)], races: usize) -> (Result<Committed>, Vec<Duration>) {
    let clock = FakeClock::new(7);
    let (catalog, t) = table(clock.shared(), FormatVersion::V2, schema(), None, properties).await;
    let t = Transaction::new(&t).append(vec![file("b")]).commit(&*catalog).await.unwrap().table;
    let catalog = FaultyCatalog::new(catalog);
    catalog.queue(vec![CommitFault::LostRace; races]);
    let outcome = Transaction::new(&t).append(vec![file("a")]).commit(&catalog).await;
    (outcome, clock.sleeps())
}

#[tokio::test]
async fn waits_between_tries_double_from_the_least_to_the_most() {
    let properties = [("commit.retry.min-wait-ms", "1000"), ("commit.retry.max-wait-ms", "5000")];
    let (outcome, sleeps) = raced(&properties, 6).await;
    assert_eq!(outcome.unwrap().attempts, 7);
    let most = [1000, 2000, 4000, 5000, 5000, 5000].map(Duration::from_millis);
    assert_eq!(sleeps.len(), most.len());
    for (slept, most) in sleeps.iter().zip(most) {
        // With jitter, so that writers that collided part.
        assert!(*slept <= most && *slept >= most / 10, "{sleeps:?}");
    }
}

#[tokio::test]
async fn a_commit_that_loses_every_race_gives_up_once_its_time_is_over() {
    let properties = [
        ("commit.retry.min-wait-ms", "4000"),
        ("commit.retry.max-wait-ms", "4000"),
        ("commit.retry.total-timeout-ms", "60000"),
    ];
    let (outcome, sleeps) = raced(&properties, 1000).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let tries = (sleeps.len() + 1).to_string();
    assert!(error.context().any(|(key, value)| (key, value) == ("attempts", &tries)), "{error}");
    let slept: Duration = sleeps.iter().sum();
    assert!((Duration::from_secs(60)..Duration::from_secs(64)).contains(&slept), "{slept:?}");
}
