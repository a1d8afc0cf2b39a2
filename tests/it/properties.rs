//! Random tables, random histories: a scan agrees with the plain reader of the test kit, whatever a table went through, and
//! what is pushed down into a scan agrees with the same done to all of its rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::prelude::{ident, not};
use datafusion::scalar::ScalarValue;
use iceberg::spec::{FormatVersion, NestedField, PrimitiveType, Schema, Type};
use icefield::evolve::{MetadataEdit, NewColumn, PartitionUpdate, SchemaUpdate, SortOrderUpdate, types};
use icefield::prelude::*;
use icefield::{AsOf, ErrorKind};
use icefield_core::filter::Filter;
use icefield_core::format::WantedStatistics;
use icefield_engine::scan::plan_files;
use icefield_testkit::deletes::{commit_deletes, deletion_vectors, equality_deletes, position_deletes};
use icefield_testkit::{content_hash, everything_schema, random_batches, reference_read};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

const NAME: &str = "db.random";

/// How many histories, unless `ICEFIELD_HISTORIES` says otherwise.
const HISTORIES: u64 = 8;
const STEPS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_table_went_through_its_rows_are_those_of_the_plain_reader() {
    let histories = std::env::var("ICEFIELD_HISTORIES").ok().and_then(|text| text.parse().ok());
    for seed in 0..histories.unwrap_or(HISTORIES) {
        History::begin(seed).await.run().await;
    }
}

/// A table and what is random about it.
struct History {
    rng: StdRng,
    session: Session,
    table: Table,
    /// For messages: what was done.
    done: Vec<String>,
}

impl History {
    async fn begin(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let version = [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3][(seed % 3) as usize];
        let session = Session::builder().parallelism(3).build().unwrap();
        let schema = some_columns(&mut rng, &everything_schema(version));
        let mut create = session.create_table(NAME, schema.clone()).format_version(version as u8);
        if rng.random_bool(0.7) {
            create = create.partition_by(some_terms(&mut rng, &schema));
        }
        if rng.random_bool(0.3) {
            create = create.sort_by([asc("id")]);
        }
        // Several files and row groups of few rows.
        create = create.property("write.parquet.page-row-limit", "20");
        let table = create.await.unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        Self { rng, session, table, done: vec![format!("seed {seed}, version {version}")] }
    }

    async fn run(mut self) {
        for step in 0..STEPS {
            self.step(step as u64).await;
            self.table = self.session.table(NAME).await.unwrap();
            self.check(AsOf::Current).await;
            let mut snapshots: Vec<i64> =
                self.table.core().metadata().snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
            snapshots.sort_unstable();
            if let Some(id) = snapshots.choose(&mut self.rng) {
                self.check(AsOf::Snapshot(*id)).await;
            }
        }
    }

    async fn step(&mut self, step: u64) {
        let schema = self.table.core().schema().clone();
        match self.rng.random_range(0..13) {
            _ if step == 0 => self.append(step).await,
            0..4 => self.append(step).await,
            4..7 => {
                let edit = some_edit(&mut self.rng, &schema);
                self.alter(edit).await;
            }
            7 => {
                let edit = match some_terms(&mut self.rng, &schema).pop() {
                    Some(term) if self.rng.random_bool(0.7) => PartitionUpdate::new().add_field(term),
                    _ => PartitionUpdate::new().clear(),
                };
                self.alter(edit.into()).await;
            }
            8 => self.alter(SortOrderUpdate::new([desc("id")]).into()).await,
            9..12 => self.delete(step).await,
            _ => {
                self.done.push("compaction".to_string());
                let dangling = self.rng.random_bool(0.5);
                let compaction = maintenance::compact(&self.table).rewrite_all(true);
                let compaction = compaction.remove_dangling_deletes(dangling);
                compaction.await.unwrap_or_else(|e| panic!("{:?}: {e:?}", self.done));
            }
        }
    }

    async fn append(&mut self, step: u64) {
        let rows = self.rng.random_range(1..120);
        self.done.push(format!("append of {rows} rows"));
        let schema = self.table.core().schema().clone();
        let batches = random_batches(step, &schema, 2, rows);
        let input = self.session.read_batches(batches).unwrap();
        let appended = input.append_to(&self.session, NAME).await;
        appended.unwrap_or_else(|e| panic!("{:?}: {e:?}", self.done));
    }

    /// Deletes some rows of one file by position, or some keys of its partition.
    async fn delete(&mut self, step: u64) {
        let table = self.table.core().clone();
        let version = table.metadata().format_version();
        let Some(snapshot) = table.metadata().current_snapshot() else { return };
        if version == FormatVersion::V1 {
            return;
        }
        let caches = self.session.scan_caches();
        let planned =
            plan_files(&table, snapshot, &Filter::True, &WantedStatistics::None, caches).await.unwrap();
        let has_vector = |path: &str| {
            planned.deletes.iter().any(|delete| delete.file.referenced_data_file().as_deref() == Some(path))
        };
        let files = planned.data.iter().filter(|file| !has_vector(file.path()));
        let Some(file) = files.choose(&mut self.rng) else { return };
        let (name, path) = (format!("deletes-{step}"), file.path());
        let partition = (file.spec_id, file.file.partition().clone());
        let deletes = if self.rng.random_bool(0.4) {
            let keys = self.some_ids().await;
            self.done.push(format!("keys {keys:?} deleted in {}", file.path()));
            let ids: ArrayRef = Arc::new(Int64Array::from(keys));
            let keys = RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap();
            let id = table.schema().field_id_by_name("id").unwrap();
            vec![equality_deletes(&table, &name, &partition, &[id], &[("id", id)], &keys).await]
        } else {
            let rows = 0..file.file.record_count();
            let rows: Vec<u64> = rows.filter(|_| self.rng.random_bool(0.2)).collect();
            self.done.push(format!("rows {rows:?} deleted of {path}"));
            if version == FormatVersion::V3 {
                deletion_vectors(&table, &name, &partition, &[(path, &rows)]).await
            } else {
                let rows: Vec<(&str, i64)> = rows.iter().map(|row| (path, *row as i64)).collect();
                vec![position_deletes(&table, &name, &partition, &rows).await]
            }
        };
        commit_deletes(&**self.session.catalog(), &table, deletes).await;
    }

    /// Ids of rows, and NULL now and then.
    async fn some_ids(&mut self) -> Vec<Option<i64>> {
        let ids = self.table.dataframe().await.unwrap().select_columns(&["id"]).unwrap();
        let mut all: Vec<Option<i64>> = vec![None];
        for batch in ids.collect().await.unwrap() {
            all.extend(batch.column(0).as_primitive::<Int64Type>().iter());
        }
        all.choose_multiple(&mut self.rng, 8).copied().collect()
    }

    /// Changes the table, where the change is legal.
    async fn alter(&mut self, edit: MetadataEdit) {
        let text = format!("{edit:?}");
        match self.table.alter().edit(edit).await {
            Ok(_) => self.done.push(text),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {}
            Err(e) => panic!("{:?}, {text}: {e:?}", self.done),
        }
    }

    async fn check(&mut self, as_of: AsOf) {
        let table = self.table.as_of(as_of.clone()).unwrap();
        let schema = table.core().schema_as_of(&as_of).unwrap();
        let about = format!("{as_of:?} of {:#?}", self.done);
        let read = table.dataframe().await.unwrap().collect().await;
        let read = read.unwrap_or_else(|e| panic!("{about}: {e:?}"));
        let expected = reference_read(table.core(), &as_of).await;
        assert_eq!(content_hash(&read, &schema), content_hash(&expected, &schema), "{about}");
        if read.is_empty() {
            return;
        }
        let all = concat_batches(&read[0].schema(), &read).unwrap();
        for _ in 0..6 {
            let filter = some_filter(&mut self.rng, &schema, &all);
            let pushed = table.dataframe().await.unwrap().filter(filter.clone()).unwrap().collect().await;
            let pushed = pushed.unwrap_or_else(|e| panic!("{filter}, {about}: {e:?}"));
            let after = self.session.read_batches([all.clone()]).unwrap().filter(filter.clone()).unwrap();
            let after = after.collect().await.unwrap();
            assert_eq!(
                content_hash(&pushed, &schema),
                content_hash(&after, &schema),
                "{filter} where {about}"
            );
        }
        let column = schema.as_struct().fields().choose(&mut self.rng).unwrap().clone();
        self.check_column(&table, &all, &column, &about).await;
    }

    /// One column alone, and what metadata may answer of it.
    async fn check_column(&self, table: &Table, all: &RecordBatch, column: &NestedField, about: &str) {
        let alone = Schema::builder().with_fields([column.clone().into()]).build().unwrap();
        let name = || ident(&column.name);
        let projected = table.dataframe().await.unwrap().select([name()]).unwrap().collect().await.unwrap();
        let expected = content_hash([all], &alone);
        assert_eq!(content_hash(&projected, &alone), expected, "{} alone, {about}", column.name);

        let mut aggregates = vec![count(name()), count(lit(1))];
        if column.field_type.is_primitive() {
            aggregates.extend([min(name()), max(name())]);
        }
        let answer = |frame: DataFrame| {
            let aggregates = aggregates.clone();
            async move {
                let answer = frame.aggregate(vec![], aggregates).unwrap().collect().await.unwrap();
                answer.iter().map(|batch| format!("{:?}", batch.columns())).collect::<String>()
            }
        };
        let from_table = answer(table.dataframe().await.unwrap()).await;
        let from_rows = answer(self.session.read_batches([all.clone()]).unwrap()).await;
        assert_eq!(from_table, from_rows, "aggregates of {}, {about}", column.name);
    }
}

/// A schema of `id` and about half of the other columns.
fn some_columns(rng: &mut StdRng, all: &Schema) -> Schema {
    let fields = all.as_struct().fields().iter().filter(|field| field.name == "id" || rng.random_bool(0.5));
    Schema::builder().with_fields(fields.cloned()).build().unwrap()
}

/// One or two partition terms that fit the columns, and make few partitions.
fn some_terms(rng: &mut StdRng, schema: &Schema) -> Vec<icefield_core::evolve::Term> {
    use PrimitiveType as P;
    use icefield_core::evolve::{Term, bucket, month, truncate, year};
    let mut terms: Vec<Term> = Vec::new();
    for field in schema.as_struct().fields() {
        let Type::Primitive(of) = field.field_type.as_ref() else { continue };
        let name = field.name.as_str();
        terms.push(match of {
            P::Boolean => Term::new(name, iceberg::spec::Transform::Identity),
            P::Int | P::Decimal { .. } | P::String | P::Binary if rng.random_bool(0.3) => truncate(name, 400),
            P::Date | P::Timestamp | P::Timestamptz if rng.random_bool(0.5) => year(name),
            P::Date | P::Timestamp | P::Timestamptz if rng.random_bool(0.2) => month(name),
            P::Float | P::Double => continue,
            _ => bucket(name, rng.random_range(1..4)),
        });
    }
    let count = rng.random_range(1..3);
    terms.choose_multiple(rng, count).cloned().collect()
}

/// A change of the schema, legal or not.
fn some_edit(rng: &mut StdRng, schema: &Schema) -> MetadataEdit {
    let mut names: Vec<&str> = schema.field_id_to_name_map().values().map(String::as_str).collect();
    names.retain(|name| *name != "id");
    names.sort_unstable();
    names.push("nothing");
    let any = |rng: &mut StdRng| names.choose(rng).unwrap().to_string();
    let fresh = |rng: &mut StdRng| format!("c{}", rng.random_range(0..10));
    let leaf = |rng: &mut StdRng| {
        let leaves = [types::int(), types::float(), types::string(), types::decimal(9, 2), types::date()];
        leaves.choose(rng).unwrap().clone()
    };
    let update = SchemaUpdate::new();
    match rng.random_range(0..9) {
        0 => update.add_column_with(NewColumn::new(fresh(rng), leaf(rng)).first()).into(),
        1 => {
            let fields = [types::optional("a", leaf(rng)), types::optional("b", leaf(rng))];
            let of = if rng.random_bool(0.5) {
                types::structure(fields)
            } else {
                types::list(types::structure(fields))
            };
            update.add_column(fresh(rng), of).into()
        }
        2 => update.add_column(format!("{}.{}", any(rng), fresh(rng)), leaf(rng)).into(),
        3 | 4 => update.drop_column(any(rng)).into(),
        5 | 6 => update.rename_column(any(rng), fresh(rng)).into(),
        7 => update.move_first(any(rng)).into(),
        _ => {
            let wider = [types::long(), types::double(), types::decimal(25, 2)];
            update.promote_column(any(rng), wider.choose(rng).unwrap().clone()).into()
        }
    }
}

/// A filter that some rows match: its values are those of rows.
fn some_filter(rng: &mut StdRng, schema: &Schema, rows: &RecordBatch) -> Expr {
    let test = |rng: &mut StdRng| {
        let field = schema.as_struct().fields().choose(rng).unwrap();
        let column = ident(&field.name);
        if !field.field_type.is_primitive() {
            return if rng.random_bool(0.5) { column.is_null() } else { column.is_not_null() };
        }
        let value = |rng: &mut StdRng| {
            let array = rows.column_by_name(&field.name).unwrap();
            match ScalarValue::try_from_array(array, rng.random_range(0..rows.num_rows())).unwrap() {
                // DataFusion counts the values between two bounds in 64 bits, and overflows on all of them.
                ScalarValue::Int64(Some(i64::MIN | i64::MAX)) => lit(0_i64),
                value => lit(value),
            }
        };
        match rng.random_range(0..9) {
            0 => column.is_null(),
            1 => column.is_not_null(),
            2 => column.eq(value(rng)),
            3 => column.not_eq(value(rng)),
            4 => column.lt(value(rng)),
            5 => column.gt_eq(value(rng)),
            6 => column.between(value(rng), value(rng)),
            7 => column.gt(value(rng)),
            _ => column.in_list(vec![value(rng), value(rng), value(rng)], rng.random_bool(0.3)),
        }
    };
    let first = test(rng);
    match rng.random_range(0..5) {
        0 => first.and(test(rng)),
        1 => first.or(test(rng)),
        2 => not(first),
        _ => first,
    }
}
