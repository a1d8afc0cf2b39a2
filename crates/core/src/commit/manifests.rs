//! Writing manifests: of new files, of a manifest from which files go, and of several manifests in one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, FormatVersion, ManifestContentType, ManifestFile, ManifestWriter, ManifestWriterBuilder,
    PartitionSpec, SchemaRef, StructType, TableMetadata, Type,
};

use super::kept::Kept;
use super::load::load_all;
use crate::config::Properties;
use crate::error::{Error, Result};
use crate::format::{
    ContentFile, LiveFile, ManifestContent, Places, finished, foreign_kind, has_stand_ins, primitive_text,
};
use crate::storage::{Storage, join};

/// The most files in one new manifest, so that a manifest stays near `commit.manifest.target-size-bytes`.
const MAX_ENTRIES: usize = 10_000;

/// An entry to write.
pub(super) enum Entry {
    /// A new file, with its data sequence number unless that is the commit's.
    Added { file: ContentFile, sequence_number: Option<i64>, exact: bool },
    /// A file that stays.
    Existing(LiveFile),
    /// A file that goes.
    Deleted(LiveFile),
}

impl Entry {
    fn is_exact(&self) -> bool {
        match self {
            Self::Added { exact, .. } => *exact,
            Self::Existing(file) | Self::Deleted(file) => file.exact,
        }
    }
}

/// Writes one commit's manifests and remembers their locations, so that what comes to nothing can be taken back.
pub(super) struct ManifestStore<'a> {
    storage: &'a Storage,
    folder: String,
    /// Names this commit's files: unique among all commits.
    prefix: String,
    /// Whether the entries of new files are exact.
    exact: bool,
    written: Vec<String>,
}

impl<'a> ManifestStore<'a> {
    /// A store for the manifests of a commit. `exact` tells whether the entries of new files are
    /// [exact](crate::format::LiveFile::exact).
    pub(super) fn new(storage: &'a Storage, metadata: &TableMetadata, prefix: String, exact: bool) -> Self {
        let mut store = Self { storage, folder: String::new(), prefix, exact, written: Vec::new() };
        store.follow(metadata);
        store
    }

    /// Writes where the table, as it is now, has its metadata.
    pub(super) fn follow(&mut self, metadata: &TableMetadata) {
        self.folder = match Properties::new(metadata.properties()).text("write.metadata.path") {
            Some(path) => path.trim_end_matches('/').to_string(),
            None => join(metadata.location(), "metadata"),
        };
    }

    pub(super) fn storage(&self) -> &'a Storage {
        self.storage
    }

    /// Every file that the commit has begun to write so far, but for those that are named.
    pub(super) fn written_but(&self, named: &HashSet<String>) -> Vec<String> {
        self.written.iter().filter(|file| !named.contains(*file)).cloned().collect()
    }

    pub(super) fn next_location(&mut self, name: impl FnOnce(&str, usize) -> String) -> String {
        let location = join(&self.folder, &name(&self.prefix, self.written.len()));
        self.written.push(location.clone());
        location
    }

    /// Manifests of new files, one or more a partition spec.
    pub(super) async fn write_added(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        files: Vec<ContentFile>,
        sequence_number: Option<i64>,
    ) -> Result<Vec<ManifestFile>> {
        let mut by_spec: BTreeMap<i32, Vec<ContentFile>> = BTreeMap::new();
        for file in files {
            by_spec.entry(file.spec_id).or_default().push(file);
        }
        let mut manifests = Vec::new();
        let exact = self.exact;
        for (spec_id, files) in by_spec {
            let (schema, spec) = spec_and_schema(metadata, spec_id)?;
            let mut files = files.into_iter().peekable();
            while files.peek().is_some() {
                let entries = files.by_ref().take(MAX_ENTRIES);
                let entries = entries.map(|file| Entry::Added { file, sequence_number, exact });
                let content = ManifestContentType::Data;
                manifests.push(
                    self.write(metadata, snapshot_id, &schema, &spec, content, entries.collect()).await?,
                );
            }
        }
        Ok(manifests)
    }

    pub(super) async fn write(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        schema: &SchemaRef,
        spec: &PartitionSpec,
        content: ManifestContentType,
        entries: Vec<Entry>,
    ) -> Result<ManifestFile> {
        let location = self.next_location(|prefix, n| format!("{prefix}-m{n}.avro"));
        let mut exact = Places::default();
        let places = (0..).zip(&entries).filter(|(_, entry)| entry.is_exact());
        places.for_each(|(place, _)| exact.push(place));
        // What stands in for types that `iceberg` does not know must not come into the file, and it writes no entries into the
        // header but its own: the file is made in memory first.
        let foreign = has_stand_ins(schema);
        let in_memory = foreign || !exact.is_empty();
        let io = if in_memory { FileIO::new_with_memory() } else { self.storage.file_io() };
        if foreign {
            check_partition_types(schema, spec)?;
        }
        let output = io.new_output(&location)?;
        let builder =
            ManifestWriterBuilder::new(output, Some(snapshot_id), schema.clone(), avro_named(spec)?);
        let mut writer = match (metadata.format_version(), content) {
            (FormatVersion::V1, _) => builder.build_v1(),
            (FormatVersion::V2, ManifestContentType::Data) => builder.build_v2_data(),
            (FormatVersion::V2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (FormatVersion::V3, ManifestContentType::Data) => builder.build_v3_data(),
            (FormatVersion::V3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
        };
        let arity = spec.fields().len();
        for entry in entries {
            add(&mut writer, entry, arity)?;
        }
        let mut manifest = writer.write_manifest_file().await?;
        if in_memory {
            let bytes = finished(&io.new_input(&location)?.read().await?, foreign, &exact)?;
            manifest.manifest_length = bytes.len() as i64;
            self.storage.write(&location, bytes).await?;
        }
        Ok(manifest)
    }

    /// Merges small manifests of one spec and content, newest first as they are listed, into ones of about the target
    /// size. The newest bin is left alone until it holds `commit.manifest.min-count-to-merge` manifests.
    pub(super) async fn merge(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        manifests: Vec<ManifestFile>,
        kept: &mut Kept,
    ) -> Result<Vec<ManifestFile>> {
        let properties = Properties::new(metadata.properties());
        if !properties.flag("commit.manifest-merge.enabled", true)? {
            return Ok(manifests);
        }
        let target: u64 = properties.get_or("commit.manifest.target-size-bytes", 8 << 20)?;
        let min_count: usize = properties.get_or("commit.manifest.min-count-to-merge", 100)?;

        let mut groups: BTreeMap<(bool, i32), Vec<ManifestFile>> = BTreeMap::new();
        for manifest in manifests {
            let is_data = manifest.content == ManifestContentType::Data;
            groups.entry((is_data, manifest.partition_spec_id)).or_default().push(manifest);
        }
        let mut out = Vec::new();
        for ((_, spec_id), group) in groups.into_iter().rev() {
            for (i, bin) in bins(group, target).into_iter().enumerate() {
                if bin.len() == 1 || (i == 0 && bin.len() < min_count) {
                    out.extend(bin);
                    continue;
                }
                let of: Vec<String> = bin.iter().map(|manifest| manifest.manifest_path.clone()).collect();
                let merged = match kept.merged.get(&of) {
                    Some(merged) => merged.clone(),
                    None => self.merge_bin(metadata, snapshot_id, spec_id, bin).await?,
                };
                out.extend(merged.iter().cloned());
                kept.merged.insert(of, merged);
            }
        }
        Ok(out)
    }

    /// Merges manifests whose partition values are of the same types: a column that was promoted has had others before.
    async fn merge_bin(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        spec_id: i32,
        bin: Vec<ManifestFile>,
    ) -> Result<Vec<ManifestFile>> {
        let contents = load_all(self.storage, &bin).await?;
        let mut groups: Vec<Group> = Vec::new();
        let mut out = Vec::new();
        for (manifest, content) in bin.into_iter().zip(contents) {
            let Ok(partition_type) = content.spec.partition_type(&content.schema) else {
                out.push(manifest); // what its values are of isn't known, so it can't be written again
                continue;
            };
            match groups.iter_mut().find(|group| group.partition_type == partition_type) {
                Some(group) => group.push(manifest, content),
                None => groups.push(Group {
                    partition_type,
                    content: manifest.content,
                    schema: content.schema.clone(),
                    spec: content.spec.clone(),
                    members: vec![(manifest, content)],
                }),
            }
        }
        for group in groups {
            if group.members.len() == 1 {
                out.extend(group.members.into_iter().map(|(manifest, _)| manifest));
                continue;
            }
            let now = spec_and_schema(metadata, spec_id).ok();
            let now = now.filter(|(schema, spec)| {
                spec.partition_type(schema).is_ok_and(|now| now == group.partition_type)
            });
            let (schema, spec) = now.unwrap_or((group.schema, group.spec));
            let (entries, of) = (merged_entries(group.members, snapshot_id), group.content);
            out.push(self.write(metadata, snapshot_id, &schema, &spec, of, entries).await?);
        }
        Ok(out)
    }
}

/// Manifests that can be one.
struct Group {
    partition_type: StructType,
    content: ManifestContentType,
    /// The newest schema that any of them was written with: the table may have none that has the partition's columns.
    schema: SchemaRef,
    spec: PartitionSpec,
    members: Vec<(ManifestFile, ManifestContent)>,
}

impl Group {
    fn push(&mut self, manifest: ManifestFile, content: ManifestContent) {
        if content.schema.schema_id() > self.schema.schema_id() {
            self.schema = content.schema.clone();
        }
        self.members.push((manifest, content));
    }
}

/// The entries of several manifests as those of one.
fn merged_entries(group: Vec<(ManifestFile, ManifestContent)>, snapshot_id: i64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (manifest, content) in group {
        let own = manifest.added_snapshot_id == snapshot_id;
        for (file, added) in content.live.into_iter().zip(content.added) {
            entries.push(match own && added {
                // Its sequence number is this commit's, not known to the manifest yet, or was set by a rewrite.
                true => {
                    let sequence_number = (file.sequence_number >= 0).then_some(file.sequence_number);
                    Entry::Added { file: file.content_file(), sequence_number, exact: file.exact }
                }
                false => Entry::Existing(file),
            });
        }
        if own {
            entries.extend(content.deleted.into_iter().map(Entry::Deleted));
        }
    }
    entries
}

/// Manifests packed from the oldest, so that the newest bin is the one that still grows. Bins come newest first.
fn bins(manifests: Vec<ManifestFile>, target: u64) -> Vec<Vec<ManifestFile>> {
    let mut bins: Vec<Vec<ManifestFile>> = Vec::new();
    let mut size = 0;
    for manifest in manifests.into_iter().rev() {
        let length = manifest.manifest_length.max(0) as u64;
        match bins.last_mut() {
            Some(bin) if size + length <= target => bin.push(manifest),
            _ => {
                bins.push(vec![manifest]);
                size = 0;
            }
        }
        size += length;
    }
    for bin in &mut bins {
        bin.reverse();
    }
    bins.reverse();
    bins
}

/// A partition spec with a schema that has its source columns: the current one, or for an old spec whose column was
/// dropped since, the newest that has.
pub(super) fn spec_and_schema(metadata: &TableMetadata, spec_id: i32) -> Result<(SchemaRef, PartitionSpec)> {
    let spec = metadata.partition_spec_by_id(spec_id).ok_or_else(|| {
        Error::invalid_input("a file's partition spec is not one of the table's").with("spec", spec_id)
    })?;
    let current = metadata.current_schema();
    if spec.partition_type(current).is_ok() {
        return Ok((current.clone(), spec.as_ref().clone()));
    }
    let mut older: Vec<&SchemaRef> =
        metadata.schemas_iter().filter(|s| spec.partition_type(s).is_ok()).collect();
    older.sort_by_key(|schema| schema.schema_id());
    match older.pop() {
        Some(schema) => Ok((schema.clone(), spec.as_ref().clone())),
        None => Err(Error::data_invalid("no schema of the table has the source columns of a partition spec")
            .with("spec", spec_id)),
    }
}

/// Refuses a partition value of a type that `iceberg` does not know: manifests have their partitions' types in Avro.
fn check_partition_types(schema: &SchemaRef, spec: &PartitionSpec) -> Result<()> {
    for field in spec.partition_type(schema)?.fields() {
        if let Type::Primitive(of) = field.field_type.as_ref()
            && foreign_kind(of).is_some()
        {
            return Err(Error::unsupported(
                "a table that is partitioned by a column of this type can't be committed to",
            )
            .with("partition_field", &field.name)
            .with("spec", spec.spec_id())
            .with("type", primitive_text(of)));
        }
    }
    Ok(())
}

/// A spec whose fields are called as Avro lets a manifest's columns be. Readers find them by their ids; some of them open no
/// file with a column of another name. What Iceberg Java leaves alone beyond ASCII is replaced too.
fn avro_named(spec: &PartitionSpec) -> Result<PartitionSpec> {
    let mut names: Vec<String> = Vec::with_capacity(spec.fields().len());
    for field in spec.fields() {
        let name = avro_name(&field.name);
        let name = if names.contains(&name) { format!("{name}_{}", field.field_id) } else { name };
        names.push(name);
    }
    if spec.fields().iter().zip(&names).all(|(field, name)| field.name == *name) {
        return Ok(spec.clone());
    }
    let lost = |e| Error::internal("a partition spec can't be renamed").with_source(e);
    let mut json = serde_json::to_value(spec).map_err(lost)?;
    let fields = json.get_mut("fields").and_then(serde_json::Value::as_array_mut);
    for (field, name) in fields.into_iter().flatten().zip(names) {
        field["name"] = name.into();
    }
    serde_json::from_value(json).map_err(lost)
}

/// A name of ASCII letters, digits and underscores: other characters become `_x` and their code, a digit in front gets an
/// underscore before it, as in Iceberg Java (`AvroSchemaUtil.makeCompatibleName`).
fn avro_name(name: &str) -> String {
    let mut made = String::with_capacity(name.len());
    for (at, c) in name.chars().enumerate() {
        match c {
            '0'..='9' if at == 0 => made.extend(['_', c]),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => made.push(c),
            // Writing to a string can't fail.
            _ => drop(write!(made, "_x{:X}", u32::from(c))),
        }
    }
    made
}

fn add(writer: &mut ManifestWriter, entry: Entry, arity: usize) -> Result<()> {
    let check = |file: &iceberg::spec::DataFile| {
        // iceberg panics on a mismatch.
        let found = file.partition().iter().count();
        if found == arity {
            return Ok(());
        }
        Err(Error::invalid_input("a file's partition does not have as many values as its spec has fields")
            .with("file", file.file_path())
            .with("expected", arity)
            .with("found", found))
    };
    match entry {
        Entry::Added { file, sequence_number, .. } => {
            check(&file.file)?;
            writer.add_file(file.file, sequence_number.unwrap_or(-1))?;
        }
        Entry::Existing(file) => {
            check(&file.file)?;
            let file_number = Some(file.file_sequence_number);
            writer.add_existing_file(file.file, file.snapshot_id, file.sequence_number, file_number)?;
        }
        Entry::Deleted(file) => {
            check(&file.file)?;
            writer.add_delete_file(file.file, file.sequence_number, Some(file.file_sequence_number))?;
        }
    }
    Ok(())
}

/// Checks new files before anything is written: known specs, no path twice, data files only.
pub(super) fn check_added(
    metadata: &TableMetadata,
    base: &TableMetadata,
    files: &[ContentFile],
) -> Result<()> {
    let mut seen: HashMap<&str, ()> = HashMap::with_capacity(files.len());
    for file in files {
        let path = file.file.file_path();
        if file.file.content_type() != DataContentType::Data {
            return Err(Error::unsupported("delete files can't be added as data files").with("file", path));
        }
        if metadata.partition_spec_by_id(file.spec_id).is_none() {
            let error = match base.partition_spec_by_id(file.spec_id) {
                Some(_) => Error::conflict(
                    "the partition spec of a new file was removed by another commit; run the operation again",
                ),
                None => Error::invalid_input("a file's partition spec is not one of the table's"),
            };
            return Err(error.with("file", path).with("spec", file.spec_id));
        }
        if seen.insert(path, ()).is_some() {
            return Err(Error::invalid_input("a file is added twice").with("file", path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{NestedField, PrimitiveType, Schema, Transform, Type};

    use super::*;

    #[test]
    fn partition_fields_have_names_that_avro_takes_and_no_two_the_same() {
        let names = ["my col", "my_x20col", "1st", "\u{e9}t\u{e9}", "a.b", "plain_1"];
        let fields = (1..)
            .zip(names)
            .map(|(id, name)| NestedField::optional(id, name, Type::Primitive(PrimitiveType::String)).into());
        let schema = Schema::builder().with_fields(fields).build().unwrap();
        let mut builder = PartitionSpec::builder(schema).with_spec_id(3);
        for name in names {
            builder = builder.add_partition_field(name, name, Transform::Identity).unwrap();
        }
        let spec = builder.build().unwrap();
        let named = avro_named(&spec).unwrap();
        let made: Vec<&str> = named.fields().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(made, ["my_x20col", "my_x20col_1001", "_1st", "_xE9t_xE9", "a_x2Eb", "plain_1"]);
        let ids =
            |of: &PartitionSpec| of.fields().iter().map(|f| (f.field_id, f.source_id)).collect::<Vec<_>>();
        assert_eq!((named.spec_id(), ids(&named)), (3, ids(&spec)));
        assert_eq!(avro_named(&named).unwrap(), named);
    }
}
