//! What a table's history tells of commits: their ids and idempotency keys, in snapshots and, after those expire, in a
//! table property.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::{SnapshotRef, SnapshotReference, TableMetadata};

use crate::config::Properties;
use crate::error::Result;
use crate::table::{ancestors, references};

/// Summary property: the id of the commit that made the snapshot.
pub const COMMIT_ID: &str = "icefield.commit-id";

/// Summary property: the caller's name for what the commit did.
pub const IDEMPOTENCY_KEY: &str = "icefield.idempotency-key";

/// Table property prefix, followed by a branch: the keys of that branch's expired snapshots, oldest first, as JSON.
const EXPIRED_KEYS: &str = "icefield.idempotency.expired-keys.";

/// Table property: how many keys of expired snapshots a branch keeps.
const MAX_EXPIRED_KEYS: &str = "icefield.idempotency.max-expired-keys";
const MAX_EXPIRED_KEYS_DEFAULT: usize = 10_000;
/// Bytes of the keys that a branch keeps, whatever their number: every commit writes them again.
const MAX_EXPIRED_KEYS_BYTES: usize = 1 << 20;

/// Whether a commit with this idempotency key is part of the branch, and its snapshot unless that was expired.
pub fn is_applied(metadata: &TableMetadata, branch: &str, key: &str) -> Option<Option<SnapshotRef>> {
    if let Some(snapshot) = find(metadata, branch, IDEMPOTENCY_KEY, key) {
        return Some(Some(snapshot));
    }
    expired_keys(metadata, branch).iter().any(|expired| expired == key).then_some(None)
}

/// The snapshot of the branch whose summary has this property.
pub(super) fn find(
    metadata: &TableMetadata,
    branch: &str,
    property: &str,
    value: &str,
) -> Option<SnapshotRef> {
    let head = metadata.snapshot_for_ref(branch)?.snapshot_id();
    let mut history = ancestors(metadata, head);
    history.find(|s| s.summary().additional_properties.get(property).is_some_and(|v| v == value)).cloned()
}

/// The last snapshot that this commit made, on whatever branch.
pub(super) fn of_commit(metadata: &TableMetadata, commit_id: &str) -> Option<SnapshotRef> {
    let made =
        |s: &&SnapshotRef| s.summary().additional_properties.get(COMMIT_ID).is_some_and(|id| id == commit_id);
    metadata.snapshots().filter(made).max_by_key(|s| s.sequence_number()).cloned()
}

fn expired_keys(metadata: &TableMetadata, branch: &str) -> Vec<String> {
    let text = metadata.properties().get(&format!("{EXPIRED_KEYS}{branch}"));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The properties that keep the keys of snapshots which are about to leave the history of a branch, for every branch that
/// stays: those that expire, and those behind them, which a tag may hold but from where no branch's history leads on.
pub(super) fn keep_keys(
    metadata: &TableMetadata,
    expiring: &[i64],
    dropped: &[String],
) -> Result<HashMap<String, String>> {
    let most = Properties::new(metadata.properties()).get_or(MAX_EXPIRED_KEYS, MAX_EXPIRED_KEYS_DEFAULT)?;
    let mut properties = HashMap::new();
    for (branch, reference) in references(metadata) {
        if !reference.is_branch() || dropped.contains(&branch) {
            continue;
        }
        let mut going: Vec<String> = ancestors(metadata, reference.snapshot_id)
            .skip_while(|s| !expiring.contains(&s.snapshot_id()))
            .filter_map(|s| s.summary().additional_properties.get(IDEMPOTENCY_KEY).cloned())
            .collect();
        if going.is_empty() {
            continue;
        }
        going.reverse();
        let mut keys = expired_keys(metadata, &branch);
        keys.extend(going);
        let mut bytes = 0;
        let newest = keys.iter().rev().take(most).take_while(|key| {
            bytes += key.len() + 3; // with quotes and comma
            bytes <= MAX_EXPIRED_KEYS_BYTES
        });
        let skip = keys.len() - newest.count();
        let text = serde_json::to_string(&keys[skip..])
            .map_err(|e| crate::Error::internal("keys can't be serialised").with_source(e))?;
        properties.insert(format!("{EXPIRED_KEYS}{branch}"), text);
    }
    Ok(properties)
}

/// The update that has a reference's expired keys be those of its history when it is set, or dropped (`None`). A branch that
/// moves along its own history has the keys that it had; one that is made anew has those of the branch that it is made from.
pub(super) fn keys_of_ref(
    metadata: &TableMetadata,
    name: &str,
    reference: Option<&SnapshotReference>,
) -> Option<TableUpdate> {
    let keys = |branch: &str| metadata.properties().get(&format!("{EXPIRED_KEYS}{branch}"));
    if !metadata.properties().keys().any(|property| property.starts_with(EXPIRED_KEYS)) {
        return None;
    }
    let leads_to = |head: i64, to: i64| ancestors(metadata, head).any(|s| s.snapshot_id() == to);
    let head = metadata.snapshot_for_ref(name).map(|s| s.snapshot_id());
    let has = match reference.filter(|reference| reference.is_branch()).map(|r| r.snapshot_id) {
        Some(to) if head.is_some_and(|head| leads_to(head, to) || leads_to(to, head)) => return None,
        Some(to) => references(metadata)
            .into_iter()
            .filter(|(_, other)| other.is_branch() && leads_to(other.snapshot_id, to))
            .find_map(|(other, _)| keys(&other)),
        None => None,
    };
    let property = format!("{EXPIRED_KEYS}{name}");
    match (keys(name), has) {
        (had, Some(has)) if had != Some(has) => {
            Some(TableUpdate::SetProperties { updates: HashMap::from([(property, has.clone())]) })
        }
        (Some(_), None) => Some(TableUpdate::RemoveProperties { removals: vec![property] }),
        _ => None,
    }
}
