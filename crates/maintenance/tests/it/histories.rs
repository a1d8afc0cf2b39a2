//! Random histories: whatever is done to a table, in whatever order, no file that one of its snapshots needs is ever
//! deleted. Every failure names its seed; `ICEFIELD_SEEDS` is how many are tried.

use std::collections::BTreeSet;

use iceberg::spec::{FormatVersion, SnapshotReference, SnapshotRetention};
use icefield_core::commit::{DeleteBy, Overwrite, Rewrite, Transaction};
use icefield_core::format::LiveFile;
use icefield_core::{Clock, ErrorKind};
use icefield_maintenance::{days, minutes};
use icefield_testkit::{CommitFault, FakeClock};

use crate::world::{World, litter, live_files};

const STEPS: usize = 30;

pub(crate) struct Random(pub(crate) FakeClock);

impl Random {
    pub(crate) fn below(&self, n: usize) -> usize {
        (self.0.random() % n.max(1) as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).cloned()
    }
}

async fn run(seed: u64) {
    let version = [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3][seed as usize % 3];
    let w = World::with(version, &[("commit.manifest.min-count-to-merge", "3")]).await;
    let random = Random(FakeClock::new(seed));
    let mut log = Vec::new();
    for step in 0..STEPS {
        let table = w.table().await;
        let branches: Vec<String> = table
            .references()
            .iter()
            .filter(|(_, r)| matches!(r.retention, SnapshotRetention::Branch { .. }))
            .map(|(name, _)| name.clone())
            .collect();
        let branch = random.pick(&branches).unwrap_or("main".to_string());
        let live = live_files(&table, &branch).await;
        let snapshots: Vec<i64> = table.metadata().snapshots().map(|s| s.snapshot_id()).collect();
        let chosen: Vec<LiveFile> = live.iter().filter(|_| random.below(3) == 0).cloned().collect();
        if random.below(12) == 0 {
            w.catalog
                .queue([[CommitFault::Conflict, CommitFault::LostAnswer, CommitFault::LostRequest]
                    [random.below(3)]]);
        }
        let name = format!("s{step}");
        let action = random.below(13);
        log.push(format!("{step}: {action} on {branch}"));
        let transaction = Transaction::new(&table).on_branch(&branch);
        let outcome = match action {
            0..=3 => {
                let files = w.files(&[&name, &format!("{name}b")]).await;
                commit(&w, transaction.append(files)).await
            }
            4 => {
                let add = w.files(&[&name]).await;
                let overwrite = Overwrite {
                    delete: DeleteBy::Files(chosen.iter().map(Into::into).collect()),
                    add,
                    reads: None,
                };
                commit(&w, transaction.overwrite(overwrite)).await
            }
            5 if !chosen.is_empty() => {
                let add = w.files(&[&name]).await;
                commit(
                    &w,
                    transaction.rewrite_files(Rewrite {
                        delete: chosen.iter().map(Into::into).collect(),
                        add,
                        sequence_number: None,
                    }),
                )
                .await
            }
            6 => match random.pick(&snapshots) {
                Some(id) => {
                    let retention = match random.below(2) {
                        0 => SnapshotRetention::Tag { max_ref_age_ms: None },
                        _ => SnapshotRetention::branch(
                            Some(1 + random.below(3) as i32),
                            None,
                            Some(days(20).as_millis() as i64),
                        ),
                    };
                    commit(&w, transaction.set_ref(name, SnapshotReference::new(id, retention))).await
                }
                None => Ok(()),
            },
            7 => {
                let others: Vec<_> =
                    table.references().iter().filter(|(n, _)| n != "main").map(|(n, _)| n.clone()).collect();
                match random.pick(&others) {
                    Some(name) => commit(&w, transaction.remove_ref(name)).await,
                    None => Ok(()),
                }
            }
            8 => match table.metadata().snapshot_for_ref(&branch).and_then(|s| s.parent_snapshot_id()) {
                Some(parent) if snapshots.contains(&parent) => {
                    commit(&w, transaction.rollback_to(parent)).await
                }
                _ => Ok(()),
            },
            9 => match random.pick(&snapshots) {
                Some(id) => w.expire().await.older_than(days(30)).snapshot_ids([id]).await.map(drop),
                None => Ok(()),
            },
            10 | 11 => {
                w.expire().await.older_than(minutes(1)).retain_last(1 + random.below(3)).await.map(drop)
            }
            _ => {
                litter(&w.storage, "memory://w/db/t/data", &[&format!("litter-{step}")]).await;
                w.remove_orphans().await.await.map(drop)
            }
        };
        if let Err(e) = outcome {
            let expected = [ErrorKind::InvalidInput, ErrorKind::CommitStateUnknown, ErrorKind::Conflict];
            assert!(expected.contains(&e.kind()), "seed {seed}: {e:?}\n{log:#?}");
        }
        let check = w.check().await;
        assert!(check.is_ok(), "seed {seed}: {}\n{log:#?}", check.unwrap_err());
    }
    // At the end nothing is left but what the table reaches and what its earlier metadata files name.
    w.expire().await.older_than(minutes(1)).await.unwrap();
    w.remove_orphans().await.await.unwrap();
    let again = w.remove_orphans().await.await.unwrap();
    assert_eq!(again.orphans, [], "seed {seed}");
    let listed: BTreeSet<String> = w.stored().await;
    assert_eq!(listed.len() as u64, again.reachable.files + again.kept.len() as u64);
    assert!(w.check().await.is_ok());
}

async fn commit(w: &World, transaction: Transaction) -> icefield_core::Result<()> {
    w.present().await;
    transaction.commit(&*w.catalog).await.map(drop)
}

#[tokio::test]
async fn no_file_that_a_snapshot_needs_is_ever_deleted() {
    let seeds = std::env::var("ICEFIELD_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        run(seed).await;
    }
}
