//! The steps that stories share: tables to begin with, commits, writers that contend.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, NamespaceIdent, TableCreation, TableIdent,
    TableRequirement, TableUpdate,
};
use icefield_core::storage::file_name;
use icefield_core::{ErrorKind, Result, Table};

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
        expect: Expect::Requirements(vec![TableRequirement::UuidMatch { uuid: table.metadata().uuid() }]),
        updates: vec![TableUpdate::SetProperties { updates: properties(&[(key, value)]) }],
    }
}

pub(super) fn properties(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(super) fn kind<T: std::fmt::Debug>(result: Result<T>, expected: ErrorKind, names: &str) {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), expected, "{error}");
    assert!(error.to_string().contains(names), "{error} should name {names}");
}

/// Creates a namespace that no other story, and no earlier run, has.
pub(super) async fn fresh(catalog: &dyn Catalog, story: &str) -> NamespaceIdent {
    let unique = namespace(&[&format!("{story}_{}", catalog.clock().uuid().simple())]);
    catalog.create_namespace(&unique, HashMap::new()).await.expect("namespace");
    unique
}

pub(super) fn below(parent: &NamespaceIdent, level: &str) -> NamespaceIdent {
    namespace(&parent.iter().map(String::as_str).chain([level]).collect::<Vec<_>>())
}

pub(super) async fn commit(catalog: &dyn Catalog, request: CommitRequest) -> Table {
    match catalog.commit(vec![request]).await {
        CommitOutcome::Done(mut tables) => tables.pop().expect("a table"),
        other => panic!("expected the commit to be done: {other:?}"),
    }
}

/// The number of metadata files that lie where a pointer catalog writes them.
pub(super) async fn metadata_files(table: &Table) -> usize {
    let files = table.storage().list(&format!("{}/metadata", table.metadata().location()));
    let files: Vec<_> = files.try_collect().await.expect("listing");
    files.iter().filter(|file| file_name(&file.location).ends_with(".metadata.json")).count()
}

pub(super) async fn pause(catalog: &dyn Catalog) {
    // By chance, so that a crowd of writers gets on.
    let wait = catalog.clock().random() % 20;
    catalog.clock().sleep(std::time::Duration::from_millis(wait)).await;
}

/// `tasks` tasks, each with `commits` commits to one table, every one of which must be in the table at the
/// end. Gives the table and the writers' names.
pub async fn contend(catalog: Arc<dyn Catalog>, tasks: usize, commits: usize) -> (Table, Vec<String>) {
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
    (table, names)
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

/// Fails unless every [`bump`] of these writers is in the table.
pub async fn assert_bumped(catalog: &dyn Catalog, ident: &TableIdent, writers: &[String], commits: usize) {
    let table = catalog.load_table(ident).await.unwrap();
    for writer in writers {
        for commit in 0..commits {
            let name = format!("{writer}-{commit}");
            assert_eq!(table.property(&name), Some("done"), "the commit {name} was lost");
        }
    }
}

/// As [`assert_bumped`], in a pointer catalog: with a metadata file for each commit, and none of a commit
/// that lost.
pub async fn assert_bumped_once(
    catalog: &dyn Catalog,
    ident: &TableIdent,
    writers: &[String],
    commits: usize,
) {
    assert_bumped(catalog, ident, writers, commits).await;
    let table = catalog.load_table(ident).await.unwrap();
    let version =
        file_name(table.metadata_location()).split('-').next().and_then(|v| v.parse::<usize>().ok());
    assert_eq!(version, Some(writers.len() * commits), "one version a commit");
    assert_eq!(metadata_files(&table).await, writers.len() * commits + 1, "the losers' files are gone");
}
