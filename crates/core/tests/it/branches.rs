//! Branches and tags while others commit, and what expiry leaves of idempotency keys on each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::spec::{FormatVersion, NestedField, Operation, Schema, Snapshot, Summary};
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, MemoryCatalog, NamespaceIdent, TableCreation, TableUpdate,
};
use icefield_core::commit::{DeleteBy, Expiry, Overwrite, Transaction};
use icefield_core::evolve::types;
use icefield_core::filter::Filter;
use icefield_core::{ErrorKind, SystemClock, Table};
use icefield_testkit::{CatalogKind, CommitFault, FaultyCatalog};
use object_store::memory::InMemory;

use crate::support::{append, branch_at, file, live, names, tag_at};

async fn table(version: FormatVersion) -> (Arc<MemoryCatalog>, Table) {
    let schema =
        Schema::builder().with_fields([NestedField::optional(1, "id", types::long()).into()]).build();
    crate::support::table(
        SystemClock::shared(),
        version,
        schema.unwrap(),
        None,
        &[("commit.status-check.min-wait-ms", "1")],
    )
    .await
}

async fn expire(catalog: &MemoryCatalog, table: &Table, snapshots: &[i64]) -> Table {
    let expiry = Expiry { snapshots: snapshots.to_vec(), ..Expiry::default() };
    let transaction = Transaction::new(table).expire_snapshots(move |_| Ok(expiry.clone()));
    transaction.commit(catalog).await.unwrap().table
}

/// Whether a batch that comes again is known.
async fn comes_again(catalog: &MemoryCatalog, table: &Table, branch: &str, key: &str) -> bool {
    let again = Transaction::new(table).on_branch(branch).append(vec![file(key)]).idempotency_key(key);
    again.commit(catalog).await.unwrap().already_applied
}

#[tokio::test]
async fn two_writers_of_two_branches_do_not_fail_each_other() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (catalog, t) = table(version).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let t =
            Transaction::new(&t).set_ref("audit", branch_at(first)).commit(&*catalog).await.unwrap().table;
        // Both have seen this table, and neither moves the other's branch.
        append(&catalog, &t, "audit", "b").await;
        let late = Transaction::new(&t).append(vec![file("c")]).commit(&*catalog).await.unwrap();
        assert_eq!(late.attempts, 2, "{version:?}");
        assert_eq!(names(&late.table, "main").await, ["a", "c"]);
        assert_eq!(names(&late.table, "audit").await, ["a", "b"]);
        let numbers: BTreeSet<i64> = late.table.metadata().snapshots().map(|s| s.sequence_number()).collect();
        assert_eq!(numbers.len(), 3, "each snapshot has a sequence number of its own");
        let mut files = live(&late.table, "main").await;
        files.extend(live(&late.table, "audit").await);
        let row_ids: BTreeSet<Option<i64>> = files.iter().map(|f| f.file.first_row_id()).collect();
        assert_eq!(row_ids.len(), if version == FormatVersion::V3 { 3 } else { 1 });
    }
}

#[tokio::test]
async fn a_tag_is_not_a_place_to_commit_to() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    let t = Transaction::new(&t).set_ref("v1", tag_at(second)).commit(&*catalog).await.unwrap().table;
    let on_tag = || Transaction::new(&t).on_branch("v1");
    for transaction in [on_tag().append(vec![file("c")]), on_tag().rollback_to(first)] {
        let error = transaction.commit(&*catalog).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("v1"), "{error}");
    }
}

#[tokio::test]
async fn a_tag_on_a_snapshot_that_expires_meanwhile_is_told_so() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (stale, _) = append(&catalog, &t, "main", "b").await;
    expire(&catalog, &stale, &[first]).await;
    let error = Transaction::new(&stale).set_ref("v1", tag_at(first)).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_key_that_expiry_cuts_off_from_its_branch_is_kept_though_a_tag_keeps_its_snapshot() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let t = Transaction::new(&t).set_ref("v1", tag_at(first)).commit(&*catalog).await.unwrap().table;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    let (t, _) = append(&catalog, &t, "main", "c").await;
    let t = expire(&catalog, &t, &[second]).await;
    assert!(t.metadata().snapshot_by_id(first).is_some());
    for key in ["a", "b", "c"] {
        assert!(comes_again(&catalog, &t, "main", key).await, "{key}");
    }
    // The tag's snapshot goes too: its key is kept already, and once.
    let t = Transaction::new(&t).remove_ref("v1").commit(&*catalog).await.unwrap().table;
    let t = expire(&catalog, &t, &[first]).await;
    assert!(comes_again(&catalog, &t, "main", "a").await);
    assert_eq!(t.property("icefield.idempotency.expired-keys.main"), Some(r#"["a","b"]"#));
}

#[tokio::test]
async fn a_new_branch_has_the_expired_keys_of_the_branch_that_it_comes_from() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    let t = expire(&catalog, &t, &[first]).await;
    let t = Transaction::new(&t).set_ref("audit", branch_at(second)).commit(&*catalog).await.unwrap().table;
    assert!(comes_again(&catalog, &t, "audit", "a").await);
    assert_eq!(names(&t, "audit").await, ["a", "b"]);
}

#[tokio::test]
async fn a_created_branch_is_a_new_one_and_has_the_expired_keys() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (stale, second) = append(&catalog, &t, "main", "b").await;
    // The branch is made of a table that has not seen the expiry.
    let t = expire(&catalog, &stale, &[first]).await;
    let create = |t: &Table, name: &str| Transaction::new(t).create_ref(name, branch_at(second));
    let t = {
        let done = create(&stale, "audit").commit(&*catalog).await.unwrap();
        assert_eq!((done.attempts, t.metadata().snapshots().len()), (2, 1));
        done.table
    };
    assert!(comes_again(&catalog, &t, "audit", "a").await);
    assert_eq!(names(&t, "audit").await, ["a", "b"]);
    for (table, name) in [(&t, "audit"), (&stale, "audit"), (&t, "main")] {
        let error = create(table, name).commit(&*catalog).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name}: {error}");
    }
    let gone = Transaction::new(&t).create_ref("old", tag_at(first)).commit(&*catalog).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_branch_is_set_and_written_to_in_one_transaction() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    let replace =
        |name: &str| Overwrite { delete: DeleteBy::Filter(Filter::True), add: vec![file(name)], reads: None };
    let create = Transaction::new(&t).create_ref("audit", branch_at(second)).on_branch("audit");
    let t = create.overwrite(replace("c")).append(vec![file("d")]).commit(&*catalog).await.unwrap().table;
    assert_eq!((names(&t, "audit").await, names(&t, "main").await.len()), (vec!["c".into(), "d".into()], 2));
    let back = Transaction::new(&t).rollback_to(first).overwrite(replace("e"));
    let t = back.commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["e"]);
    let parent = t.metadata().current_snapshot().unwrap().parent_snapshot_id();
    assert_eq!(parent, Some(first));
}

#[tokio::test]
async fn a_branch_that_is_made_anew_does_not_have_the_keys_of_the_one_before() {
    for dropped_by_expiry in [false, true] {
        let (catalog, t) = table(FormatVersion::V2).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let t =
            Transaction::new(&t).set_ref("audit", branch_at(first)).commit(&*catalog).await.unwrap().table;
        let (t, gone) = append(&catalog, &t, "audit", "x").await;
        let (t, _) = append(&catalog, &t, "audit", "y").await;
        let t = expire(&catalog, &t, &[gone]).await;
        assert!(comes_again(&catalog, &t, "audit", "x").await);
        let drop = Transaction::new(&t);
        let drop = match dropped_by_expiry {
            true => drop.expire_snapshots(|_| Ok(Expiry { refs: vec!["audit".into()], ..Expiry::default() })),
            false => drop.remove_ref("audit"),
        };
        let t = drop.commit(&*catalog).await.unwrap().table;
        let t =
            Transaction::new(&t).set_ref("audit", branch_at(first)).commit(&*catalog).await.unwrap().table;
        let (t, _) = append(&catalog, &t, "audit", "x").await;
        assert_eq!(names(&t, "audit").await, ["a", "x"]);
    }
}

#[tokio::test]
async fn of_two_expiries_at_the_same_time_neither_forgets_the_other_ones_keys() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    let (stale, _) = append(&catalog, &t, "main", "c").await;
    expire(&catalog, &stale, &[first, second]).await;
    let t = expire(&catalog, &stale, &[first]).await;
    for key in ["a", "b", "c"] {
        assert!(comes_again(&catalog, &t, "main", key).await, "{key}");
    }
}

#[tokio::test]
async fn expiries_of_different_snapshots_at_the_same_time_keep_the_keys_of_both() {
    for in_order in [false, true] {
        let (catalog, t) = table(FormatVersion::V2).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let (t, second) = append(&catalog, &t, "main", "b").await;
        let (stale, _) = append(&catalog, &t, "main", "c").await;
        let (one, other) = if in_order { (first, second) } else { (second, first) };
        expire(&catalog, &stale, &[one]).await;
        let t = expire(&catalog, &stale, &[other]).await;
        assert_eq!(t.property("icefield.idempotency.expired-keys.main"), Some(r#"["a","b"]"#));
        for key in ["a", "b", "c"] {
            assert!(comes_again(&catalog, &t, "main", key).await, "{key}");
        }
    }
}

#[tokio::test]
async fn a_branch_that_is_made_while_its_origin_expires_has_all_of_its_keys() {
    for expired_first in [false, true] {
        let (catalog, t) = table(FormatVersion::V2).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let (stale, second) = append(&catalog, &t, "main", "b").await;
        let branch = || Transaction::new(&stale).set_ref("audit", branch_at(second)).commit(&*catalog);
        let t = match expired_first {
            true => {
                expire(&catalog, &stale, &[first]).await;
                branch().await.unwrap().table
            }
            false => {
                branch().await.unwrap();
                expire(&catalog, &stale, &[first]).await
            }
        };
        for name in ["main", "audit"] {
            assert!(comes_again(&catalog, &t, name, "a").await, "{name}, expired first: {expired_first}");
        }
    }
}

#[tokio::test]
async fn a_long_write_is_committed_though_all_that_it_began_with_has_expired() {
    let (catalog, t) = table(FormatVersion::V2).await;
    let (began, first) = append(&catalog, &t, "main", "a").await;
    let (t, _) = append(&catalog, &began, "main", "b").await;
    let t = expire(&catalog, &t, &[first]).await;
    let gone = began.metadata().current_snapshot().unwrap().manifest_list();
    t.storage().delete(gone).await.unwrap();
    let done = Transaction::new(&began).append(vec![file("c")]).commit(&*catalog).await.unwrap();
    assert_eq!(names(&done.table, "main").await, ["a", "b", "c"]);
    // What is not there in the table as it is now is told as before.
    let nowhere = Transaction::new(&began).on_branch("none").append(vec![file("d")]);
    assert_eq!(nowhere.commit(&*catalog).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// What the writer would take for a batch that someone else applied, and delete, is in the table.
#[tokio::test]
async fn a_commit_that_was_done_and_expired_before_it_was_looked_for_is_not_taken_for_undone() {
    for key in [true, false] {
        let (catalog, t) = table(FormatVersion::V2).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let faulty = FaultyCatalog::new(catalog.clone());
        faulty.queue([CommitFault::LostAnswer]);
        let (others, ident) = (catalog.clone(), t.ident().clone());
        faulty.meanwhile(async move {
            // Another commit, and an expiry that leaves only that.
            let t = others.load_table(&ident).await.unwrap();
            let head = t.metadata().current_snapshot().unwrap();
            let next = Snapshot::builder()
                .with_snapshot_id(7)
                .with_parent_snapshot_id(Some(head.snapshot_id()))
                .with_sequence_number(t.metadata().next_sequence_number())
                .with_timestamp_ms(t.metadata().last_updated_ms() + 1)
                .with_manifest_list(head.manifest_list())
                .with_summary(Summary {
                    operation: Operation::Replace,
                    additional_properties: HashMap::new(),
                })
                .build();
            let keys = ("icefield.idempotency.expired-keys.main".to_string(), r#"["a","b"]"#.to_string());
            let updates = vec![
                TableUpdate::AddSnapshot { snapshot: next },
                TableUpdate::SetSnapshotRef { ref_name: "main".to_string(), reference: branch_at(7) },
                TableUpdate::SetProperties { updates: [keys].into() },
                TableUpdate::RemoveSnapshots { snapshot_ids: vec![first, head.snapshot_id()] },
            ];
            let request = CommitRequest { ident, expect: Expect::Requirements(Vec::new()), updates };
            assert!(matches!(others.commit(vec![request]).await, CommitOutcome::Done(_)));
        });
        let append = Transaction::new(&t).append(vec![file("b")]);
        let append = if key { append.idempotency_key("b") } else { append };
        let error = append.commit(&faulty).await.unwrap_err();
        assert!(error.is_commit_state_unknown(), "{error}");
        let t = catalog.load_table(t.ident()).await.unwrap();
        assert_eq!(names(&t, "main").await, ["a", "b"]);
        assert!(comes_again(&catalog, &t, "main", "b").await);
    }
}

/// Of a limit: see docs/known-limits.md.
#[tokio::test]
async fn a_reference_made_meanwhile_is_lost_with_its_snapshot() {
    for kind in CatalogKind::ALL {
        let catalog = kind.open("memory://w", Arc::new(InMemory::new()), SystemClock::shared());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let fields = [NestedField::optional(1, "id", types::long()).into()];
        let schema = Schema::builder().with_fields(fields).build().unwrap();
        let creation = TableCreation::builder().name("t".to_string()).schema(schema).build();
        let t = catalog.create_table(&namespace, creation).await.unwrap();
        let appended = Transaction::new(&t).append(vec![file("a")]).commit(&*catalog).await.unwrap();
        let first = appended.snapshot_id.unwrap();
        let seen = Transaction::new(&appended.table).append(vec![file("b")]).commit(&*catalog).await.unwrap();
        let made = Transaction::new(&seen.table).set_ref("late", tag_at(first)).commit(&*catalog).await;
        assert!(made.unwrap().table.reference("late").is_some());

        // From the table as it was before.
        let expiry = Expiry { snapshots: vec![first], ..Expiry::default() };
        let expire = Transaction::new(&seen.table).expire_snapshots(move |_| Ok(expiry.clone()));
        let outcome = expire.commit(&*catalog).await;
        let now = catalog.load_table(t.ident()).await.unwrap();
        match kind {
            CatalogKind::Pointers => {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
                assert!(now.reference("late").is_some());
            }
            CatalogKind::Requirements => {
                assert!(outcome.unwrap().table.reference("late").is_none());
                assert!(now.metadata().snapshot_by_id(first).is_none());
            }
        }
    }
}
