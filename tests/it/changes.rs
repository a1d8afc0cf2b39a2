//! Random histories of rows that come and go in every way that the format knows: the feed of changes leads from any state of
//! a table to any later one, and what is told of deleted rows is so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::physical_plan::collect;
use datafusion::prelude::ident;
use iceberg::spec::{DataContentType, FormatVersion, Operation, Struct};
use icefield::changes::{CHANGE_ORDINAL, CHANGE_TYPE, COMMIT_SNAPSHOT_ID, Changes};
use icefield::evolve::PartitionUpdate;
use icefield::prelude::*;
use icefield_core::commit::{DeleteBy, Overwrite, Transaction};
use icefield_core::deletes::{is_vector, load_deletion_vector};
use icefield_core::filter::Filter;
use icefield_core::format::{ContentFile, LiveFile, WantedStatistics};
use icefield_engine::scan::{PlannedFile, PlannedFiles, plan_files, scan_files};
use icefield_engine::write::{WriteOptions, write_data_files};
use icefield_testkit::deletes::{Delta, commit_delta, deletion_vectors, equality_deletes, position_deletes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const NAME: &str = "db.changing";

/// How many histories, unless `ICEFIELD_HISTORIES` says otherwise: then every pair of snapshots is looked at.
const HISTORIES: u64 = 4;
const STEPS: usize = 9;

/// Rows as text, each with how often it is there.
type Rows = BTreeMap<String, i64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_leads_from_any_state_of_a_table_to_any_later_one() {
    let histories = std::env::var("ICEFIELD_HISTORIES").ok().and_then(|text| text.parse().ok());
    let thorough = histories.is_some();
    for seed in 0..histories.unwrap_or(HISTORIES) {
        let mut history = History::begin(seed).await;
        for step in 0..STEPS {
            history.step(step).await;
            history.check_deleted_rows().await;
        }
        history.check_feeds(thorough).await;
    }
}

struct History {
    rng: StdRng,
    session: Session,
    table: Table,
    version: FormatVersion,
    /// For messages: what was done.
    done: Vec<String>,
}

impl History {
    async fn begin(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let version = [FormatVersion::V2, FormatVersion::V3][(seed % 2) as usize];
        let session = Session::builder().parallelism(3).build().unwrap();
        let columns = [
            types::optional("id", types::long()),
            types::optional("p", types::int()),
            types::optional("v", types::string()),
        ];
        let mut create = session.create_table(NAME, columns).format_version(version as u8);
        if seed.is_multiple_of(3) {
            create = create.partition_by([identity("p")]);
        }
        let table = create.property("write.parquet.page-row-limit", "10").await.unwrap();
        let done = vec![format!("seed {seed}, version {version}")];
        let mut history = Self { rng, session, table, version, done };
        history.append().await;
        history
    }

    /// Rows of few ids, so that keys come again.
    fn batch(&mut self, rows: usize) -> RecordBatch {
        let mut one =
            |of: i64, nulls: f64| (!self.rng.random_bool(nulls)).then(|| self.rng.random_range(0..of));
        let ids: Int64Array = (0..rows).map(|_| one(60, 0.05)).collect();
        let p: Int32Array = (0..rows).map(|_| one(3, 0.05).map(|p| p as i32)).collect();
        let v: StringArray = (0..rows).map(|_| one(4, 0.2).map(|v| format!("v{v}"))).collect();
        let columns: [(&str, arrow::array::ArrayRef, bool); 3] =
            [("id", Arc::new(ids), true), ("p", Arc::new(p), true), ("v", Arc::new(v), true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    async fn write(&mut self, rows: usize) -> Vec<ContentFile> {
        let batch = self.batch(rows);
        let plan = self.session.read_batches([batch]).unwrap().create_physical_plan().await.unwrap();
        let context = self.session.context().task_ctx();
        write_data_files(self.table.core(), plan, context, &WriteOptions::new()).await.unwrap().files
    }

    async fn files(&self) -> PlannedFiles {
        let core = self.table.core();
        let snapshot = core.metadata().current_snapshot().unwrap().clone();
        let caches = self.session.scan_caches();
        plan_files(core, &snapshot, &Filter::True, &WantedStatistics::All, caches).await.unwrap()
    }

    async fn append(&mut self) {
        let rows = self.rng.random_range(1..90);
        let batch = self.batch(rows);
        let input = self.session.read_batches([batch]).unwrap();
        self.table = input.append_to(&self.session, NAME).await.unwrap().table;
        self.done.push(format!("append of {rows}"));
    }

    async fn commit(&mut self, what: &str, delta: Delta) {
        let counts = (delta.data.len(), delta.deletes.len(), delta.gone.len());
        self.done.push(format!("{what}: {counts:?} data and delete files came, delete files went"));
        if counts == (0, 0, 0) {
            return;
        }
        let core = commit_delta(&**self.session.catalog(), self.table.core(), delta).await;
        self.table = Table::new(self.session.clone(), core);
    }

    async fn step(&mut self, step: usize) {
        let name = format!("d{step}");
        match self.rng.random_range(0..12) {
            0 => self.append().await,
            1 | 2 => {
                let deletes = self.delete_positions(&name).await;
                self.commit("deletes by position", deletes).await;
            }
            3 => {
                let mut delta = self.delete_positions(&name).await;
                delta.data = self.write(30).await;
                self.commit("update by position", delta).await;
            }
            4 => {
                let deletes = self.delete_keys(&name).await;
                self.commit("deletes by key", Delta { deletes, ..Delta::default() }).await;
            }
            5 | 6 => {
                let (deletes, data) = (self.delete_keys(&name).await, self.write(40).await);
                self.commit("upsert", Delta { deletes, data, ..Delta::default() }).await;
            }
            7 => {
                let mut delta = self.delete_positions(&name).await;
                delta.deletes.extend(self.delete_keys(&format!("{name}k")).await);
                self.commit("deletes by position and key", delta).await;
            }
            8 => {
                let files = self.files().await.deletes;
                let gone = files.choose(&mut self.rng).map(|file| file.content_file());
                let gone = gone.into_iter().collect();
                self.commit("deletes taken back", Delta { gone, ..Delta::default() }).await;
            }
            9 => {
                let core = self.table.core().clone();
                let data = self.files().await.data;
                let chosen = data.iter().filter(|_| self.rng.random_bool(0.4)).map(|file| (**file).clone());
                let (chosen, add): (Vec<LiveFile>, _) = (chosen.collect(), self.write(30).await);
                self.done.push(format!("overwrite of {} files", chosen.len()));
                let overwrite = Overwrite {
                    delete: DeleteBy::Files(chosen.iter().map(Into::into).collect()),
                    add,
                    reads: None,
                };
                let commit =
                    Transaction::new(&core).overwrite(overwrite).commit(&**self.session.catalog()).await;
                self.table = Table::new(self.session.clone(), commit.unwrap().table);
            }
            10 if step > 3 => {
                let compaction = maintenance::compact(&self.table).rewrite_all(true);
                compaction.await.unwrap_or_else(|e| panic!("{:?}: {e:?}", self.done));
                self.table = self.session.table(NAME).await.unwrap();
                self.done.push("compaction".to_string());
            }
            11 if self.rng.random_bool(0.5) => {
                let update = PartitionUpdate::new();
                let update = match self.rng.random_bool(0.5) {
                    true => update.clear(),
                    false => update.add_field(bucket("id", 3)),
                };
                match self.table.alter().edit(update).await {
                    Ok(table) => {
                        self.table = table;
                        self.done.push("another partition spec".to_string());
                    }
                    Err(e) => assert_eq!(e.kind(), icefield::ErrorKind::InvalidInput, "{e:?}"),
                }
            }
            _ => self.append().await,
        }
    }

    /// Position deletes of some rows of some files: rows that are deleted already among them. Vectors are replaced, mostly
    /// by larger ones, and position delete files merged now and then.
    async fn delete_positions(&mut self, name: &str) -> Delta {
        let PlannedFiles { data, deletes } = self.files().await;
        let mut delta = Delta::default();
        let chosen: Vec<_> = data.iter().filter(|_| self.rng.random_bool(0.5)).collect();
        let mut rows: HashMap<(i32, Struct), Vec<(String, i64)>> = HashMap::new();
        for (number, file) in chosen.into_iter().enumerate() {
            let share = [0.02, 0.3, 1.0][self.rng.random_range(0..3)];
            let mut positions: BTreeSet<u64> =
                (0..file.file.record_count()).filter(|_| self.rng.random_bool(share)).collect();
            let partition = (file.spec_id, file.file.partition().clone());
            if self.version == FormatVersion::V2 {
                let of_file = positions.into_iter().map(|at| (file.path().to_string(), at as i64));
                rows.entry(partition).or_default().extend(of_file);
                continue;
            }
            let old = deletes.iter().find(|delete| {
                is_vector(&delete.file) && delete.file.referenced_data_file().as_deref() == Some(file.path())
            });
            if let Some(old) = old {
                if self.rng.random_bool(0.8) {
                    positions.extend(load_deletion_vector(self.table.core().storage(), old).await.unwrap());
                }
                delta.gone.push(old.content_file());
            }
            let positions: Vec<u64> = positions.into_iter().collect();
            let name = format!("{name}-{number}");
            let vector =
                deletion_vectors(self.table.core(), &name, &partition, &[(file.path(), &positions)]).await;
            delta.deletes.extend(vector);
        }
        for (number, (partition, mut rows)) in rows.into_iter().enumerate() {
            let same = |delete: &&PlannedFile| {
                delete.file.content_type() == DataContentType::PositionDeletes
                    && (delete.spec_id, delete.file.partition()) == (partition.0, &partition.1)
            };
            // What other files of the partition said is said again by a larger one, in their stead.
            if self.rng.random_bool(0.3) {
                for old in deletes.iter().filter(same) {
                    rows.extend(self.positions_of(old).await);
                    delta.gone.push(old.content_file());
                }
            }
            rows.sort();
            rows.dedup();
            let rows: Vec<(&str, i64)> = rows.iter().map(|(path, at)| (path.as_str(), *at)).collect();
            if !rows.is_empty() {
                let name = format!("{name}-{number}");
                delta.deletes.push(position_deletes(self.table.core(), &name, &partition, &rows).await);
            }
        }
        delta
    }

    async fn positions_of(&self, delete: &LiveFile) -> Vec<(String, i64)> {
        let bytes = self.table.core().storage().read(delete.path()).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let mut rows = Vec::new();
        for batch in reader.map(Result::unwrap) {
            let (paths, at) =
                (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            rows.extend(paths.iter().zip(at).map(|(path, at)| (path.unwrap().to_string(), at.unwrap())));
        }
        rows
    }

    /// An equality delete file of a few keys, some of which no row has: of all the table, or of the partition of some file.
    async fn delete_keys(&mut self, name: &str) -> Vec<ContentFile> {
        let core = self.table.core().clone();
        let spec = core.metadata().default_partition_spec();
        let partition = match spec.is_unpartitioned() {
            true => (spec.spec_id(), Struct::empty()),
            false => match self.files().await.data.choose(&mut self.rng) {
                Some(file) => (file.spec_id, file.file.partition().clone()),
                None => return Vec::new(),
            },
        };
        let rows = self.rng.random_range(1..8);
        let keys = self.batch(rows);
        let (id, v) = (("id", 1), ("v", 3));
        let by = [vec![id], vec![id, v], vec![v]][self.rng.random_range(0..3)].clone();
        let by = if by == [v] && self.rng.random_bool(0.5) { vec![id] } else { by };
        let places: Vec<usize> = by.iter().map(|(name, _)| keys.schema().index_of(name).unwrap()).collect();
        let ids: Vec<i32> = by.iter().map(|(_, id)| *id).collect();
        let keys = keys.project(&places).unwrap();
        vec![equality_deletes(&core, name, &partition, &ids, &by, &keys).await]
    }

    /// Pairs of snapshots, or all, in every manner in which the feed may be asked for.
    async fn check_feeds(&mut self, thorough: bool) {
        let core = self.table.core().clone();
        let head = core.metadata().current_snapshot().unwrap().snapshot_id();
        let mut snapshots: Vec<_> = core.ancestors(head).cloned().collect();
        snapshots.reverse();
        let mut states = Vec::new();
        for snapshot in &snapshots {
            let frame = self.table.as_of(snapshot.snapshot_id()).unwrap().dataframe().await.unwrap();
            states.push(rows(frame).await);
        }
        for to in 0..snapshots.len() {
            for from in 0..to {
                let is_near = to - from < 3 || from == 0;
                if !thorough && !is_near && self.rng.random_bool(0.8) {
                    continue;
                }
                let (first, last) = (snapshots[from].snapshot_id(), snapshots[to].snapshot_id());
                let about = format!("{from} to {to} of {:#?}", self.done);
                let feed = || self.table.changes_between(first, last).unwrap();
                let plain = self.feed(feed(), &about).await;
                let mut feeds = vec![plain.clone()];
                if is_near {
                    let carried = self.feed(feed().keep_carried_over(), &about).await;
                    let net = self.feed(feed().net(), &about).await;
                    // A row is on one side of the net change at most.
                    let sides = |change: &'static str| {
                        net.iter().filter(move |row| row.change == change).map(|row| &row.row)
                    };
                    let deleted: BTreeSet<_> = sides("DELETE").collect();
                    assert!(sides("INSERT").all(|row| !deleted.contains(row)), "{about}");
                    assert!(plain.len() <= carried.len(), "{about}");
                    feeds.extend([carried, net, self.feed(feed().updates_by(["id"]), &about).await]);
                }
                for feed in &feeds {
                    let mut state = states[from].clone();
                    feed.iter().for_each(|row| row.apply(&mut state));
                    assert_eq!(state, states[to], "{about}");
                }
                // Snapshot by snapshot, all states in between are come by.
                let mut state = states[from].clone();
                let changing = (from + 1..=to)
                    .filter(|at| snapshots[*at].summary().operation != Operation::Replace)
                    .enumerate();
                for (ordinal, at) in changing {
                    for row in plain.iter().filter(|row| row.ordinal == ordinal as i32) {
                        assert_eq!(row.snapshot_id, snapshots[at].snapshot_id(), "{about}");
                        row.apply(&mut state);
                    }
                    assert_eq!(state, states[at], "at {at}, {about}");
                }
            }
        }
    }

    async fn feed(&self, changes: Changes, about: &str) -> Vec<Change> {
        let batches = changes.await.unwrap_or_else(|e| panic!("{e:?}, {about}")).collect().await;
        let mut rows = Vec::new();
        for batch in batches.unwrap_or_else(|e| panic!("{e:?}, {about}")) {
            let column = |name| batch.column_by_name(name).unwrap().clone();
            let (change, ordinal, id) =
                (column(CHANGE_TYPE), column(CHANGE_ORDINAL), column(COMMIT_SNAPSHOT_ID));
            let change = arrow::compute::cast(&change, &arrow::datatypes::DataType::Utf8).unwrap();
            for (at, row) in texts(&batch.project(&[0, 1, 2]).unwrap()).into_iter().enumerate() {
                rows.push(Change {
                    row,
                    change: change.as_string::<i32>().value(at).to_string(),
                    ordinal: ordinal.as_primitive::<Int32Type>().value(at),
                    snapshot_id: id.as_primitive::<Int64Type>().value(at),
                });
            }
        }
        rows
    }

    /// Rows that are not deleted are those of the plain read; with the deleted ones they are all that the files hold.
    async fn check_deleted_rows(&mut self) {
        let about = format!("{:#?}", self.done);
        let all = self.table.dataframe_with_deleted_rows().await.unwrap();
        let own = || vec![col("id"), col("p"), col("v")];
        let of = |deleted: bool| {
            let kept = all.clone().filter(col("_deleted").eq(lit(deleted))).unwrap();
            rows(kept.select(own()).unwrap())
        };
        let (live, deleted) = (of(false).await, of(true).await);
        assert_eq!(live, rows(self.table.dataframe().await.unwrap()).await, "{about}");
        let context = self.session.context().task_ctx();
        let files: Vec<LiveFile> = self.files().await.data.iter().map(|file| (**file).clone()).collect();
        let caches = self.session.scan_caches();
        let plan = scan_files(self.table.core(), &files, &[], caches, &context, 2, false).unwrap();
        let mut whole = Rows::new();
        count(&collect(plan, context).await.unwrap(), &mut whole);
        let mut both = live;
        deleted.into_iter().for_each(|(row, times)| *both.entry(row).or_default() += times);
        assert_eq!(both, whole, "{about}");
        // Each row is in one place, and its partition is its file's.
        let places = all.clone().select([col("_file"), col("_pos")]).unwrap();
        let total = places.clone().count().await.unwrap();
        assert_eq!(places.distinct().unwrap().count().await.unwrap(), total, "{about}");
        assert_eq!(total as i64, whole.values().sum::<i64>(), "{about}");
        let partitioned = all.schema().as_arrow().index_of("_partition").is_ok();
        if partitioned && self.table.core().metadata().default_partition_spec_id() == 0 {
            let wrong = all.filter(ident("_partition").field("p").not_eq(col("p"))).unwrap();
            assert_eq!(wrong.count().await.unwrap(), 0, "{about}");
        }
    }
}

#[derive(Debug, Clone)]
struct Change {
    row: String,
    change: String,
    ordinal: i32,
    snapshot_id: i64,
}

impl Change {
    fn apply(&self, state: &mut Rows) {
        let by = match self.change.as_str() {
            "INSERT" | "UPDATE_AFTER" => 1,
            "DELETE" | "UPDATE_BEFORE" => -1,
            other => panic!("no change is a {other}"),
        };
        let times = state.entry(self.row.clone()).or_default();
        *times += by;
        if *times == 0 {
            state.remove(&self.row);
        }
    }
}

async fn rows(frame: DataFrame) -> Rows {
    let mut all = Rows::new();
    count(&frame.collect().await.unwrap(), &mut all);
    all
}

fn count(batches: &[RecordBatch], into: &mut Rows) {
    for row in batches.iter().flat_map(texts) {
        *into.entry(row).or_default() += 1;
    }
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row =
        |at: usize| columns.iter().map(|column| column.value(at).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}
