//! [`Kept`]: what a metadata file has and the typed metadata made of it writes otherwise, to be put back when it is written.
//!
//! Three JSON documents go in: the file's, the one that was parsed in its place, with stand-ins, and the one that the typed
//! metadata writes. Where the first and the last differ the difference is kept, a member at a time. Put back, it yields to
//! what was changed since: a member that the new document has with another value than the typed metadata wrote at first
//! was changed, and stays. Things in lists are told apart by their ids, so that what is kept of one stays with it, whatever else
//! comes and goes, and goes when it goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use iceberg::TableUpdate;
use serde_json::{Map, Value};

/// What a metadata file has beyond its typed metadata. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Members>);

type Members = BTreeMap<String, Change>;

#[derive(Debug, Clone)]
enum Change {
    /// The file has a member that is not written.
    Lost(Value),
    /// The file has another value than is written.
    Other { file: Value, written: Value },
    /// A stand-in for what the file does not have is written.
    Made(Value),
    /// The members of an object differ.
    Object(Members),
    /// The things in a list differ.
    List(List),
}

#[derive(Debug, Clone, Default)]
struct List {
    /// What differs of things that are in both, by their keys.
    things: HashMap<String, Members>,
    /// What is in the file and is not written.
    lost: Vec<(String, Value)>,
    /// What is written and is not in the file.
    made: HashSet<String>,
    /// The file's order, where another is written.
    order: Vec<String>,
}

impl List {
    fn is_empty(&self) -> bool {
        self.things.is_empty() && self.lost.is_empty() && self.made.is_empty() && self.order.is_empty()
    }
}

impl Kept {
    /// What differs between a file, what was parsed for it, and what is written of that.
    pub(super) fn of(file: &Value, parsed: &Value, written: &Value) -> Self {
        match (file, parsed, written) {
            (Value::Object(file), Value::Object(parsed), Value::Object(written)) => {
                Self(Arc::new(members("", file, Some(parsed), written)))
            }
            _ => Self::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes it takes in memory.
    pub(super) fn estimated_bytes(&self) -> usize {
        fn value(of: &Value) -> usize {
            32 + match of {
                Value::String(text) => text.len(),
                Value::Array(all) => all.iter().map(value).sum(),
                Value::Object(all) => all.iter().map(|(key, of)| 64 + key.len() + value(of)).sum(),
                _ => 0,
            }
        }
        fn members(of: &Members) -> usize {
            let change = |change: &Change| match change {
                Change::Lost(of) | Change::Made(of) => value(of),
                Change::Other { file, written } => value(file) + value(written),
                Change::Object(of) => members(of),
                Change::List(list) => {
                    let things = list.things.iter().map(|(key, of)| 100 + key.len() + members(of));
                    let lost = list.lost.iter().map(|(key, of)| 64 + key.len() + value(of));
                    let keys = list.made.iter().chain(&list.order).map(|key| 64 + key.len());
                    things.chain(lost).chain(keys).sum()
                }
            };
            of.iter().map(|(name, of)| 64 + name.len() + change(of)).sum()
        }
        members(&self.0)
    }

    /// Puts it back into metadata that is to be written.
    pub(super) fn restore(&self, json: &mut Value) {
        if let Value::Object(json) = json {
            restore("", &self.0, json);
        }
    }

    /// What is kept after these updates: nothing of what they take away or replace.
    pub(crate) fn after(&self, updates: &[TableUpdate]) -> Self {
        if self.is_empty() {
            return self.clone();
        }
        let mut kept = self.0.as_ref().clone();
        for update in updates {
            match update {
                TableUpdate::RemoveSnapshots { snapshot_ids } => {
                    let of = |key: &str| snapshot_ids.iter().any(|id| first(key) == id.to_string());
                    for list in ["snapshots", "statistics", "partition-statistics"] {
                        forget(&mut kept, list, of);
                    }
                    // The history up to what is gone goes as well.
                    forget(&mut kept, "snapshot-log", |_| true);
                }
                TableUpdate::RemoveStatistics { snapshot_id } => {
                    forget(&mut kept, "statistics", |key| first(key) == snapshot_id.to_string());
                }
                TableUpdate::SetStatistics { statistics } => {
                    let id = statistics.snapshot_id.to_string();
                    forget(&mut kept, "statistics", |key| first(key) == id);
                }
                TableUpdate::RemovePartitionStatistics { snapshot_id } => {
                    forget(&mut kept, "partition-statistics", |key| first(key) == snapshot_id.to_string());
                }
                TableUpdate::SetPartitionStatistics { partition_statistics } => {
                    let id = partition_statistics.snapshot_id.to_string();
                    forget(&mut kept, "partition-statistics", |key| first(key) == id);
                }
                TableUpdate::RemoveSchemas { schema_ids } => {
                    forget(&mut kept, "schemas", |key| {
                        schema_ids.iter().any(|id| first(key) == id.to_string())
                    });
                }
                TableUpdate::RemovePartitionSpecs { spec_ids } => {
                    let of = |key: &str| spec_ids.iter().any(|id| first(key) == id.to_string());
                    forget(&mut kept, "partition-specs", of);
                }
                TableUpdate::RemoveEncryptionKey { key_id } => {
                    let id = Value::from(key_id.as_str()).to_string();
                    forget(&mut kept, "encryption-keys", |key| key == id);
                }
                TableUpdate::RemoveSnapshotRef { ref_name } => {
                    if let Some(Change::Object(refs)) = kept.get_mut("refs") {
                        refs.remove(ref_name);
                    }
                }
                // The file's own one is no longer meant.
                TableUpdate::SetCurrentSchema { .. } | TableUpdate::UpgradeFormatVersion { .. } => {
                    kept.remove("schema");
                }
                TableUpdate::SetDefaultSpec { .. } => {
                    kept.remove("partition-spec");
                }
                _ => {}
            }
        }
        Self(Arc::new(kept))
    }
}

/// The first part of a key: the id that it begins with.
fn first(key: &str) -> &str {
    key.split([' ', '#']).next().unwrap_or(key)
}

fn forget(kept: &mut Members, list: &str, of: impl Fn(&str) -> bool) {
    let Some(Change::List(list)) = kept.get_mut(list) else { return };
    list.things.retain(|key, _| !of(key));
    list.lost.retain(|(key, _)| !of(key));
}

/// The members by which the things in a list are told apart; none for those that are told apart by their place, and `None`
/// for lists that are values.
fn identity(within: &str, list: &str) -> Option<&'static [&'static str]> {
    match (within, list) {
        ("", "schemas") => Some(&["schema-id"]),
        ("", "partition-specs") => Some(&["spec-id"]),
        ("", "partition-spec") | ("partition-specs", "fields") => Some(&["field-id"]),
        ("", "sort-orders") => Some(&["order-id"]),
        ("", "snapshots") => Some(&["snapshot-id"]),
        ("", "statistics" | "partition-statistics") => Some(&["snapshot-id", "statistics-path"]),
        ("", "snapshot-log") => Some(&["snapshot-id", "timestamp-ms"]),
        ("", "metadata-log") => Some(&["metadata-file", "timestamp-ms"]),
        ("", "encryption-keys") => Some(&["key-id"]),
        ("sort-orders", "fields") | ("statistics", "blob-metadata") => Some(&[]),
        _ => None,
    }
}

/// The keys of a list's things, each once; `None` where some are no objects.
fn keys(things: &[Value], identity: &[&str]) -> Option<Vec<String>> {
    let mut seen = HashMap::<String, usize>::new();
    let key = |(place, thing): (usize, &Value)| {
        let thing = thing.as_object()?;
        let key = match identity {
            [] => place.to_string(),
            _ => {
                let part = |name: &&str| thing.get(*name).unwrap_or(&Value::Null).to_string();
                identity.iter().map(part).collect::<Vec<_>>().join(" ")
            }
        };
        let times = seen.entry(key.clone()).and_modify(|times| *times += 1).or_insert(1);
        Some(if *times == 1 { key } else { format!("{key}#{times}") })
    };
    things.iter().enumerate().map(key).collect()
}

fn members(
    within: &str,
    file: &Map<String, Value>,
    parsed: Option<&Map<String, Value>>,
    written: &Map<String, Value>,
) -> Members {
    let mut changes = Members::new();
    for (name, value) in file {
        let change = match written.get(name) {
            None => Some(Change::Lost(value.clone())),
            Some(other) if other == value => None,
            // Says no more than a member that is left out, and may be what another version requires.
            Some(_) if value.is_null() && within.is_empty() => None,
            Some(other) => differing(within, name, value, parsed.and_then(|of| of.get(name)), other),
        };
        changes.extend(change.map(|change| (name.clone(), change)));
    }
    for (name, value) in written {
        if !file.contains_key(name) && parsed.is_some_and(|parsed| parsed.contains_key(name)) {
            changes.insert(name.clone(), Change::Made(value.clone()));
        }
    }
    changes
}

fn differing(
    within: &str,
    name: &str,
    file: &Value,
    parsed: Option<&Value>,
    written: &Value,
) -> Option<Change> {
    if let (Value::Object(file), Value::Object(written)) = (file, written) {
        let inner = members(name, file, parsed.and_then(Value::as_object), written);
        return (!inner.is_empty()).then_some(Change::Object(inner));
    }
    if let (Value::Array(file), Value::Array(written), Some(by)) = (file, written, identity(within, name))
        && let (Some(file_keys), Some(written_keys)) = (keys(file, by), keys(written, by))
    {
        let parsed = parsed.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let list = list(name, by, (file, &file_keys), parsed, (written, &written_keys));
        return (!list.is_empty()).then_some(Change::List(list));
    }
    Some(Change::Other { file: file.clone(), written: written.clone() })
}

fn list(
    name: &str,
    by: &[&str],
    (file, file_keys): (&[Value], &[String]),
    parsed: &[Value],
    (written, written_keys): (&[Value], &[String]),
) -> List {
    let by_key = |keys: &[String], things: &'_ [Value]| -> HashMap<String, usize> {
        keys.iter().cloned().zip(0..things.len()).collect()
    };
    let parsed_at = keys(parsed, by).map(|keys| by_key(&keys, parsed)).unwrap_or_default();
    let written_at = by_key(written_keys, written);
    let mut kept = List::default();
    for (key, thing) in file_keys.iter().zip(file) {
        let Some(other) = written_at.get(key).and_then(|at| written.get(*at)) else {
            kept.lost.push((key.clone(), thing.clone()));
            continue;
        };
        let parsed = parsed_at.get(key).and_then(|at| parsed.get(*at));
        if let (Value::Object(thing), Value::Object(other)) = (thing, other)
            && thing != other
        {
            let inner = members(name, thing, parsed.and_then(Value::as_object), other);
            if !inner.is_empty() {
                kept.things.insert(key.clone(), inner);
            }
        }
    }
    let in_file: HashSet<&String> = file_keys.iter().collect();
    let made = written_keys.iter().filter(|key| !in_file.contains(key));
    // Nothing makes up history; what else is written beside what the file has completes it.
    kept.made = made.filter(|key| name == "snapshot-log" || parsed_at.contains_key(*key)).cloned().collect();
    let both = written_keys.iter().filter(|key| in_file.contains(key));
    let ordered = file_keys.iter().filter(|key| written_at.contains_key(*key)).eq(both);
    if !ordered || !kept.lost.is_empty() {
        kept.order = file_keys.to_vec();
    }
    kept
}

fn restore(within: &str, changes: &Members, json: &mut Map<String, Value>) {
    for (name, change) in changes {
        match change {
            Change::Lost(value) => {
                json.entry(name.clone()).or_insert_with(|| value.clone());
            }
            Change::Other { file, written } => {
                if let Some(now) = json.get_mut(name).filter(|now| *now == written) {
                    *now = file.clone();
                }
            }
            Change::Made(value) => {
                if json.get(name) == Some(value) {
                    json.remove(name);
                }
            }
            Change::Object(inner) => {
                if let Some(Value::Object(object)) = json.get_mut(name) {
                    restore(name, inner, object);
                }
            }
            Change::List(list) => {
                if let (Some(Value::Array(things)), Some(by)) = (json.get_mut(name), identity(within, name)) {
                    restore_list(name, by, list, things);
                }
            }
        }
    }
}

fn restore_list(name: &str, by: &[&str], list: &List, things: &mut Vec<Value>) {
    let Some(keys) = keys(things, by) else { return };
    let mut all: Vec<(String, Value)> = keys.into_iter().zip(std::mem::take(things)).collect();
    all.retain(|(key, _)| !list.made.contains(key));
    for (key, thing) in &mut all {
        if let (Some(inner), Value::Object(thing)) = (list.things.get(key), thing) {
            restore(name, inner, thing);
        }
    }
    all.extend(list.lost.iter().cloned());
    if !list.order.is_empty() {
        let places: HashMap<&String, usize> = list.order.iter().zip(0..).collect();
        // Stable: what is new follows, in the order in which it is written.
        all.sort_by_key(|(key, _)| places.get(key).copied().unwrap_or(usize::MAX));
    }
    things.extend(all.into_iter().map(|(_, thing)| thing));
}
