//! What every catalog must do, as one suite that each of them runs.
//!
//! [`run`] is the whole of it. Each story works in namespaces of its own, so that one catalog can run them all, and again.
//! Stories panic with what was expected. [`contend`] and [`bump`] are the concurrent writers, for tests that spread them
//! over tasks and processes.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, NamespaceIdent, TableCreation, TableIdent, TableRequirement,
    TableUpdate,
};
use icefield_core::storage::file_name;
use icefield_core::{ErrorKind, Result, Table};

use futures::TryStreamExt;

use crate::catalog_places;

/// Every story, in order.
pub async fn run(catalog: Arc<dyn Catalog>) {
    namespaces_nest_and_list_their_children(&*catalog).await;
    namespace_properties_are_set_and_removed(&*catalog).await;
    a_namespace_is_dropped_only_when_it_is_empty(&*catalog).await;
    names_that_cannot_be_stored_are_refused(&*catalog).await;
    unusual_names_are_kept_apart(&*catalog).await;
    a_table_is_created_listed_loaded_and_dropped(&*catalog).await;
    missing_things_are_not_found_by_name(&*catalog).await;
    a_second_table_of_a_name_is_refused_and_leaves_no_file(&*catalog).await;
    tables_lie_where_their_namespace_says(&*catalog).await;
    a_table_moves_to_another_name_and_namespace(&*catalog).await;
    a_name_that_was_renamed_away_gets_files_of_its_own(&*catalog).await;
    a_dropped_table_is_registered_again(&*catalog).await;
    a_commit_moves_the_pointer_and_keeps_the_old_metadata(&*catalog).await;
    a_requirement_that_does_not_hold_is_a_conflict_and_leaves_no_file(&*catalog).await;
    a_commit_to_a_table_that_was_replaced_is_a_conflict(&*catalog).await;
    several_tables_commit_together_or_not_at_all(&*catalog).await;
    a_commit_names_each_table_once(&*catalog).await;
    an_update_that_cannot_be_applied_fails_and_changes_nothing(&*catalog).await;
    a_missing_or_corrupt_metadata_file_is_invalid_data(&*catalog).await;
    let unused = fresh(&*catalog, "outside").await;
    catalog_places::what_lies_outside_of_the_warehouse_is_no_tables(&*catalog, unused).await;
    of_two_creators_one_wins(catalog.clone()).await;
    commits_of_two_tables_in_either_order_get_along(catalog.clone()).await;
    a_commit_that_is_dropped_half_way_leaves_a_catalog_that_works(catalog.clone()).await;
    contend(catalog, 16, 10).await;
}

/// A namespace from its levels.
pub fn namespace(levels: &[&str]) -> NamespaceIdent {
    NamespaceIdent::from_vec(levels.iter().map(|level| level.to_string()).collect()).expect("levels")
}

/// A table of two columns, `id: long` (required) and `name: string`.
pub fn creation(name: &str) -> TableCreation {
    let fields = vec![
        NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long)).into(),
        NestedField::optional(2, "name", Type::Primitive(PrimitiveType::String)).into(),
    ];
    let schema = Schema::builder().with_fields(fields).build().expect("schema");
    TableCreation::builder().name(name.to_string()).schema(schema).build()
}

/// A request that sets one property, on condition that the table is still the one of this uuid.
pub fn set_property(table: &Table, key: &str, value: &str) -> CommitRequest {
    CommitRequest {
        ident: table.ident().clone(),
        base: None,
        requirements: vec![TableRequirement::UuidMatch { uuid: table.metadata().uuid() }],
        updates: vec![TableUpdate::SetProperties { updates: properties(&[(key, value)]) }],
    }
}

fn properties(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T>, expected: ErrorKind, names: &str) {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), expected, "{error}");
    assert!(error.to_string().contains(names), "{error} should name {names}");
}

/// Creates a namespace that no other story, and no earlier run, has.
async fn fresh(catalog: &dyn Catalog, story: &str) -> NamespaceIdent {
    let unique = namespace(&[&format!("{story}_{}", catalog.clock().uuid().simple())]);
    catalog.create_namespace(&unique, HashMap::new()).await.expect("namespace");
    unique
}

fn below(parent: &NamespaceIdent, level: &str) -> NamespaceIdent {
    namespace(&parent.iter().map(String::as_str).chain([level]).collect::<Vec<_>>())
}

async fn commit(catalog: &dyn Catalog, request: CommitRequest) -> Table {
    match catalog.commit(vec![request]).await {
        CommitOutcome::Done(mut tables) => tables.pop().expect("a table"),
        other => panic!("expected the commit to be done: {other:?}"),
    }
}

async fn metadata_files(table: &Table) -> usize {
    let files = table.storage().list(&format!("{}/metadata", table.metadata().location()));
    let files: Vec<_> = files.try_collect().await.expect("listing");
    files.iter().filter(|file| file_name(&file.location).ends_with(".metadata.json")).count()
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
        catalog.storage().exists(table.metadata_location()).await.unwrap(),
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

    let request = CommitRequest { ident: no_table, base: None, requirements: vec![], updates: vec![] };
    match catalog.commit(vec![request]).await {
        CommitOutcome::Failed(error) => kind::<()>(Err(error), missing, "no_such_table"),
        other => panic!("expected a failure: {other:?}"),
    }
}

async fn a_second_table_of_a_name_is_refused_and_leaves_no_file(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "twice").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut same_place = creation("t");
    same_place.location = Some(table.metadata().location().to_string());
    kind(catalog.create_table(&ns, same_place).await, ErrorKind::AlreadyExists, &table.ident().to_string());
    let registered = catalog.register_table(table.ident(), table.metadata_location()).await;
    kind(registered, ErrorKind::AlreadyExists, &table.ident().to_string());
    assert_eq!(metadata_files(&table).await, 1);
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
}

async fn tables_lie_where_their_namespace_says(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "place").await;
    let expected = catalog.new_location(&TableIdent::new(ns.clone(), "t".into())).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    assert_eq!(table.metadata().location(), expected);
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

async fn a_commit_moves_the_pointer_and_keeps_the_old_metadata(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "commit").await;
    let first = catalog.create_table(&ns, creation("t")).await.unwrap();
    let second = commit(catalog, set_property(&first, "step", "1")).await;
    let third = commit(catalog, set_property(&second, "step", "2")).await;
    assert_eq!(third.property("step"), Some("2"));
    let loaded = catalog.load_table(first.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), third.metadata_location());
    let log: Vec<_> = loaded.metadata().metadata_log().iter().map(|e| e.metadata_file.as_str()).collect();
    assert_eq!(log, [first.metadata_location(), second.metadata_location()]);
    for (table, version) in [(&first, "00000-"), (&second, "00001-"), (&third, "00002-")] {
        assert!(file_name(table.metadata_location()).starts_with(version), "{table:?}");
        assert!(catalog.storage().exists(table.metadata_location()).await.unwrap());
    }
    match catalog.commit(vec![]).await {
        CommitOutcome::Done(tables) => assert!(tables.is_empty()),
        other => panic!("a commit of nothing is done: {other:?}"),
    }
}

async fn a_requirement_that_does_not_hold_is_a_conflict_and_leaves_no_file(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "requirement").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let mut request = set_property(&table, "a", "b");
    let no_such = TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(17) };
    request.requirements.push(no_such);
    let mut of_another_base = set_property(&table, "a", "b");
    of_another_base.base =
        Some(format!("{}/metadata/00000-earlier.metadata.json", table.metadata().location()));
    for request in [request, of_another_base] {
        match catalog.commit(vec![request]).await {
            CommitOutcome::Conflict(error) => {
                kind::<()>(Err(error), ErrorKind::Conflict, &table.ident().to_string())
            }
            other => panic!("expected a conflict: {other:?}"),
        }
    }
    assert_eq!(metadata_files(&table).await, 1);
    let loaded = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), table.metadata_location());
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
    let mut fails = set_property(&b, "batch", "2");
    fails
        .requirements
        .push(TableRequirement::RefSnapshotIdMatch { r#ref: "main".into(), snapshot_id: Some(1) });
    let outcome = catalog.commit(vec![set_property(&a, "batch", "2"), fails]).await;
    assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
    for table in [&a, &b] {
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.property("batch"), Some("1"));
        assert_eq!(metadata_files(table).await, 2, "nothing is left of the commit that failed");
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
    assert_eq!(metadata_files(&table).await, 1);
}

async fn an_update_that_cannot_be_applied_fails_and_changes_nothing(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "inapplicable").await;
    let good = catalog.create_table(&ns, creation("good")).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let bad = CommitRequest {
        ident: table.ident().clone(),
        base: None,
        requirements: vec![],
        updates: vec![TableUpdate::SetCurrentSchema { schema_id: 99 }],
    };
    let outcome = catalog.commit(vec![set_property(&good, "a", "b"), bad]).await;
    assert!(matches!(outcome, CommitOutcome::Failed(_)), "{outcome:?}");
    for table in [&good, &table] {
        assert_eq!(metadata_files(table).await, 1);
        let loaded = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(loaded.metadata_location(), table.metadata_location());
    }
}

/// Not `NotFound`: who creates tables that are not found would run into one that exists.
async fn a_missing_or_corrupt_metadata_file_is_invalid_data(catalog: &dyn Catalog) {
    let ns = fresh(catalog, "broken").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let location = table.metadata_location();
    catalog.storage().write(location, b"{\"format-version\": 2".to_vec()).await.unwrap();
    kind(catalog.load_table(table.ident()).await, ErrorKind::DataInvalid, location);
    catalog.storage().delete(location).await.unwrap();
    kind(catalog.load_table(table.ident()).await, ErrorKind::DataInvalid, location);
    match catalog.commit(vec![set_property(&table, "a", "b")]).await {
        CommitOutcome::Failed(error) => kind::<()>(Err(error), ErrorKind::DataInvalid, location),
        other => panic!("expected a failure: {other:?}"),
    }
    assert!(catalog.table_exists(table.ident()).await.unwrap());
    catalog.drop_table(table.ident()).await.expect("a broken table can be dropped");
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
        assert_eq!(metadata_files(&winner).await, 1, "the losers left nothing");
    }
}

async fn commits_of_two_tables_in_either_order_get_along(catalog: Arc<dyn Catalog>) {
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
        assert_eq!(loaded.metadata().metadata_log().len(), 18);
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

async fn pause(catalog: &dyn Catalog) {
    // By chance, so that a crowd of writers gets on.
    let wait = catalog.clock().random() % 20;
    catalog.clock().sleep(std::time::Duration::from_millis(wait)).await;
}

/// `tasks` tasks, each with `commits` commits to one table, every one of which must be in the table at the end.
pub async fn contend(catalog: Arc<dyn Catalog>, tasks: usize, commits: usize) {
    let ns = fresh(&*catalog, "contend").await;
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let (catalog, ident) = (catalog.clone(), table.ident().clone());
            tokio::spawn(async move { bump(&*catalog, &ident, &format!("task-{task}"), commits).await })
        })
        .collect();
    for task in running {
        task.await.expect("task").expect("every commit ends well");
    }
    let names: Vec<_> = (0..tasks).map(|task| format!("task-{task}")).collect();
    assert_bumped(&*catalog, table.ident(), &names, commits).await;
}

/// `commits` commits to a table, one property each, reloading and trying again after a conflict.
///
/// # Errors
/// Whatever is not a conflict.
pub async fn bump(catalog: &dyn Catalog, ident: &TableIdent, writer: &str, commits: usize) -> Result<()> {
    for commit in 0..commits {
        loop {
            let table = catalog.load_table(ident).await?;
            let request = set_property(&table, &format!("{writer}-{commit}"), "done");
            match catalog.commit(vec![request]).await {
                CommitOutcome::Done(_) => break,
                CommitOutcome::Conflict(_) => pause(catalog).await,
                CommitOutcome::Failed(error) | CommitOutcome::Unknown(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Fails unless every [`bump`] of these writers is in the table, once.
pub async fn assert_bumped(catalog: &dyn Catalog, ident: &TableIdent, writers: &[String], commits: usize) {
    let table = catalog.load_table(ident).await.unwrap();
    for writer in writers {
        for commit in 0..commits {
            let name = format!("{writer}-{commit}");
            assert_eq!(table.property(&name), Some("done"), "the commit {name} was lost");
        }
    }
    let version =
        file_name(table.metadata_location()).split('-').next().and_then(|v| v.parse::<usize>().ok());
    assert_eq!(version, Some(writers.len() * commits), "one version a commit");
    assert_eq!(metadata_files(&table).await, writers.len() * commits + 1, "the losers' files are gone");
}
