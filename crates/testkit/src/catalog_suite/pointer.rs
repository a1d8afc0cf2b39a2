//! The marks of a catalog of pointers: metadata files by version, a log of them, and none of what did not
//! come through.

use std::collections::HashMap;
use std::sync::Arc;

use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, CommitOutcome, CommitRequest, Expect, TableRequirement, TableUpdate};
use icefield_core::storage::file_name;

use super::places;
use super::steps::{
    assert_bumped_once, below, commit, contend, creation, fresh, kind, metadata_files, properties,
    set_property,
};

/// Every story, in order.
pub async fn run(catalog: Arc<dyn Catalog>) {
    tables_lie_where_their_namespace_says(&*catalog).await;
    a_commit_writes_the_next_version_and_keeps_the_old_ones(&*catalog).await;
    what_does_not_come_through_leaves_no_file(&*catalog).await;
    tables_that_commit_together_leave_nothing_alone(&*catalog).await;
    a_missing_or_corrupt_metadata_file_is_invalid_data(&*catalog).await;
    let unused = fresh(&*catalog, "outside").await;
    places::what_lies_outside_of_the_warehouse_is_no_tables(&*catalog, unused).await;
    losers_of_a_creation_leave_no_file(catalog.clone()).await;
    let (table, writers) = contend(catalog.clone(), 4, 3).await;
    assert_bumped_once(&*catalog, table.ident(), &writers, 3).await;
}

async fn tables_lie_where_their_namespace_says(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "place").await;
    let staged = catalog.stage_table(&ns, creation("t")).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    assert_eq!(table.metadata().location(), staged.metadata().location());
    let warehouse =
        table.metadata().location().strip_suffix(&format!("/{ns}/t")).expect("{warehouse}/{ns}/t");

    let inner = below(&ns, "inner");
    catalog.create_namespace(&inner, HashMap::new()).await.unwrap();
    let nested = catalog.create_table(&inner, creation("t")).await.unwrap();
    assert_eq!(nested.metadata().location(), format!("{warehouse}/{ns}/inner/t"));

    let placed = below(&ns, "placed");
    let elsewhere = format!("{warehouse}/elsewhere_{ns}");
    catalog.create_namespace(&placed, properties(&[("location", &format!("{elsewhere}/"))])).await.unwrap();
    let by_namespace = catalog.create_table(&placed, creation("t")).await.unwrap();
    assert_eq!(by_namespace.metadata().location(), format!("{elsewhere}/t"));

    let mut own = creation("own");
    own.location = Some(format!("{warehouse}/own_{ns}/"));
    let by_creation = catalog.create_table(&placed, own).await.unwrap();
    assert_eq!(by_creation.metadata().location(), format!("{warehouse}/own_{ns}"));
}

async fn a_commit_writes_the_next_version_and_keeps_the_old_ones(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "versions").await;
    let first = catalog.create_table(&ns, creation("t")).await.unwrap();
    let second = commit(catalog, set_property(&first, "step", "1")).await;
    let third = commit(catalog, set_property(&second, "step", "2")).await;
    let loaded = catalog.load_table(first.ident()).await.unwrap();
    let log: Vec<_> = loaded.metadata().metadata_log().iter().map(|e| e.metadata_file.as_str()).collect();
    assert_eq!(log, [first.metadata_location(), second.metadata_location()]);
    for (table, version) in [(&first, "00000-"), (&second, "00001-"), (&third, "00002-")] {
        assert!(file_name(table.metadata_location()).starts_with(version), "{table:?}");
        assert!(table.storage().exists(table.metadata_location()).await.unwrap());
    }
}

async fn what_does_not_come_through_leaves_no_file(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "nothing").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut same_place = creation("t");
    same_place.location = Some(table.metadata().location().to_string());
    catalog.create_table(&ns, same_place).await.unwrap_err();

    let with = |expect| CommitRequest { expect, ..set_property(&table, "a", "b") };
    let head = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(17) };
    let earlier = format!("{}/metadata/00000-earlier.metadata.json", table.metadata().location());
    for expect in [Expect::Requirements(vec![head]), Expect::Unchanged(earlier)] {
        match catalog.commit(vec![with(expect)]).await {
            CommitOutcome::Conflict(error) => {
                kind::<()>(Err(error), ErrorKind::Conflict, &table.ident().to_string());
            }
            other => panic!("expected a conflict: {other:?}"),
        }
    }
    let mut inapplicable = set_property(&table, "a", "b");
    inapplicable.updates.push(TableUpdate::SetCurrentSchema { schema_id: 99 });
    let twice = vec![set_property(&table, "a", "1"), set_property(&table, "b", "2")];
    for requests in [vec![inapplicable], twice] {
        let outcome = catalog.commit(requests).await;
        assert!(matches!(outcome, CommitOutcome::Failed(_)), "{outcome:?}");
    }
    assert_eq!(metadata_files(&table).await, 1);
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

async fn tables_that_commit_together_leave_nothing_alone(catalog: &dyn Catalog) {
    if !catalog.guarantees().several_tables {
        return;
    }
    let ns = fresh(catalog, "alone").await;
    let a = catalog.create_table(&ns, creation("a")).await.unwrap();
    let b = catalog.create_table(&ns, creation("b")).await.unwrap();
    let staged = catalog.stage_table(&ns, creation("c")).await.unwrap();
    let new = CommitRequest { expect: Expect::Absent(staged.clone()), ..set_property(&staged, "batch", "1") };
    // Of several, one that can't be done undoes all.
    let mut fails = set_property(&b, "batch", "1");
    fails.updates.push(TableUpdate::SetCurrentSchema { schema_id: 99 });
    let outcome = catalog.commit(vec![set_property(&a, "batch", "1"), new.clone(), fails]).await;
    assert!(matches!(outcome, CommitOutcome::Failed(_)), "{outcome:?}");
    assert!(!catalog.table_exists(staged.ident()).await.unwrap());
    for (table, files) in [(&a, 1), (&b, 1), (&staged, 0)] {
        assert_eq!(metadata_files(table).await, files, "{table:?}");
    }
    // A creation and a change are one step as well.
    match catalog.commit(vec![set_property(&a, "batch", "1"), new.clone()]).await {
        CommitOutcome::Done(tables) => assert!(tables.iter().all(|t| t.property("batch") == Some("1"))),
        other => panic!("expected the commit to be done: {other:?}"),
    }
    let outcome = catalog.commit(vec![set_property(&a, "batch", "2"), new]).await;
    assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
    assert_eq!(catalog.load_table(a.ident()).await.unwrap().property("batch"), Some("1"));
    assert_eq!((metadata_files(&a).await, metadata_files(&staged).await), (2, 1));
}

/// Not `NotFound`: who creates tables that are not found would run into one that exists.
async fn a_missing_or_corrupt_metadata_file_is_invalid_data(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "broken").await;
    let created = catalog.create_table(&ns, creation("t")).await.unwrap();
    // A name that is written again: what the catalog knows of others it need not read.
    let location = format!("{}/metadata/v1.metadata.json", created.metadata().location());
    let bytes = created.storage().read(created.metadata_location()).await.unwrap();
    created.storage().write(&location, bytes).await.unwrap();
    catalog.drop_table(created.ident()).await.unwrap();
    let table = catalog.register_table(created.ident(), &location).await.unwrap();
    let location = table.metadata_location();
    table.storage().write(location, b"{\"format-version\": 2".to_vec()).await.unwrap();
    kind(catalog.load_table(table.ident()).await, ErrorKind::DataInvalid, location);
    table.storage().delete(location).await.unwrap();
    kind(catalog.load_table(table.ident()).await, ErrorKind::DataInvalid, location);
    match catalog.commit(vec![set_property(&table, "a", "b")]).await {
        CommitOutcome::Failed(error) => kind::<()>(Err(error), ErrorKind::DataInvalid, location),
        other => panic!("expected a failure: {other:?}"),
    }
    assert!(catalog.table_exists(table.ident()).await.unwrap());
    catalog.drop_table(table.ident()).await.expect("a broken table can be dropped");
}

async fn losers_of_a_creation_leave_no_file(catalog: Arc<dyn Catalog>) {
    let ns = fresh(&*catalog, "losers").await;
    let race = (0..8).map(|_| {
        let (catalog, ns) = (catalog.clone(), ns.clone());
        tokio::spawn(async move { catalog.create_table(&ns, creation("t")).await })
    });
    let mut won = Vec::new();
    for task in race.collect::<Vec<_>>() {
        won.extend(task.await.expect("task"));
    }
    assert_eq!(won.len(), 1);
    assert_eq!(metadata_files(&won[0]).await, 1);
}
