//! Where data files go and how they are named, as Iceberg Java does both (`LocationProviders`, `OutputFileFactory`).

use iceberg::spec::TableMetadata;
use icefield_core::Result;
use icefield_core::config::Properties;
use icefield_core::storage::join;
use uuid::Uuid;

const DATA_PATH: &str = "write.data.path";
/// Older names of [`DATA_PATH`].
const OBJECT_STORAGE_PATH: &str = "write.object-storage.path";
const FOLDER_PATH: &str = "write.folder-storage.path";
const HASHED: &str = "write.object-storage.enabled";
const PARTITIONED_PATHS: &str = "write.object-storage.partitioned-paths";

/// Gives each data file of one write a location of its own.
#[derive(Debug, Clone)]
pub(crate) struct Locations {
    root: String,
    hashed: Option<Hashed>,
    write_id: Uuid,
}

/// Paths that begin with a hash, so that a store that partitions by prefix spreads the load.
#[derive(Debug, Clone)]
struct Hashed {
    context: Option<String>,
    partitioned: bool,
}

impl Locations {
    /// The locations of a table, under names that hold `write_id`.
    pub(crate) fn of(metadata: &TableMetadata, write_id: Uuid) -> Result<Self> {
        let properties = Properties::new(metadata.properties());
        let table = metadata.location().trim_end_matches('/');
        let hashed = properties.flag(HASHED, false)?;
        let older: &[&str] = if hashed { &[OBJECT_STORAGE_PATH, FOLDER_PATH] } else { &[FOLDER_PATH] };
        let named =
            properties.text(DATA_PATH).or_else(|| older.iter().find_map(|name| properties.text(name)));
        let root = named.map_or_else(|| join(table, "data"), |path| path.trim_end_matches('/').to_string());
        let hashed = match hashed {
            false => None,
            true => Some(Hashed {
                context: (!root.starts_with(table)).then(|| last_two(table)),
                partitioned: properties.flag(PARTITIONED_PATHS, true)?,
            }),
        };
        Ok(Self { root, hashed, write_id })
    }

    /// The location of the `count`th file that `task` writes, in a partition's folder.
    pub(crate) fn file(&self, task: usize, count: usize, partition: Option<&str>) -> String {
        let name = format!("{task:05}-{count}-{}.parquet", self.write_id);
        match (&self.hashed, partition) {
            (None, None) => join(&self.root, &name),
            (None, Some(partition)) => join(&self.root, &format!("{partition}/{name}")),
            (Some(hashed), partition) => {
                let name = match partition {
                    Some(partition) if hashed.partitioned => format!("{partition}/{name}"),
                    _ => name,
                };
                let hash = folders(murmur3(name.as_bytes()));
                let path = match &hashed.context {
                    Some(context) => format!("{hash}/{context}/{name}"),
                    None if hashed.partitioned => format!("{hash}/{name}"),
                    None => format!("{hash}-{name}"),
                };
                join(&self.root, &path)
            }
        }
    }
}

/// A partition's folder under names that every store takes: a value of hundreds of bytes is cut, and told from others that
/// begin alike by a hash. Readers never take values from paths.
pub(crate) fn short_folder(path: &str) -> String {
    const LONGEST: usize = 200;
    let short = |segment: &str| match segment.len() > LONGEST {
        false => segment.to_string(),
        true => {
            // Not within an escaped byte: `%41`.
            let mut end = LONGEST - 9;
            while !segment.is_char_boundary(end) || segment.get(end - 2..end).is_some_and(|s| s.contains('%'))
            {
                end -= 1;
            }
            format!("{}-{:08x}", segment.get(..end).unwrap_or_default(), murmur3(segment.as_bytes()))
        }
    };
    path.split('/').map(short).collect::<Vec<_>>().join("/")
}

/// The last two segments of a location: of a table's, its namespace and name.
fn last_two(location: &str) -> String {
    let path = location.split_once("://").map_or(location, |(_, rest)| rest);
    let mut segments = path.rsplit('/');
    match (segments.next(), segments.next()) {
        (Some(name), Some(parent)) if !parent.is_empty() => format!("{parent}/{name}"),
        (Some(name), _) => name.to_string(),
        _ => String::new(),
    }
}

/// The last 20 bits of a hash as folders: three of 4 bits and one of 8.
fn folders(hash: u32) -> String {
    let bits = format!("{:020b}", hash & 0xf_ffff);
    let mut path = String::with_capacity(23);
    for (at, bit) in bits.chars().enumerate() {
        if matches!(at, 4 | 8 | 12) {
            path.push('/');
        }
        path.push(bit);
    }
    path
}

/// MurmurHash3, x86, 32 bits, seed 0 (Iceberg spec, Appendix B).
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = 0_u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let k = word.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte));
        hash = (hash ^ mix(k)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= mix(rest.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte)));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use iceberg::TableCreation;
    use iceberg::spec::{NestedField, PrimitiveType, Schema, TableMetadataBuilder, Type};

    use super::*;

    fn locations(properties: &[(&str, &str)]) -> Locations {
        let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
        let creation = TableCreation::builder()
            .name("t".to_string())
            .location("s3://bucket/db/t".to_string())
            .schema(Schema::builder().with_fields([id.into()]).build().unwrap())
            .properties(
                properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<HashMap<_, _>>(),
            )
            .build();
        let metadata = TableMetadataBuilder::from_table_creation(creation).unwrap().build().unwrap().metadata;
        Locations::of(&metadata, Uuid::nil()).unwrap()
    }

    const NAME: &str = "00001-2-00000000-0000-0000-0000-000000000000.parquet";

    #[test]
    fn files_go_under_the_table_or_where_its_properties_say() {
        let plain = locations(&[]);
        assert_eq!(plain.file(1, 2, None), format!("s3://bucket/db/t/data/{NAME}"));
        assert_eq!(plain.file(1, 2, Some("a=1/b=x")), format!("s3://bucket/db/t/data/a=1/b=x/{NAME}"));
        let elsewhere = locations(&[("write.data.path", "s3://other/x/")]);
        assert_eq!(elsewhere.file(1, 2, Some("a=1")), format!("s3://other/x/a=1/{NAME}"));
    }

    #[test]
    fn folders_that_no_store_takes_are_cut() {
        assert_eq!(short_folder("a=1/b=x"), "a=1/b=x");
        let long = |last: &str| format!("a=1/b={}{last}", "%F4%8F%BF%BF".repeat(30));
        let (one, other) = (short_folder(&long("x")), short_folder(&long("y")));
        assert!(one.len() < 210 && one != other, "{one}");
        let cut = one.rsplit_once('-').unwrap().0;
        assert!(cut.len() - cut.rfind('%').unwrap() >= 3, "{one}");
    }

    #[test]
    fn hashed_paths_spread_over_folders_of_bits() {
        // From Iceberg Java's TestLocationProvider.
        assert_eq!(folders(murmur3(b"a")), "0101/0110/1001/10110010");
        let hash = |name: &str| folders(murmur3(name.as_bytes()));
        let own = locations(&[("write.object-storage.enabled", "true")]);
        let name = format!("a=1/{NAME}");
        assert_eq!(own.file(1, 2, Some("a=1")), format!("s3://bucket/db/t/data/{}/{name}", hash(&name)));
        let elsewhere =
            locations(&[("write.object-storage.enabled", "true"), ("write.data.path", "s3://other")]);
        assert_eq!(elsewhere.file(1, 2, None), format!("s3://other/{}/db/t/{NAME}", hash(NAME)));
        let flat = locations(&[
            ("write.object-storage.enabled", "true"),
            ("write.object-storage.partitioned-paths", "false"),
        ]);
        assert_eq!(flat.file(1, 2, Some("a=1")), format!("s3://bucket/db/t/data/{}-{NAME}", hash(NAME)));
    }
}
