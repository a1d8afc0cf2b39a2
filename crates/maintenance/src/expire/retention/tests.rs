//! Each case is a history, rules, and what goes. Snapshots are numbered; the time of number n is n days.

use serde_json::json;

use super::*;

const DAY: i64 = 86_400_000;

struct Case {
    name: &'static str,
    /// (id, parent); the id is also the day on which it was made.
    snapshots: &'static [(i64, i64)],
    /// (name, snapshot, retention as JSON members)
    refs: &'static [(&'static str, i64, &'static str)],
    cutoff_day: i64,
    retain_last: usize,
    max_ref_age_days: Option<i64>,
    ids: &'static [i64],
    removed: &'static [i64],
    removed_refs: &'static [&'static str],
}

const LINE: &[(i64, i64)] = &[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)];
/// main: 1 2 3 6; branch b: 1 2 4 5
const FORK: &[(i64, i64)] = &[(1, 0), (2, 1), (3, 2), (4, 2), (5, 4), (6, 3)];

const PLAIN: Case = Case {
    name: "",
    snapshots: LINE,
    refs: &[("main", 5, "")],
    cutoff_day: 100,
    retain_last: 1,
    max_ref_age_days: None,
    ids: &[],
    removed: &[],
    removed_refs: &[],
};

/// The clock stands on day 100.
const CASES: &[Case] = &[
    Case { name: "everything is too old: the head stays", removed: &[1, 2, 3, 4], ..PLAIN },
    Case { name: "the newest three stay whatever their age", retain_last: 3, removed: &[1, 2], ..PLAIN },
    Case { name: "all younger than the cutoff stay", cutoff_day: 4, removed: &[1, 2, 3], ..PLAIN },
    Case { name: "a snapshot made exactly at the cutoff stays", cutoff_day: 3, removed: &[1, 2], ..PLAIN },
    Case { name: "more to retain than there are", retain_last: 9, removed: &[], ..PLAIN },
    Case { name: "nothing is old", cutoff_day: 0, removed: &[], ..PLAIN },
    Case {
        name: "a branch's own number wins over the call's",
        refs: &[("main", 5, r#""min-snapshots-to-keep":4"#)],
        removed: &[1],
        ..PLAIN
    },
    Case {
        name: "a branch's own number wins even when it is the smaller",
        refs: &[("main", 5, r#""min-snapshots-to-keep":1"#)],
        retain_last: 4,
        removed: &[1, 2, 3, 4],
        ..PLAIN
    },
    Case {
        name: "a branch's own age wins: 97 days are day 3",
        refs: &[("main", 5, r#""max-snapshot-age-ms":8380800000"#)],
        removed: &[1, 2],
        ..PLAIN
    },
    Case {
        name: "each branch is counted from its own head",
        snapshots: FORK,
        refs: &[("main", 6, ""), ("b", 5, "")],
        retain_last: 2,
        removed: &[1, 2],
        ..PLAIN
    },
    Case {
        name: "what two branches share stays as long as one of them wants it",
        snapshots: FORK,
        refs: &[("main", 6, ""), ("b", 5, r#""min-snapshots-to-keep":3"#)],
        removed: &[1, 3],
        ..PLAIN
    },
    Case {
        name: "a tag keeps its snapshot and none of its ancestors",
        refs: &[("main", 5, ""), ("t", 2, "tag")],
        removed: &[1, 3, 4],
        ..PLAIN
    },
    Case {
        name: "a tag past the table's max-ref-age goes, and its snapshot with it",
        refs: &[("main", 5, ""), ("t", 2, "tag")],
        max_ref_age_days: Some(97),
        removed: &[1, 2, 3, 4],
        removed_refs: &["t"],
        ..PLAIN
    },
    Case {
        name: "a tag's own max-ref-age wins over the table's",
        refs: &[("main", 5, ""), ("t", 2, r#"tag,"max-ref-age-ms":9000000000"#)],
        max_ref_age_days: Some(10),
        removed: &[1, 3, 4],
        ..PLAIN
    },
    Case {
        name: "a branch past its max-ref-age goes with its snapshots",
        snapshots: FORK,
        refs: &[("main", 6, ""), ("b", 5, r#""max-ref-age-ms":86400000"#)],
        retain_last: 9,
        removed: &[4, 5],
        removed_refs: &["b"],
        ..PLAIN
    },
    Case {
        name: "main never goes, whatever its max-ref-age",
        refs: &[("main", 5, r#""max-ref-age-ms":1"#)],
        max_ref_age_days: Some(1),
        removed: &[1, 2, 3, 4],
        ..PLAIN
    },
    Case {
        name: "a snapshot that was rolled back from stays while it is young",
        refs: &[("main", 2, "")],
        cutoff_day: 5,
        removed: &[1, 3, 4],
        ..PLAIN
    },
    Case {
        name: "a snapshot named by id goes though it is young, and its descendants stay",
        cutoff_day: 0,
        ids: &[3],
        removed: &[3],
        ..PLAIN
    },
    Case {
        name: "naming a snapshot does not switch the rules of age off",
        cutoff_day: 3,
        ids: &[4],
        removed: &[1, 2, 4],
        ..PLAIN
    },
    Case { name: "a table without snapshots", snapshots: &[], refs: &[], ..PLAIN },
];

fn metadata(snapshots: &[(i64, i64)], refs: &[(&str, i64, &str)]) -> TableMetadata {
    let snapshots: Vec<_> = snapshots
        .iter()
        .map(|(id, parent)| {
            let mut snapshot = json!({
                "snapshot-id": id, "sequence-number": id, "timestamp-ms": id * DAY, "schema-id": 0,
                "manifest-list": format!("memory://w/t/metadata/snap-{id}.avro"),
                "summary": {"operation": "append"},
            });
            if *parent != 0 {
                snapshot["parent-snapshot-id"] = json!(parent);
            }
            snapshot
        })
        .collect();
    let refs: serde_json::Map<String, serde_json::Value> = refs
        .iter()
        .map(|(name, id, settings)| {
            let (kind, settings) = match settings.strip_prefix("tag") {
                Some(rest) => ("tag", rest.trim_start_matches(',')),
                None => ("branch", *settings),
            };
            let comma = if settings.is_empty() { "" } else { "," };
            let text = format!(r#"{{"snapshot-id":{id},"type":"{kind}"{comma}{settings}}}"#);
            (name.to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect();
    let mut table = json!({
        "format-version": 2, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "location": "memory://w/t",
        "last-sequence-number": 9, "last-updated-ms": 90 * DAY, "last-column-id": 1, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "id", "required": false, "type": "long"}]}],
        "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": {}, "snapshots": snapshots, "refs": refs,
    });
    if let Some(main) = table["refs"].get("main") {
        table["current-snapshot-id"] = main["snapshot-id"].clone();
    }
    serde_json::from_value(table).unwrap()
}

fn rules(case: &Case) -> Rules {
    Rules {
        now_ms: 100 * DAY,
        cutoff_ms: case.cutoff_day * DAY,
        retain_last: case.retain_last,
        max_ref_age_ms: case.max_ref_age_days.map_or(i64::MAX, |days| days * DAY),
        snapshot_ids: case.ids.iter().copied().collect(),
    }
}

#[test]
fn snapshots_and_references_go_by_the_rules_of_the_specification() {
    for case in CASES {
        let selection = select(&metadata(case.snapshots, case.refs), &rules(case)).unwrap();
        assert_eq!(selection.snapshots, case.removed, "{}", case.name);
        assert_eq!(selection.refs, case.removed_refs, "{}", case.name);
    }
}

#[test]
fn the_head_of_a_branch_or_tag_that_stays_cant_be_named() {
    for (name, id) in [("main", 5), ("b", 4), ("t", 2)] {
        let metadata = metadata(LINE, &[("main", 5, ""), ("b", 4, ""), ("t", 2, "tag")]);
        let case = Case { ids: &[], ..PLAIN };
        let rules = Rules { snapshot_ids: [id].into(), ..rules(&case) };
        let error = select(&metadata, &rules).unwrap_err();
        assert_eq!(error.kind(), icefield_core::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_head_of_a_tag_that_goes_can_be_named() {
    let metadata = metadata(LINE, &[("main", 5, ""), ("t", 2, "tag")]);
    let case = Case { ids: &[2], max_ref_age_days: Some(1), cutoff_day: 0, ..PLAIN };
    let selection = select(&metadata, &rules(&case)).unwrap();
    assert_eq!((selection.snapshots, selection.refs), (vec![2], vec!["t".to_string()]));
}
