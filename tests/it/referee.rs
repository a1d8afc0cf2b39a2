//! What other engines read of a table at every moment of its life: after each kind of evolution, overwrite and maintenance,
//! at each snapshot that is retained.

use futures::future::join_all;
use iceberg::spec::{Literal, NestedFieldRef};
use icefield::AsOf;
use icefield::evolve::{NewColumn, PartitionUpdate, SchemaUpdate, types};
use icefield::prelude::*;
use icefield_testkit::{Content, Engine, Pick, Referee, content_hash, random_batches, reference_read};

/// A table and what it held at each snapshot, as the plain reader reads it.
struct Life {
    session: Session,
    name: &'static str,
    moments: Vec<(String, i64, Content)>,
    seed: u64,
}

impl Life {
    async fn begin(session: &Session, name: &'static str, version: u8) -> Self {
        let create = session.create_table(name, columns()).format_version(version);
        create.partition_by([bucket("id", 3)]).await.unwrap();
        let mut life = Self { session: session.clone(), name, moments: Vec::new(), seed: 0 };
        life.append("the first rows").await;
        life
    }

    async fn table(&self) -> Table {
        self.session.table(self.name).await.unwrap()
    }

    /// Remembers what the table holds now.
    async fn remember(&mut self, what: &str) {
        let table = self.table().await;
        let snapshot = table.core().metadata().current_snapshot_id().unwrap();
        let as_of = AsOf::Snapshot(snapshot);
        let schema = table.core().schema_as_of(&as_of).unwrap();
        let content = content_hash(&reference_read(table.core(), &as_of).await, &schema);
        self.moments.push((what.to_string(), snapshot, content));
    }

    async fn append(&mut self, what: &str) {
        self.seed += 1;
        let batches = random_batches(self.seed, self.table().await.core().schema(), 2, 40);
        let input = self.session.read_batches(batches).unwrap();
        input.append_to(&self.session, self.name).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        self.remember(what).await;
    }

    async fn evolve(&mut self, what: &str, edit: SchemaUpdate) {
        self.table().await.alter().edit(edit).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        self.append(what).await;
    }

    /// Each moment again: read by the library, and by the engines.
    async fn check(&self, engines: &[Engine]) {
        let table = self.table().await;
        for (what, snapshot, content) in &self.moments {
            let then = table.as_of(*snapshot).unwrap();
            let schema = then.core().schema_as_of(&AsOf::Snapshot(*snapshot)).unwrap();
            let read = then.dataframe().await.unwrap().collect().await.unwrap();
            assert_eq!(&content_hash(&read, &schema), content, "{what}");
        }
        let referee = Referee::with_engines(engines);
        let location = table.core().metadata_location();
        let checks = self
            .moments
            .iter()
            .map(|(_, snapshot, content)| referee.check(location, Pick::Snapshot(*snapshot), content));
        let _ = join_all(checks).await;
    }
}

fn columns() -> Vec<NestedFieldRef> {
    let point = types::structure([types::optional("x", types::int()), types::optional("y", types::float())]);
    let value = types::structure([types::optional("v", types::int()), types::optional("u", types::string())]);
    let columns = [
        ("id", types::long()),
        ("name", types::string()),
        ("price", types::float()),
        ("amount", types::decimal(9, 2)),
        ("n", types::int()),
        ("seen", types::timestamp()),
        ("point", point),
        ("tags", types::list(types::string())),
        ("attributes", types::map(types::string(), value)),
        ("gone", types::date()),
    ];
    columns.into_iter().map(|(name, of)| types::optional(name, of)).collect()
}

/// The evolution of schema, partitions and order that every format version has.
async fn evolve_everything(life: &mut Life) {
    life.evolve("a column added", SchemaUpdate::new().add_column("note", types::string())).await;
    let first = NewColumn::new("first", types::date()).doc("in front").first();
    life.evolve("a column added in front", SchemaUpdate::new().add_column_with(first)).await;
    life.evolve("a column renamed", SchemaUpdate::new().rename_column("name", "title")).await;
    let wider = SchemaUpdate::new()
        .promote_column("n", types::long())
        .promote_column("price", types::double())
        .promote_column("amount", types::decimal(18, 2));
    life.evolve("columns widened", wider).await;
    life.evolve("a column dropped", SchemaUpdate::new().drop_column("gone")).await;
    let again = SchemaUpdate::new().add_column("gone", types::int());
    life.evolve("another of the same name", again).await;
    let nested = SchemaUpdate::new()
        .add_column("point.z", types::double())
        .rename_column("point.x", "lon")
        .promote_column("point.lon", types::long())
        .drop_column("point.y");
    life.evolve("fields of a struct", nested).await;
    let deeper = SchemaUpdate::new()
        .add_column("attributes.value.w", types::date())
        .rename_column("attributes.value.v", "value");
    life.evolve("fields of a map's values", deeper).await;
    life.evolve("columns moved", SchemaUpdate::new().move_first("amount").move_after("id", "title")).await;

    let table = life.table().await;
    table.update_spec().add_field(truncate("title", 2)).remove(bucket("id", 3)).await.unwrap();
    life.append("another partition spec").await;
    life.table().await.update_sort_order([desc("id")]).await.unwrap();
    life.append("a sort order").await;
    life.table().await.alter().edit(PartitionUpdate::new().clear()).await.unwrap();
    life.append("no partitions any more").await;
}

async fn maintain(life: &mut Life) {
    maintenance::compact(&life.table().await).rewrite_all(true).await.unwrap();
    life.remember("compacted").await;
    life.append("after compaction").await;
    // The first half of its life is forgotten; the rest stays as it was.
    let forgotten: Vec<i64> = life.moments.drain(..life.moments.len() / 2).map(|(_, id, _)| id).collect();
    let table = life.table().await;
    let expired = maintenance::expire_snapshots(&table).snapshot_ids(forgotten.clone()).await.unwrap();
    assert_eq!(expired.snapshots.len(), forgotten.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_reads_every_moment_of_an_evolving_table() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    // PyIceberg reads a NULL map of structs as an empty one.
    let engines = [Engine::Java, Engine::DuckDb];
    for (name, version) in [("life.v1", 1), ("life.v2", 2), ("life.v3", 3)] {
        let mut life = Life::begin(&session, name, version).await;
        evolve_everything(&mut life).await;
        if version == 3 {
            let column = NewColumn::new("stars", types::int()).default(Literal::int(3));
            life.evolve("a column with a default", SchemaUpdate::new().add_column_with(column)).await;
        }
        life.check(&engines).await;
        maintain(&mut life).await;
        life.check(&engines).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_upgraded_reads_as_before_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let mut life = Life::begin(&session, "life.upgraded", 1).await;
    for version in [2, 3] {
        life.table().await.upgrade_format_version(version).await.unwrap();
        life.append(&format!("version {version}")).await;
    }
    maintenance::compact(&life.table().await).rewrite_all(true).await.unwrap();
    life.remember("compacted").await;
    // DuckDB reads no table that was upgraded from version 1, Spark's own neither.
    life.check(&[Engine::Java]).await;
}
