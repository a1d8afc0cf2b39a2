//! Branches and tags: listed, and kept in metadata of version 1, whose JSON `iceberg` neither reads nor writes with them.

use std::collections::BTreeMap;
use std::fmt;

use iceberg::spec::{
    FormatVersion, Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary, TableMetadata,
    TableMetadataBuilder,
};
use serde::Serialize;
use serde::ser::{Impossible, SerializeMap, SerializeStruct};
use serde_json::Value;

use crate::error::{Error, Result};

const MAIN: &str = "main";

/// Branches and tags by name, sorted.
pub(crate) type References = Vec<(String, SnapshotReference)>;

/// Those of a metadata file's JSON.
pub(super) fn in_json(json: &Value, current: Option<i64>) -> Result<References> {
    let mut refs: BTreeMap<String, SnapshotReference> = match json.get("refs") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(refs) => serde_json::from_value(refs.clone())
            .map_err(|e| Error::data_invalid("the metadata's refs are none").with_source(e))?,
    };
    if let Some(current) = current {
        refs.entry(MAIN.to_string()).or_insert_with(|| plain(current));
    }
    Ok(refs.into_iter().collect())
}

fn plain(head: i64) -> SnapshotReference {
    SnapshotReference::new(head, SnapshotRetention::branch(None, None, None))
}

/// The branches and tags of typed metadata. (`iceberg` offers no list of them; what it serialises is the one public view.)
pub(crate) fn of(metadata: &TableMetadata) -> References {
    let listed = match metadata.format_version() {
        // Nor does version 1 serialise them. The same metadata of the next version does.
        FormatVersion::V1 => {
            let upgraded = at_its_own_time(metadata.clone()).and_then(|(builder, added)| {
                builder.upgrade_format_version(FormatVersion::V2)?.remove_snapshots(&[added]).build()
            });
            upgraded.ok().and_then(|built| built.metadata.serialize(OnlyRefs).ok())
        }
        _ => metadata.serialize(OnlyRefs).ok(),
    };
    let refs =
        listed.and_then(|refs| serde_json::from_value::<BTreeMap<String, SnapshotReference>>(refs).ok());
    let mut refs = refs.unwrap_or_default();
    if let Some(current) = metadata.current_snapshot_id() {
        refs.entry(MAIN.to_string()).or_insert_with(|| plain(current));
    }
    refs.into_iter().collect()
}

/// Metadata of version 1 with the branches and tags that its JSON has; `None` where `iceberg`'s builder can't make it: then
/// nothing can be committed to it either.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) for references that contradict the metadata.
pub(super) fn put(
    metadata: TableMetadata,
    refs: &[(String, SnapshotReference)],
) -> Result<Option<TableMetadata>> {
    let current = metadata.current_snapshot_id();
    for (name, reference) in refs {
        let head = reference.snapshot_id;
        if metadata.snapshot_by_id(head).is_none() || (name == MAIN && current != Some(head)) {
            let message = "a branch or tag names a snapshot that is not there; restore the metadata file or register an earlier one";
            return Err(Error::data_invalid(message).with("ref", name).with("snapshot", head));
        }
    }
    let is_plain = |(name, reference): &(String, SnapshotReference)| {
        name == MAIN && reference.retention == SnapshotRetention::branch(None, None, None)
    };
    if refs.iter().all(is_plain) {
        return Ok(Some(metadata));
    }
    Ok(built(metadata, refs).ok())
}

fn built(metadata: TableMetadata, refs: &[(String, SnapshotReference)]) -> iceberg::Result<TableMetadata> {
    let current = metadata.current_snapshot_id();
    let logged = metadata.history().last().map(|entry| entry.snapshot_id);
    let (mut builder, added) = at_its_own_time(metadata)?;
    if let Some(current) = current.filter(|_| logged != current) {
        // The builder wants the current snapshot last in its log, where setting the branch puts it.
        let other = SnapshotRetention::branch(Some(1), None, None);
        builder = builder.set_ref(MAIN, SnapshotReference::new(current, other))?;
        builder = builder.set_ref(MAIN, plain(current))?;
    }
    for (name, reference) in refs {
        builder = builder.set_ref(name, reference.clone())?;
    }
    Ok(builder.remove_snapshots(&[added]).build()?.metadata)
}

/// A builder that keeps the metadata's time, which may be ahead of the clock, and the id of a snapshot to be removed again.
fn at_its_own_time(metadata: TableMetadata) -> iceberg::Result<(TableMetadataBuilder, i64)> {
    // The builder takes the time of change from a snapshot that is added, else from the clock. So one is, and goes again.
    let (mut id, time) = (i64::MIN, metadata.last_updated_ms());
    while metadata.snapshot_by_id(id).is_some() {
        id += 1;
    }
    let summary = Summary { operation: Operation::Append, additional_properties: Default::default() };
    let added = Snapshot::builder()
        .with_snapshot_id(id)
        .with_sequence_number(0)
        .with_timestamp_ms(time)
        .with_manifest_list("")
        .with_summary(summary)
        .build();
    Ok((metadata.into_builder(None).add_snapshot(added)?, id))
}

/// A serializer of which only the member `refs` of an object comes out, so that nothing is made of the rest.
struct OnlyRefs;

#[derive(Default)]
struct Found {
    next: bool,
    refs: Option<Value>,
}

#[derive(Debug)]
struct NoRefs(String);

impl fmt::Display for NoRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRefs {}

impl serde::ser::Error for NoRefs {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn no_object() -> NoRefs {
    NoRefs("not an object".to_string())
}

fn value<T: Serialize + ?Sized>(of: &T) -> Result<Value, NoRefs> {
    serde_json::to_value(of).map_err(serde::ser::Error::custom)
}

impl SerializeMap for Found {
    type Ok = Value;
    type Error = NoRefs;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoRefs> {
        self.next = value(key)? == "refs";
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, of: &T) -> Result<(), NoRefs> {
        if self.next {
            self.refs = Some(value(of)?);
        }
        Ok(())
    }

    fn end(self) -> Result<Value, NoRefs> {
        Ok(self.refs.unwrap_or_else(|| Value::Object(Default::default())))
    }
}

impl SerializeStruct for Found {
    type Ok = Value;
    type Error = NoRefs;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, of: &T) -> Result<(), NoRefs> {
        self.serialize_entry(key, of)
    }

    fn end(self) -> Result<Value, NoRefs> {
        SerializeMap::end(self)
    }
}

/// Methods for what metadata is not.
macro_rules! no_objects {
    ($($method:ident($of:ty)),* $(,)?) => {
        $(fn $method(self, _: $of) -> Result<Value, NoRefs> {
            Err(no_object())
        })*
    };
}

impl serde::Serializer for OnlyRefs {
    type Ok = Value;
    type Error = NoRefs;
    type SerializeSeq = Impossible<Value, NoRefs>;
    type SerializeTuple = Impossible<Value, NoRefs>;
    type SerializeTupleStruct = Impossible<Value, NoRefs>;
    type SerializeTupleVariant = Impossible<Value, NoRefs>;
    type SerializeMap = Found;
    type SerializeStruct = Found;
    type SerializeStructVariant = Impossible<Value, NoRefs>;

    no_objects!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    );

    fn serialize_none(self) -> Result<Value, NoRefs> {
        Err(no_object())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, of: &T) -> Result<Value, NoRefs> {
        of.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, NoRefs> {
        Err(no_object())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Value, NoRefs> {
        Err(no_object())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        of: &T,
    ) -> Result<Value, NoRefs> {
        of.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        of: &T,
    ) -> Result<Value, NoRefs> {
        of.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NoRefs> {
        Err(no_object())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NoRefs> {
        Err(no_object())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NoRefs> {
        Err(no_object())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NoRefs> {
        Err(no_object())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Found, NoRefs> {
        Ok(Found::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Found, NoRefs> {
        Ok(Found::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NoRefs> {
        Err(no_object())
    }
}
