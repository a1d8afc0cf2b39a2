//! Snapshot summaries: what a snapshot changed, and the table's totals after it (Iceberg spec, appendix F).

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataContentType, DataFile, Snapshot, Struct};

use super::kept::{Removed, content_size};
use crate::deletes::is_vector;

/// Counts what a snapshot adds and removes.
#[derive(Debug, Default)]
pub(super) struct SummaryCounts {
    added_data_files: u64,
    added_records: u64,
    added_bytes: u64,
    removed_data_files: u64,
    removed_records: u64,
    removed_bytes: u64,
    added_deletes: DeleteCounts,
    removed_deletes: DeleteCounts,
    duplicates: u64,
    seen: HashSet<(String, Option<i64>)>,
    partitions: HashSet<(i32, Struct)>,
}

/// Counts of delete files, and of the rows that they delete.
#[derive(Debug, Default)]
struct DeleteCounts {
    files: u64,
    position_files: u64,
    vectors: u64,
    equality_files: u64,
    position_deletes: u64,
    equality_deletes: u64,
}

impl DeleteCounts {
    fn count(&mut self, by_equality: bool, is_vector: bool, rows: u64) {
        self.files += 1;
        let (files, deletes) = match (by_equality, is_vector) {
            (true, _) => (&mut self.equality_files, &mut self.equality_deletes),
            (false, true) => (&mut self.vectors, &mut self.position_deletes),
            (false, false) => (&mut self.position_files, &mut self.position_deletes),
        };
        *files += 1;
        add(deletes, rows);
    }
}

/// Counts may be whatever another writer claims: more than there can be is as much as there can be.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

impl SummaryCounts {
    /// Counts a file that comes.
    pub(super) fn add(&mut self, spec_id: i32, file: &DataFile) {
        match file.content_type() {
            DataContentType::Data => {
                self.added_data_files += 1;
                add(&mut self.added_records, file.record_count());
            }
            of => {
                let by_equality = of == DataContentType::EqualityDeletes;
                self.added_deletes.count(by_equality, is_vector(file), file.record_count());
            }
        }
        add(&mut self.added_bytes, content_size(file));
        self.partitions.insert((spec_id, file.partition().clone()));
    }

    /// Counts a file that goes. One that the table lists twice counts once.
    pub(super) fn remove(&mut self, file: &Removed) {
        if !self.seen.insert(file.identity.clone()) {
            self.duplicates += 1;
            return;
        }
        match file.content {
            DataContentType::Data => {
                self.removed_data_files += 1;
                add(&mut self.removed_records, file.records);
            }
            of => {
                let by_equality = of == DataContentType::EqualityDeletes;
                self.removed_deletes.count(by_equality, file.is_vector, file.records);
            }
        }
        add(&mut self.removed_bytes, file.bytes);
        self.partitions.insert((file.spec_id, file.partition.clone()));
    }

    /// The summary's properties. A total is left out when the parent does not tell it.
    pub(super) fn properties(&self, parent: Option<&Snapshot>) -> HashMap<String, String> {
        let mut out = HashMap::new();
        let mut put = |name: &str, value: u64| {
            if value > 0 {
                out.insert(name.to_string(), value.to_string());
            }
        };
        put("added-data-files", self.added_data_files);
        put("added-records", self.added_records);
        put("added-files-size", self.added_bytes);
        put("deleted-data-files", self.removed_data_files);
        put("deleted-records", self.removed_records);
        put("removed-files-size", self.removed_bytes);
        put("deleted-duplicate-files", self.duplicates);
        for (verb, of) in [("added", &self.added_deletes), ("removed", &self.removed_deletes)] {
            put(&format!("{verb}-delete-files"), of.files);
            put(&format!("{verb}-position-delete-files"), of.position_files);
            put(&format!("{verb}-dvs"), of.vectors);
            put(&format!("{verb}-equality-delete-files"), of.equality_files);
            put(&format!("{verb}-position-deletes"), of.position_deletes);
            put(&format!("{verb}-equality-deletes"), of.equality_deletes);
        }
        out.insert("changed-partition-count".to_string(), self.partitions.len().to_string());
        let (come, go) = (&self.added_deletes, &self.removed_deletes);
        for (name, added, removed) in [
            ("total-data-files", self.added_data_files, self.removed_data_files),
            ("total-records", self.added_records, self.removed_records),
            ("total-files-size", self.added_bytes, self.removed_bytes),
            ("total-delete-files", come.files, go.files),
            ("total-position-deletes", come.position_deletes, go.position_deletes),
            ("total-equality-deletes", come.equality_deletes, go.equality_deletes),
        ] {
            let before: Option<u64> = match parent {
                None => Some(0),
                Some(parent) => parent.summary().additional_properties.get(name).and_then(|v| v.parse().ok()),
            };
            if let Some(total) = before.and_then(|before| before.checked_add(added)?.checked_sub(removed)) {
                out.insert(name.to_string(), total.to_string());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{Operation, Summary};

    use super::*;

    #[test]
    fn totals_that_make_no_sense_are_left_out() {
        let counts = SummaryCounts { added_records: 1, ..SummaryCounts::default() };
        for total in ["18446744073709551615", "-1", "many"] {
            let parent = Snapshot::builder()
                .with_snapshot_id(1)
                .with_sequence_number(1)
                .with_timestamp_ms(1)
                .with_manifest_list("memory://w/list")
                .with_summary(Summary {
                    operation: Operation::Append,
                    additional_properties: HashMap::from([("total-records".to_string(), total.to_string())]),
                })
                .build();
            let properties = counts.properties(Some(&parent));
            assert_eq!(properties.get("total-records"), None, "{total}");
            assert_eq!(properties["added-records"], "1");
        }
    }
}
