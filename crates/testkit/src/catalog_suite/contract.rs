//! The contract that every catalog keeps, wherever it has its metadata.

use std::collections::HashMap;
use std::sync::Arc;

use icefield_core::ErrorKind;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, TableIdent, TableRequirement, TableUpdate,
};
use icefield_core::storage::join;

use super::steps::{
    below, bump, commit, contend, creation, fresh, kind, namespace, pause, properties, set_property,
};

/// Every story, in order.
pub async fn run(catalog: Arc<dyn Catalog>) {
    namespaces_nest_and_list_their_children(&*catalog).await;
    namespace_properties_are_set_and_removed(&*catalog).await;
    a_namespace_is_dropped_only_when_it_is_empty(&*catalog).await;
    names_that_cannot_be_stored_are_refused(&*catalog).await;
    unusual_names_are_kept_apart(&*catalog).await;
    a_table_is_created_listed_loaded_and_dropped(&*catalog).await;
    missing_things_are_not_found_by_name(&*catalog).await;
    a_staged_table_is_seen_once_it_is_committed(&*catalog).await;
    a_staged_table_is_created_with_its_updates(&*catalog).await;
    a_tables_own_storage_reaches_its_files(&*catalog).await;
    a_second_table_of_a_name_is_refused(&*catalog).await;
    a_table_moves_to_another_name_and_namespace(&*catalog).await;
    a_name_that_was_renamed_away_gets_files_of_its_own(&*catalog).await;
    a_dropped_table_is_registered_again(&*catalog).await;
    a_commit_changes_the_table_that_is_loaded(&*catalog).await;
    a_requirement_that_does_not_hold_is_a_conflict(&*catalog).await;
    a_table_that_is_not_unchanged_is_a_conflict(&*catalog).await;
    a_commit_to_a_table_that_was_replaced_is_a_conflict(&*catalog).await;
    what_is_not_guaranteed_fails_and_changes_nothing(&*catalog).await;
    several_tables_commit_together_or_not_at_all(&*catalog).await;
    a_commit_names_each_table_once(&*catalog).await;
    an_update_that_cannot_be_applied_fails_and_changes_nothing(&*catalog).await;
    of_two_creators_one_wins(catalog.clone()).await;
    commits_of_two_tables_in_either_order_get_along(catalog.clone()).await;
    a_commit_that_is_dropped_half_way_leaves_a_catalog_that_works(catalog.clone()).await;
    contend(catalog, 16, 10).await;
}

async fn namespaces_nest_and_list_their_children(catalog: &dyn Catalog) {
    let top = fresh(catalog, "nest").await;
    let deep = below(&below(&top, "b"), "c");
    catalog.create_namespace(&deep, HashMap::new()).await.expect("with the levels above");
    assert!(catalog.namespace_exists(&below(&top, "b")).await.unwrap(), "the level above exists");
    catalog.create_namespace(&below(&top, "a"), HashMap::new()).await.unwrap();
    assert_eq!(catalog.list_namespaces(Some(&top)).await.unwrap(), [below(&top, "a"), below(&top, "b")]);
    assert_eq!(
        catalog.list_namespaces(Some(&below(&top, "b"))).await.unwrap(),
        [below(&below(&top, "b"), "c")]
    );
    assert_eq!(catalog.list_namespaces(Some(&deep)).await.unwrap(), []);
    let tops = catalog.list_namespaces(None).await.unwrap();
    assert!(tops.contains(&top) && tops.iter().all(|n| n.len() == 1), "{tops:?}");
    let mut sorted = tops.clone();
    sorted.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    assert_eq!(tops, sorted, "in order of their names");

    catalog.drop_namespace(&deep).await.unwrap();
    assert!(catalog.namespace_exists(&below(&top, "b")).await.unwrap(), "the level above stays");
    let created = catalog.create_namespace(&top, HashMap::new()).await;
    kind(created, ErrorKind::AlreadyExists, &top.to_string());
    kind(catalog.list_namespaces(Some(&deep)).await, ErrorKind::NotFound, &deep.to_string());
}

async fn namespace_properties_are_set_and_removed(catalog: &dyn Catalog) {
    let top = fresh(catalog, "properties").await;
    assert_eq!(catalog.namespace_properties(&top).await.unwrap(), HashMap::new());
    let ns = below(&top, "n");
    catalog.create_namespace(&ns, properties(&[("owner", "ann"), ("tier", "1")])).await.unwrap();
    assert_eq!(
        catalog.namespace_properties(&ns).await.unwrap(),
        properties(&[("owner", "ann"), ("tier", "1")])
    );
    let set = properties(&[("owner", "bob's \"team\""), ("note", "")]);
    catalog.update_namespace(&ns, set, vec!["tier".into(), "never-set".into()]).await.unwrap();
    let now = properties(&[("owner", "bob's \"team\""), ("note", "")]);
    assert_eq!(catalog.namespace_properties(&ns).await.unwrap(), now);

    let both = catalog.update_namespace(&ns, properties(&[("owner", "x")]), vec!["owner".into()]).await;
    kind(both, ErrorKind::InvalidInput, "owner");
    catalog.update_namespace(&ns, HashMap::new(), vec!["owner".into(), "note".into()]).await.unwrap();
    assert_eq!(catalog.namespace_properties(&ns).await.unwrap(), HashMap::new());
    assert!(catalog.namespace_exists(&ns).await.unwrap(), "a namespace outlives its last property");
}

async fn a_namespace_is_dropped_only_when_it_is_empty(catalog: &dyn Catalog) {
    let top = fresh(catalog, "drop").await;
    let inner = below(&top, "inner");
    catalog.create_namespace(&inner, properties(&[("a", "1"), ("b", "2")])).await.unwrap();
    kind(catalog.drop_namespace(&top).await, ErrorKind::InvalidInput, &top.to_string());
    let table = catalog.create_table(&inner, creation("t")).await.unwrap();
    kind(catalog.drop_namespace(&inner).await, ErrorKind::InvalidInput, &inner.to_string());
    assert_eq!(
        catalog.namespace_properties(&inner).await.unwrap().len(),
        2,
        "a refused drop takes nothing with it"
    );
    catalog.drop_table(table.ident()).await.unwrap();
    catalog.drop_namespace(&inner).await.unwrap();
    catalog.drop_namespace(&top).await.unwrap();
    assert!(!catalog.namespace_exists(&top).await.unwrap());
    kind(catalog.drop_namespace(&top).await, ErrorKind::NotFound, &top.to_string());
}

async fn names_that_cannot_be_stored_are_refused(catalog: &dyn Catalog) {
    let top = fresh(catalog, "refused").await;
    for level in ["", "a.b", "a/b", "a\\b", "line\nbreak", "nul\0"] {
        let created = catalog.create_namespace(&namespace(&[level]), HashMap::new()).await;
        kind(created, ErrorKind::InvalidInput, "");
    }
    for name in ["", ".", "..", "a/b", "../up", "a\\b", "line\nbreak", "nul\0"] {
        kind(catalog.create_table(&top, creation(name)).await, ErrorKind::InvalidInput, "");
        let table = catalog.create_table(&top, creation("t")).await.unwrap();
        let bad = TableIdent::new(top.clone(), name.to_string());
        kind(catalog.rename_table(table.ident(), &bad).await, ErrorKind::InvalidInput, "");
        kind(catalog.register_table(&bad, table.metadata_location()).await, ErrorKind::InvalidInput, "");
        catalog.drop_table(table.ident()).await.unwrap();
    }
    assert_eq!(catalog.list_tables(&top).await.unwrap(), []);
}

/// Names that a query which pastes text, matches patterns or ignores case would mix up.
async fn unusual_names_are_kept_apart(catalog: &dyn Catalog) {
    let top = fresh(catalog, "unusual").await;
    let levels = ["n_1", "nx1", "N_1", "n%", "n", "it's", "日本", "with space", "a\"b"];
    for level in levels {
        catalog.create_namespace(&below(&top, level), HashMap::new()).await.unwrap();
        catalog.create_namespace(&below(&below(&top, level), "inner"), HashMap::new()).await.unwrap();
    }
    assert_eq!(catalog.list_namespaces(Some(&top)).await.unwrap().len(), levels.len());
    for level in levels {
        let ns = below(&top, level);
        assert_eq!(catalog.list_namespaces(Some(&ns)).await.unwrap(), [below(&ns, "inner")]);
        catalog.drop_namespace(&below(&ns, "inner")).await.unwrap();
        assert_eq!(catalog.list_namespaces(Some(&ns)).await.unwrap(), []);
        for name in ["T", "t", "it's", "t_1", "t%", "日本", "with space", "a.b", "$1", "?"] {
            let table = catalog.create_table(&ns, creation(name)).await.unwrap();
            assert_eq!(table.ident().name(), name);
            let loaded = catalog.load_table(table.ident()).await.unwrap();
            assert_eq!(loaded.metadata().uuid(), table.metadata().uuid(), "{level}.{name}");
        }
        let names: Vec<_> =
            catalog.list_tables(&ns).await.unwrap().iter().map(|t| t.name().to_string()).collect();
        assert_eq!(names, ["$1", "?", "T", "a.b", "it's", "t", "t%", "t_1", "with space", "日本"]);
    }
    assert!(!catalog.namespace_exists(&below(&top, "n_2")).await.unwrap());
    assert!(!catalog.table_exists(&TableIdent::new(below(&top, "n"), "T%".into())).await.unwrap());
}

async fn a_table_is_created_listed_loaded_and_dropped(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "life").await;
    let mut wanted = creation("b");
    wanted.properties = properties(&[("write.parquet.compression-codec", "zstd")]);
    let table = catalog.create_table(&ns, wanted).await.unwrap();
    catalog.create_table(&ns, creation("a")).await.unwrap();
    catalog.create_namespace(&below(&ns, "inner"), HashMap::new()).await.unwrap();
    catalog.create_table(&below(&ns, "inner"), creation("c")).await.unwrap();
    let names: Vec<_> =
        catalog.list_tables(&ns).await.unwrap().iter().map(|t| t.name().to_string()).collect();
    assert_eq!(names, ["a", "b"], "in order of their names, none of the namespaces below");

    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata(), table.metadata());
    assert_eq!(loaded.metadata_location(), table.metadata_location());
    assert_eq!(loaded.property("write.parquet.compression-codec"), Some("zstd"));
    assert!(loaded.metadata().current_snapshot().is_none());
    assert!(catalog.table_exists(table.ident()).await.unwrap());

    catalog.drop_table(table.ident()).await.unwrap();
    assert!(!catalog.table_exists(table.ident()).await.unwrap());
    assert_eq!(catalog.list_tables(&ns).await.unwrap().len(), 1);
    assert!(
        table.storage().exists(table.metadata_location()).await.unwrap(),
        "dropping a table keeps its files"
    );
    let again = catalog.create_table(&ns, creation("b")).await.unwrap();
    assert_ne!(again.metadata().uuid(), table.metadata().uuid());
}

async fn missing_things_are_not_found_by_name(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "missing").await;
    let no_ns = namespace(&["no_such_namespace"]);
    let no_table = TableIdent::new(ns.clone(), "no_such_table".into());
    let nowhere = TableIdent::new(no_ns.clone(), "t".into());
    let there = catalog.create_table(&ns, creation("t")).await.unwrap();
    let missing = ErrorKind::NotFound;

    kind(catalog.namespace_properties(&no_ns).await, missing, "no_such_namespace");
    kind(catalog.update_namespace(&no_ns, HashMap::new(), vec![]).await, missing, "no_such_namespace");
    kind(catalog.drop_namespace(&no_ns).await, missing, "no_such_namespace");
    kind(catalog.list_tables(&no_ns).await, missing, "no_such_namespace");
    kind(catalog.list_namespaces(Some(&no_ns)).await, missing, "no_such_namespace");
    kind(catalog.create_table(&no_ns, creation("t")).await, missing, "no_such_namespace");
    kind(catalog.register_table(&nowhere, there.metadata_location()).await, missing, "no_such_namespace");
    kind(catalog.rename_table(there.ident(), &nowhere).await, missing, "no_such_namespace");
    kind(catalog.load_table(&no_table).await, missing, "no_such_table");
    kind(catalog.load_table(&nowhere).await, missing, "no_such_namespace");
    kind(catalog.drop_table(&no_table).await, missing, "no_such_table");
    kind(catalog.rename_table(&no_table, there.ident()).await, missing, "no_such_table");
    kind(catalog.rename_table(&no_table, &no_table).await, missing, "no_such_table");
    let no_file = format!("{}/metadata/no_such_file.metadata.json", there.metadata().location());
    kind(catalog.register_table(&no_table, &no_file).await, missing, "no_such_file");
    assert!(!catalog.table_exists(&no_table).await.unwrap());
    assert!(!catalog.table_exists(&nowhere).await.unwrap());
    assert!(!catalog.namespace_exists(&no_ns).await.unwrap());

    let expect = Expect::Requirements(vec![]);
    match catalog.commit(vec![CommitRequest { ident: no_table, expect, updates: vec![] }]).await {
        CommitOutcome::Failed(error) => kind::<()>(Err(error), missing, "no_such_table"),
        other => panic!("expected a failure: {other:?}"),
    }
}

async fn a_second_table_of_a_name_is_refused(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "twice").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut same_place = creation("t");
    same_place.location = Some(table.metadata().location().to_string());
    kind(catalog.create_table(&ns, same_place).await, ErrorKind::AlreadyExists, &table.ident().to_string());
    let registered = catalog.register_table(table.ident(), table.metadata_location()).await;
    kind(registered, ErrorKind::AlreadyExists, &table.ident().to_string());
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

async fn a_table_moves_to_another_name_and_namespace(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "rename").await;
    let other = below(&ns, "other");
    catalog.create_namespace(&other, HashMap::new()).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let taken = catalog.create_table(&other, creation("taken")).await.unwrap();
    let moved = TableIdent::new(other.clone(), "moved".into());

    let refused = catalog.rename_table(table.ident(), taken.ident()).await;
    kind(refused, ErrorKind::AlreadyExists, "taken");
    assert!(catalog.table_exists(table.ident()).await.unwrap());
    catalog.rename_table(table.ident(), table.ident()).await.expect("to its own name: nothing happens");
    catalog.rename_table(table.ident(), &moved).await.unwrap();
    assert!(!catalog.table_exists(table.ident()).await.unwrap());
    let loaded = catalog.load_table(&moved).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
    assert_eq!(loaded.ident(), &moved);
    let updated = commit(catalog, set_property(&loaded, "after", "rename")).await;
    assert_eq!(catalog.load_table(&moved).await.unwrap().metadata_location(), updated.metadata_location());
}

/// Two tables in one folder would take each other's files for orphans.
async fn a_name_that_was_renamed_away_gets_files_of_its_own(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "reuse").await;
    let first = catalog.create_table(&ns, creation("t")).await.unwrap();
    catalog.rename_table(first.ident(), &TableIdent::new(ns.clone(), "old".into())).await.unwrap();
    let second = catalog.create_table(&ns, creation("t")).await.unwrap();
    assert_ne!(first.metadata().location(), second.metadata().location());
    assert!(!second.metadata_location().starts_with(&format!("{}/", first.metadata().location())));
}

async fn a_dropped_table_is_registered_again(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "register").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let table = commit(catalog, set_property(&table, "kept", "yes")).await;
    catalog.drop_table(table.ident()).await.unwrap();
    let ident = TableIdent::new(ns, "back".into());
    let back = catalog.register_table(&ident, table.metadata_location()).await.unwrap();
    assert_eq!((back.ident(), back.metadata()), (&ident, table.metadata()));
    let back = commit(catalog, set_property(&back, "again", "yes")).await;
    assert_eq!(back.property("kept"), Some("yes"));
}

async fn a_commit_changes_the_table_that_is_loaded(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "commit").await;
    let first = catalog.create_table(&ns, creation("t")).await.unwrap();
    let second = commit(catalog, set_property(&first, "step", "1")).await;
    let third = commit(catalog, set_property(&second, "step", "2")).await;
    assert_eq!(third.property("step"), Some("2"));
    let loaded = catalog.load_table(first.ident()).await.unwrap();
    assert_eq!(loaded.metadata(), third.metadata());
    assert_eq!(loaded.metadata_location(), third.metadata_location());
    assert_ne!(loaded.metadata_location(), second.metadata_location(), "what changed is elsewhere");
    match catalog.commit(vec![]).await {
        CommitOutcome::Done(tables) => assert!(tables.is_empty()),
        other => panic!("a commit of nothing is done: {other:?}"),
    }
}

async fn a_requirement_that_does_not_hold_is_a_conflict(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "requirement").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut request = set_property(&table, "a", "b");
    let head = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(17) };
    request.expect = Expect::Requirements(vec![head]);
    conflicts(catalog.commit(vec![request]).await, ErrorKind::Conflict, table.ident());
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

fn conflicts(outcome: CommitOutcome, expected: ErrorKind, ident: &TableIdent) {
    match outcome {
        CommitOutcome::Conflict(error) => kind::<()>(Err(error), expected, &ident.to_string()),
        other => panic!("expected a conflict: {other:?}"),
    }
}

/// In the words that the catalog understands.
async fn a_table_that_is_not_unchanged_is_a_conflict(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "unchanged").await;
    let first = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut request = set_property(&first, "a", "b");
    request.expect = Expect::whole(&first, catalog.guarantees());
    let second = commit(catalog, request.clone()).await;
    if catalog.guarantees().unchanged {
        conflicts(catalog.commit(vec![request.clone()]).await, ErrorKind::Conflict, first.ident());
    }
    catalog.drop_table(second.ident()).await.unwrap();
    catalog.create_table(&ns, creation("t")).await.unwrap();
    conflicts(catalog.commit(vec![request]).await, ErrorKind::Conflict, first.ident());
}

async fn a_staged_table_is_seen_once_it_is_committed(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "staged").await;
    let staged = catalog.stage_table(&ns, creation("t")).await.unwrap();
    assert!(staged.is_new() && !catalog.table_exists(staged.ident()).await.unwrap());
    assert_eq!(catalog.list_tables(&ns).await.unwrap(), []);
    kind(catalog.load_table(staged.ident()).await, ErrorKind::NotFound, "t");
    let (ident, expect) = (staged.ident().clone(), Expect::Absent(staged.clone()));
    let request = CommitRequest { ident, expect, updates: vec![] };
    let created = commit(catalog, request.clone()).await;
    assert!(!created.is_new());
    assert_eq!(created.metadata().uuid(), staged.metadata().uuid());
    assert_eq!(created.metadata().location(), staged.metadata().location());
    let loaded = catalog.load_table(staged.ident()).await.unwrap();
    assert_eq!(loaded.metadata(), created.metadata());

    // A second time the name is taken, and so it is when another is staged.
    conflicts(catalog.commit(vec![request]).await, ErrorKind::AlreadyExists, staged.ident());
    let again = catalog.stage_table(&ns, creation("t")).await;
    kind(again, ErrorKind::AlreadyExists, &staged.ident().to_string());
    let nowhere = namespace(&["no_such_namespace"]);
    kind(catalog.stage_table(&nowhere, creation("t")).await, ErrorKind::NotFound, "no_such_namespace");
    kind(catalog.stage_table(&ns, creation("a/b")).await, ErrorKind::InvalidInput, "a/b");
}

async fn a_staged_table_is_created_with_its_updates(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "updates").await;
    let stage = async |name| catalog.stage_table(&ns, creation(name)).await.unwrap();
    let (first, second) = (stage("t").await, stage("t").await);
    assert_ne!(first.metadata().uuid(), second.metadata().uuid());
    let create = |staged: &icefield_core::Table, value| {
        let request = set_property(staged, "whose", value);
        CommitRequest { expect: Expect::Absent(staged.clone()), ..request }
    };
    let created = commit(catalog, create(&second, "second")).await;
    assert_eq!(created.property("whose"), Some("second"));
    assert!(created.metadata().metadata_log().is_empty(), "nothing was before");
    conflicts(catalog.commit(vec![create(&first, "first")]).await, ErrorKind::AlreadyExists, first.ident());
    let loaded = catalog.load_table(first.ident()).await.unwrap();
    assert_eq!(loaded.metadata(), created.metadata());
    // A table is created as it was staged, under its name.
    let other = CommitRequest { ident: TableIdent::new(ns.clone(), "o".into()), ..create(&first, "first") };
    let loaded = CommitRequest { expect: Expect::Absent(loaded), ..create(&first, "first") };
    for request in [other, loaded] {
        match catalog.commit(vec![request]).await {
            CommitOutcome::Failed(error) => kind::<()>(Err(error), ErrorKind::InvalidInput, "stage_table"),
            other => panic!("expected a failure: {other:?}"),
        }
    }
}

async fn a_tables_own_storage_reaches_its_files(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "storage").await;
    let staged = catalog.stage_table(&ns, creation("t")).await.unwrap();
    let file = join(staged.metadata().location(), "data/a.parquet");
    staged.storage().write(&file, "rows").await.unwrap();
    let (ident, expect) = (staged.ident().clone(), Expect::Absent(staged));
    let created = commit(catalog, CommitRequest { ident, expect, updates: vec![] }).await;
    let loaded = catalog.load_table(created.ident()).await.unwrap();
    let changed = commit(catalog, set_property(&loaded, "a", "b")).await;
    let moved = TableIdent::new(ns.clone(), "moved".into());
    catalog.rename_table(created.ident(), &moved).await.unwrap();
    for table in [created, loaded, changed, catalog.load_table(&moved).await.unwrap()] {
        assert!(table.owns(&file));
        assert_eq!(table.storage().read(&file).await.unwrap(), "rows");
        assert!(table.storage().exists(table.metadata_location()).await.unwrap());
    }
}

async fn what_is_not_guaranteed_fails_and_changes_nothing(catalog: &dyn Catalog) {
    let (ns, guarantees) = (fresh(catalog, "guarantees").await, catalog.guarantees());
    let a = catalog.create_table(&ns, creation("a")).await.unwrap();
    let b = catalog.create_table(&ns, creation("b")).await.unwrap();
    let expect = Expect::Unchanged(a.metadata_location().to_string());
    let unchanged = CommitRequest { expect, ..set_property(&a, "x", "y") };
    let both = vec![set_property(&a, "x", "y"), set_property(&b, "x", "y")];
    for (requests, can) in [(vec![unchanged], guarantees.unchanged), (both, guarantees.several_tables)] {
        match catalog.commit(requests).await {
            CommitOutcome::Failed(error) if !can => kind::<()>(Err(error), ErrorKind::Unsupported, ""),
            CommitOutcome::Done(_) if can => continue,
            other => panic!("can: {can}, {other:?}"),
        }
        for table in [&a, &b] {
            let loaded = catalog.load_table(table.ident()).await.unwrap();
            assert_eq!(loaded.metadata_location(), table.metadata_location());
        }
    }
}

async fn a_commit_to_a_table_that_was_replaced_is_a_conflict(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "replaced").await;
    let old = catalog.create_table(&ns, creation("t")).await.unwrap();
    catalog.drop_table(old.ident()).await.unwrap();
    let new = catalog.create_table(&ns, creation("t")).await.unwrap();
    let outcome = catalog.commit(vec![set_property(&old, "a", "b")]).await;
    assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
    let loaded = catalog.load_table(new.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), new.metadata_location());
}

async fn several_tables_commit_together_or_not_at_all(catalog: &dyn Catalog) {
    if !catalog.guarantees().several_tables {
        return;
    }
    let ns = fresh(catalog, "together").await;
    let a = catalog.create_table(&ns, creation("a")).await.unwrap();
    let b = catalog.create_table(&ns, creation("b")).await.unwrap();
    let requests = vec![set_property(&b, "batch", "1"), set_property(&a, "batch", "1")];
    match catalog.commit(requests).await {
        CommitOutcome::Done(tables) => {
            let idents: Vec<_> = tables.iter().map(|t| t.ident().name().to_string()).collect();
            assert_eq!(idents, ["b", "a"], "in the order of the requests");
        }
        other => panic!("expected the commit to be done: {other:?}"),
    }
    let head = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(1) };
    let fails = CommitRequest { expect: Expect::Requirements(vec![head]), ..set_property(&b, "batch", "2") };
    let outcome = catalog.commit(vec![set_property(&a, "batch", "2"), fails]).await;
    assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
    for table in [&a, &b] {
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.property("batch"), Some("1"));
    }
}

async fn a_commit_names_each_table_once(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "once").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let requests = vec![set_property(&table, "a", "1"), set_property(&table, "b", "2")];
    match catalog.commit(requests).await {
        CommitOutcome::Failed(error) => {
            kind::<()>(Err(error), ErrorKind::InvalidInput, &table.ident().to_string());
        }
        other => panic!("expected a failure: {other:?}"),
    }
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

async fn an_update_that_cannot_be_applied_fails_and_changes_nothing(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "inapplicable").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut bad = set_property(&table, "a", "b");
    bad.updates.push(TableUpdate::SetCurrentSchema { schema_id: 99 });
    let outcome = catalog.commit(vec![bad]).await;
    assert!(matches!(outcome, CommitOutcome::Failed(_)), "{outcome:?}");
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

async fn of_two_creators_one_wins(catalog: Arc<dyn Catalog>) {
    let top = fresh(&*catalog, "race").await;
    for round in 0..5 {
        let ns = below(&top, &format!("r{round}"));
        let race = (0..8).map(|_| {
            let (catalog, ns) = (catalog.clone(), ns.clone());
            tokio::spawn(async move {
                let made = catalog.create_namespace(&ns, HashMap::new()).await;
                (made, catalog.create_table(&ns, creation("t")).await)
            })
        });
        let (mut namespaces, mut tables) = (0, Vec::new());
        for task in race.collect::<Vec<_>>() {
            let (made, table) = task.await.expect("task");
            match made {
                Ok(()) => namespaces += 1,
                Err(e) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e:?}"),
            }
            match table {
                Ok(table) => tables.push(table),
                Err(e) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e:?}"),
            }
        }
        assert_eq!((namespaces, tables.len()), (1, 1));
        let winner = tables.pop().expect("a winner");
        let loaded = catalog.load_table(winner.ident()).await.unwrap();
        assert_eq!(loaded.metadata().uuid(), winner.metadata().uuid());
    }
}

async fn commits_of_two_tables_in_either_order_get_along(catalog: Arc<dyn Catalog>) {
    if !catalog.guarantees().several_tables {
        return;
    }
    let ns = fresh(&*catalog, "order").await;
    let a = catalog.create_table(&ns, creation("a")).await.unwrap();
    let b = catalog.create_table(&ns, creation("b")).await.unwrap();
    let running: Vec<_> = (0..6)
        .map(|task| {
            let (catalog, mut pair) = (catalog.clone(), [a.clone(), b.clone()]);
            if task % 2 == 1 {
                pair.reverse();
            }
            tokio::spawn(async move {
                let mut done = 0;
                while done < 3 {
                    let requests = pair.iter().map(|t| set_property(t, &format!("{task}-{done}"), "done"));
                    match catalog.commit(requests.collect()).await {
                        CommitOutcome::Done(_) => done += 1,
                        CommitOutcome::Conflict(_) => pause(&*catalog).await,
                        other => panic!("expected a commit or a conflict: {other:?}"),
                    }
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("task");
    }
    for table in [&a, &b] {
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.metadata().properties().len(), 18, "{:?}", loaded.metadata().properties());
    }
}

async fn a_commit_that_is_dropped_half_way_leaves_a_catalog_that_works(catalog: Arc<dyn Catalog>) {
    let ns = fresh(&*catalog, "cancel").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    for round in 0..40_u64 {
        let (catalog, table) = (catalog.clone(), table.clone());
        let key = format!("round-{round}");
        let task = {
            let catalog = catalog.clone();
            tokio::spawn(async move { catalog.commit(vec![set_property(&table, &key, "done")]).await })
        };
        // Later and later, from before the commit begins until after it ends.
        catalog.clock().sleep(std::time::Duration::from_micros(round * 250)).await;
        task.abort();
        if let Ok(outcome) = task.await {
            // A conflict with the one before, which may have gone on without its caller.
            let fine = matches!(outcome, CommitOutcome::Done(_) | CommitOutcome::Conflict(_));
            assert!(fine, "{outcome:?}");
        }
    }
    bump(&*catalog, table.ident(), "last", 1).await.expect("the catalog works");
    let loaded = catalog.load_table(table.ident()).await.expect("a table whose metadata is there");
    assert_eq!(loaded.property("last-0"), Some("done"));
}
