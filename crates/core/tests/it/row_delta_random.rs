//! Row deltas made at random, by writers that read the table at some earlier moment, beside appends, rewrites and
//! overwrites: whatever goes through leaves the table as a plain model has it, a map of files to deleted positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use iceberg::spec::{FormatVersion, Struct};
use icefield_core::catalog::MemoryCatalog;
use icefield_core::commit::{DeleteBy, Isolation, Overwrite, Rewrite, RowDelta, Transaction};
use icefield_core::deletes::{
    DeleteIndex, DeletionVectorWriter, PositionDeleteWriter, RoaringTreemap, load_deletion_vector,
};
use icefield_core::format::{ContentFile, FileRef, LiveFile};
use icefield_core::storage::join;
use icefield_core::{ErrorKind, Table};
use icefield_testkit::deletes::Partition;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::prelude::*;
use rand::rngs::StdRng;

use crate::conflicts::{ELSEWHERE, HERE, partition, table};
use crate::support::{file_in, live};

/// How many operations a table goes through.
const STEPS: usize = 24;

/// A data file: where it is, its rows, and those of them that are deleted.
#[derive(Debug, Clone, PartialEq)]
struct Rows {
    at: Partition,
    rows: u64,
    dead: BTreeSet<u64>,
}

impl Rows {
    fn live(&self) -> Vec<u64> {
        (0..self.rows).filter(|row| !self.dead.contains(row)).collect()
    }
}

/// Data files by location.
type Model = BTreeMap<String, Rows>;

/// An operation, and its effect on the model.
struct Step {
    what: String,
    transaction: Transaction,
    /// Rows that are deleted.
    deletes: Vec<(String, BTreeSet<u64>)>,
    /// True if nobody else may have deleted them.
    strict: bool,
    /// Files that go, with the rows that were alive.
    replaces: Vec<String>,
    /// The partition of which all files go.
    clears: Option<Partition>,
    adds: Model,
}

struct World {
    rng: StdRng,
    version: FormatVersion,
    catalog: Arc<MemoryCatalog>,
    /// Each state of the table, and what it is by the model.
    history: Vec<(Table, Model)>,
    names: usize,
    stale: usize,
    conflicts: usize,
}

impl World {
    async fn new(seed: u64, version: FormatVersion) -> Self {
        let (catalog, table) = table(version).await;
        let history = vec![(table, Model::new())];
        Self { rng: StdRng::seed_from_u64(seed), version, catalog, history, names: 0, stale: 0, conflicts: 0 }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("f{}", self.names)
    }

    fn partition(&mut self) -> Partition {
        [partition(HERE), partition(ELSEWHERE), (2, Struct::empty())].choose(&mut self.rng).unwrap().clone()
    }

    /// An entry of a new data file, and the same in the model.
    fn file(&mut self, at: &Partition, rows: u64, adds: &mut Model) -> ContentFile {
        let entry = file_in(&self.name(), at.0, at.1.iter().map(|value| value.cloned().unwrap()));
        let path = entry.file.file_path().to_string();
        adds.insert(path, Rows { at: at.clone(), rows, dead: BTreeSet::new() });
        entry
    }

    /// Some files of which rows are left, of one partition if so said.
    fn pick(&mut self, model: &Model, of_one_partition: bool) -> Vec<String> {
        let mut left: Vec<_> = model.iter().filter(|(_, rows)| !rows.live().is_empty()).collect();
        left.shuffle(&mut self.rng);
        if let Some(first) = left.first().map(|(_, rows)| rows.at.clone()).filter(|_| of_one_partition) {
            left.retain(|(_, rows)| rows.at == first);
        }
        left.truncate(self.rng.random_range(1..=2));
        let mut paths: Vec<String> = left.into_iter().map(|(path, _)| path.clone()).collect();
        paths.sort();
        paths
    }

    /// Something that a writer who read the table at `base` does.
    async fn step(&mut self, base: &Table, model: &Model) -> Step {
        let isolation = *[Isolation::Serializable, Isolation::Snapshot].choose(&mut self.rng).unwrap();
        let transaction = Transaction::new(base).isolation(isolation);
        let mut step = Step {
            what: String::new(),
            transaction: transaction.clone(),
            deletes: Vec::new(),
            strict: false,
            replaces: Vec::new(),
            clears: None,
            adds: Model::new(),
        };
        let choice = if model.is_empty() { 0 } else { self.rng.random_range(0..10) };
        let (what, transaction) = match choice {
            0 | 1 => {
                let at = self.partition();
                let rows = self.rng.random_range(1..12);
                ("append".to_string(), transaction.append(vec![self.file(&at, rows, &mut step.adds)]))
            }
            2 => {
                step.replaces = self.pick(model, true);
                let Some(first) = step.replaces.first() else { return step };
                let rows = step.replaces.iter().map(|path| model[path].live().len() as u64).sum();
                let add = vec![self.file(&model[first].at, rows, &mut step.adds)];
                let delete = references(base, &step.replaces).await;
                (
                    "rewrite".to_string(),
                    transaction.rewrite_files(Rewrite { delete, add, sequence_number: None }),
                )
            }
            3 => {
                let at = partition(HERE);
                let add = vec![self.file(&at, 3, &mut step.adds)];
                let delete = DeleteBy::Partitions(vec![at.clone()]);
                step.clears = Some(at);
                ("overwrite".to_string(), transaction.overwrite(Overwrite { delete, add, reads: None }))
            }
            _ => {
                let delta = self.delta(base, model, &mut step).await;
                (format!("{delta:?}"), transaction.row_delta(delta))
            }
        };
        Step { what: format!("{isolation:?}: {what}"), transaction, ..step }
    }

    /// Deletes rows of some files, and adds as many for them if they are updated.
    async fn delta(&mut self, base: &Table, model: &Model, step: &mut Step) -> RowDelta {
        step.strict = self.rng.random_bool(0.4);
        let mut delta = RowDelta { updates: step.strict, ..RowDelta::default() };
        let there = live(base, "main").await;
        let mut deletes: Vec<(FileRef, RoaringTreemap)> = Vec::new();
        let mut count = 0;
        for path in self.pick(model, false) {
            let mut left = model[&path].live();
            left.shuffle(&mut self.rng);
            if self.rng.random_bool(0.7) {
                left.truncate(2);
            }
            count += left.len() as u64;
            let data = references(base, std::slice::from_ref(&path)).await.remove(0);
            if left.len() == model[&path].live().len() && self.rng.random_bool(0.7) {
                delta.remove_data.push(data);
                step.replaces.push(path);
                continue;
            }
            let mut rows: RoaringTreemap = left.iter().copied().collect();
            // A vector stands for all deletes of its file. Position delete files may be united, or come beside others.
            if self.version == FormatVersion::V3 || self.rng.random_bool(0.3) {
                rows.extend(model[&path].dead.iter().copied());
                let of_path =
                    there.iter().filter(|file| file.file.referenced_data_file().as_ref() == Some(&path));
                delta.remove_deletes.extend(of_path.map(|file| file.reference()));
            }
            deletes.push((data, rows));
            step.deletes.push((path, left.into_iter().collect()));
        }
        delta.add_deletes = self.write(base, &deletes).await;
        delta.references = deletes.into_iter().map(|(data, _)| data).collect();
        if step.strict && count > 0 {
            let at = self.partition();
            delta.add_data = vec![self.file(&at, count, &mut step.adds)];
        }
        delta
    }

    /// Delete files of the table's version: one of all, one for each partition, or one for each data file.
    async fn write(&mut self, base: &Table, deletes: &[(FileRef, RoaringTreemap)]) -> Vec<ContentFile> {
        let storage = base.storage();
        if self.version == FormatVersion::V3 {
            let mut writer = DeletionVectorWriter::new(self.location(base));
            for (data, rows) in deletes {
                writer.add(data, rows.clone()).unwrap();
            }
            return writer.finish(storage).await.unwrap();
        }
        let by_file = self.rng.random_bool(0.5);
        let mut written: Vec<(FileRef, PositionDeleteWriter)> = Vec::new();
        for (data, rows) in deletes {
            let beside =
                |of: &FileRef| !by_file && (of.spec_id, &of.partition) == (data.spec_id, &data.partition);
            let at = match written.iter().position(|(of, _)| beside(of)) {
                Some(at) => at,
                None => {
                    written.push((data.clone(), PositionDeleteWriter::new(self.location(base)).unwrap()));
                    written.len() - 1
                }
            };
            written[at].1.add(data, rows).unwrap();
        }
        let mut files = Vec::new();
        for (_, writer) in written {
            files.extend(writer.finish(storage).await.unwrap());
        }
        files
    }

    fn location(&mut self, table: &Table) -> String {
        join(table.metadata().location(), &format!("data/{}", self.name()))
    }

    /// Commits a step that was made from the table some commits ago, and holds the outcome against the model.
    async fn go(&mut self) {
        let age = self.rng.random_range(0..3.min(self.history.len()));
        let (base, read) = self.history[self.history.len() - 1 - age].clone();
        let step = self.step(&base, &read).await;
        let what = format!("{}, {age} commits old: {}", self.version, step.what);
        let mut model = self.history.last().unwrap().1.clone();
        match step.transaction.commit(&*self.catalog).await {
            Err(error) => {
                assert!(age > 0 && error.kind() == ErrorKind::Conflict, "{what}: {error}");
                self.conflicts += 1;
            }
            Ok(done) => {
                for path in &step.replaces {
                    let gone = model.remove(path).map(|rows| rows.live());
                    assert_eq!(gone, Some(read[path].live()), "rows of {path} were changed, {what}");
                }
                for (path, rows) in &step.deletes {
                    let file = model.get_mut(path).unwrap_or_else(|| panic!("{path} is gone, {what}"));
                    let fresh = rows.iter().all(|row| file.dead.insert(*row));
                    assert!(fresh || !step.strict, "deleted rows of {path} were updated, {what}");
                    file.dead.extend(rows);
                }
                if let Some(at) = &step.clears {
                    for (path, rows) in read.iter().filter(|(_, rows)| rows.at == *at) {
                        let now = model.get(path).map(Rows::live);
                        assert_eq!(now, Some(rows.live()), "rows of {path} were changed, {what}");
                    }
                    model.retain(|_, rows| rows.at != *at);
                }
                model.extend(step.adds);
                check(&done.table, &model, &what).await;
                self.stale += usize::from(age > 0 && done.snapshot_id.is_some());
                self.history.push((done.table, model));
            }
        }
    }
}

async fn references(table: &Table, paths: &[String]) -> Vec<FileRef> {
    let files = live(table, "main").await;
    paths.iter().map(|path| files.iter().find(|file| file.path() == path).unwrap().reference()).collect()
}

/// Holds a table against the model: its files, the rows that are deleted, and the totals of its summary.
async fn check(table: &Table, model: &Model, what: &str) {
    let files = live(table, "main").await;
    let (data, deletes): (Vec<&LiveFile>, Vec<&LiveFile>) = files.iter().partition(|file| file.is_data());
    let index = DeleteIndex::new(deletes.clone(), table.metadata()).unwrap();
    let mut found: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for file in &data {
        let applied = index.of(file);
        let dead = found.entry(file.path()).or_default();
        if let Some(vector) = applied.vector {
            dead.extend(load_deletion_vector(table.storage(), vector).await.unwrap());
        }
        for positions in applied.positions {
            dead.extend(positions_of(table, positions.path(), file.path()).await);
        }
    }
    let expected: BTreeMap<&str, BTreeSet<u64>> =
        model.iter().map(|(path, rows)| (path.as_str(), rows.dead.clone())).collect();
    assert_eq!(found, expected, "{what}");
    let summary = &table.metadata().current_snapshot().unwrap().summary().additional_properties;
    let positions: u64 = deletes.iter().map(|delete| delete.file.record_count()).sum();
    for (name, count) in [
        ("total-data-files", data.len() as u64),
        ("total-delete-files", deletes.len() as u64),
        ("total-position-deletes", positions),
    ] {
        assert_eq!(summary[name], count.to_string(), "{name}, {what}");
    }
}

/// The positions that a Parquet file has of a data file.
async fn positions_of(table: &Table, deletes: &str, data: &str) -> Vec<u64> {
    let bytes = table.storage().read(deletes).await.unwrap();
    let mut positions = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let paths = batch.column_by_name("file_path").unwrap().as_string::<i32>();
        let rows = batch.column_by_name("pos").unwrap().as_primitive::<Int64Type>();
        let of_data = paths.iter().zip(rows.values()).filter(|(path, _)| *path == Some(data));
        positions.extend(of_data.map(|(_, row)| *row as u64));
    }
    positions
}

#[tokio::test]
async fn random_row_deltas_leave_what_a_plain_model_has() {
    for version in [FormatVersion::V2, FormatVersion::V3] {
        let (mut stale, mut conflicts) = (0, 0);
        for seed in 0..6 {
            let mut world = World::new(seed, version).await;
            for _ in 0..STEPS {
                world.go().await;
            }
            stale += world.stale;
            conflicts += world.conflicts;
        }
        // Both happen: commits over others', and conflicts with them.
        assert!(stale > 10 && conflicts > 10, "{version}: {stale} over others', {conflicts} conflicts");
    }
}
