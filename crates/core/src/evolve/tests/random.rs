//! Random edits, seeded: ids are never used twice, names stay unique, what survives keeps its id.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn leaf(rng: &mut StdRng) -> Type {
    [int(), long(), float(), string(), date(), decimal(9, 2), boolean()][rng.random_range(0..7)].clone()
}

fn column_type(rng: &mut StdRng) -> Type {
    match rng.random_range(0..6) {
        0 => structure([optional("a", leaf(rng)), optional("b", leaf(rng))]),
        1 => list(leaf(rng)),
        2 => list(structure([optional("x", leaf(rng))])),
        3 => map(string(), structure([optional("v", leaf(rng))])),
        _ => leaf(rng),
    }
}

fn edit(rng: &mut StdRng, metadata: &TableMetadata) -> MetadataEdit {
    let names: Vec<String> = {
        let mut names: Vec<String> =
            metadata.current_schema().field_id_to_name_map().values().cloned().collect();
        names.sort();
        names
    };
    let any = |rng: &mut StdRng| names[rng.random_range(0..names.len())].clone();
    let own = |rng: &mut StdRng| format!("c{}", rng.random_range(0..12));
    let schema = SchemaUpdate::new();
    match rng.random_range(0..14) {
        0 | 1 => schema.add_column_with(NewColumn::new(own(rng), column_type(rng)).first()).into(),
        2 => schema.add_column(format!("{}.{}", any(rng), own(rng)), column_type(rng)).into(),
        3 | 4 => schema.drop_column(any(rng)).into(),
        5 | 6 => schema.rename_column(any(rng), own(rng)).into(),
        7 => schema.move_after(any(rng), any(rng)).into(),
        8 => schema
            .promote_column(any(rng), [long(), double(), decimal(20, 2)][rng.random_range(0..3)].clone())
            .into(),
        9 => schema
            .union_by_name(
                Schema::builder()
                    .with_fields(with_ids([NestedField::optional(0, own(rng), column_type(rng))]))
                    .build()
                    .unwrap(),
            )
            .into(),
        10 => {
            let name = any(rng);
            schema.drop_column(&name).add_column_with(NewColumn::new(own(rng), leaf(rng))).into()
        }
        11 => PartitionUpdate::new().add_field(bucket(any(rng), rng.random_range(1..4))).into(),
        12 => {
            let spec = metadata.default_partition_spec();
            match spec.fields().len() {
                0 => PartitionUpdate::new().add_field(any(rng)).into(),
                n => PartitionUpdate::new().remove_field(&spec.fields()[rng.random_range(0..n)].name).into(),
            }
        }
        _ => SortOrderUpdate::new([asc(any(rng))]).into(),
    }
}

fn ids(metadata: &TableMetadata) -> HashMap<i32, String> {
    metadata.current_schema().field_id_to_name_map().clone()
}

#[test]
fn random_evolution_keeps_the_rules() {
    let mut done = 0;
    for seed in 0..9 {
        let mut rng = StdRng::seed_from_u64(seed);
        let version = [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3][(seed % 3) as usize];
        let mut metadata =
            Fixture { version, partition: vec![day("ts").into()], ..Fixture::default() }.build();
        // Everything ever seen, and what is gone for good.
        let mut ever: HashSet<i32> = ids(&metadata).into_keys().collect();
        let mut partition_ids: HashMap<i32, (i32, String)> = HashMap::new();
        for step in 0..60 {
            let edit = edit(&mut rng, &metadata);
            let change = match edit.apply(&metadata) {
                Ok(change) => change,
                Err(error) => {
                    let kind = error.kind();
                    assert!(
                        matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported),
                        "seed {seed} step {step} {edit:?}: {error:?}"
                    );
                    continue;
                }
            };
            let before = ids(&metadata);
            let next = applied(&metadata, &change);
            let after = ids(&next);
            for id in after.keys().filter(|id| !before.contains_key(id)) {
                assert!(!ever.contains(id), "seed {seed} step {step}: id {id} is used again by {edit:?}");
                assert!(*id > metadata.last_column_id() && *id <= next.last_column_id());
            }
            for (id, name) in &before {
                let kept = next.current_schema().field_id_by_name(name);
                if let (Some(kept), true) = (kept, after.get(id) == Some(name)) {
                    assert_eq!(kept, *id, "seed {seed} step {step}: {name} has another id");
                }
            }
            let unique: HashSet<&String> = after.values().collect();
            assert_eq!(unique.len(), after.len(), "seed {seed} step {step}: names clash");
            assert!(next.last_column_id() >= metadata.last_column_id());
            if version != FormatVersion::V1 {
                for field in next.partition_specs_iter().flat_map(|spec| spec.fields()) {
                    let made_of = (field.source_id, field.transform.to_string());
                    let first = partition_ids.entry(field.field_id).or_insert_with(|| made_of.clone());
                    assert_eq!(*first, made_of, "seed {seed} step {step}: a partition id is used again");
                }
            }
            ever.extend(after.into_keys());
            metadata = next;
            done += 1;
        }
    }
    assert!(done > 150, "too few edits were legal to show anything: {done}");
}
