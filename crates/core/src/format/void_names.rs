//! Manifests of version 1 whose void partition fields are named like a column, as Iceberg Java names them: `iceberg`
//! refuses to read them. The name means nothing to a reader, who goes by field id, so it is changed on the way.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

const MAGIC: &[u8] = b"Obj\x01";
/// The entry of an Avro file's header that holds the fields of the partition spec, as JSON.
const SPEC: &[u8] = b"partition-spec";
/// The entry that holds the schema of the file's own records.
const SCHEMA: &[u8] = b"avro.schema";

/// The file with other names for its void partition fields; as it is where it has none, or is no Avro file.
pub(super) fn without_void_names(file: &Bytes) -> Cow<'_, [u8]> {
    renamed(file).map_or(Cow::Borrowed(file), Cow::Owned)
}

fn renamed(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.strip_prefix(MAGIC)?;
    let mut entries: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::new();
    loop {
        let count = long(&mut rest)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            long(&mut rest)?; // the block's size in bytes
        }
        for _ in 0..count.unsigned_abs() {
            entries.push((bytes(&mut rest)?, Cow::Borrowed(bytes(&mut rest)?)));
        }
    }
    let spec = entries.iter().find(|(key, _)| *key == SPEC).map(|(_, value)| value)?;
    let spec: Value = serde_json::from_slice(spec).ok()?;
    let is_void = |field: &&Value| field.get("transform").and_then(Value::as_str) == Some("void");
    let voids: Vec<i64> =
        spec.as_array()?.iter().filter(is_void).filter_map(|field| field.get("field-id")?.as_i64()).collect();
    if voids.is_empty() {
        return None;
    }
    for (_, value) in entries.iter_mut().filter(|(key, _)| [SPEC, SCHEMA].contains(key)) {
        let mut json: Value = serde_json::from_slice(value).ok()?;
        rename(&mut json, &voids);
        *value = Cow::Owned(serde_json::to_vec(&json).ok()?);
    }
    let mut out = MAGIC.to_vec();
    put_long(&mut out, entries.len() as i64);
    for (key, value) in entries {
        for part in [key, &*value] {
            put_long(&mut out, part.len() as i64);
            out.extend_from_slice(part);
        }
    }
    put_long(&mut out, 0);
    out.extend_from_slice(rest);
    Some(out)
}

/// Renames the fields with these ids, at whatever depth: the same in the spec and in the schema of its partition tuples.
fn rename(json: &mut Value, ids: &[i64]) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, ids)),
        Value::Object(object) => {
            if let Some(id) = object.get("field-id").and_then(Value::as_i64).filter(|id| ids.contains(id))
                && let Some(name) = object.get("name").and_then(Value::as_str)
            {
                let name = Value::String(format!("{name}_void_{id}"));
                object.insert("name".to_string(), name);
            }
            object.values_mut().for_each(|item| rename(item, ids));
        }
        _ => {}
    }
}

/// A zigzag varint off the front.
fn long(from: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(long(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_put() {
        for value in [0, -1, 1, 63, 64, -65, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(long(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn what_is_cut_short_or_no_avro_stays_as_it_is() {
        let mut file = MAGIC.to_vec();
        put_long(&mut file, 1);
        for part in [SPEC, br#"[{"name":"a","transform":"void","field-id":1000}]"#.as_slice()] {
            put_long(&mut file, part.len() as i64);
            file.extend_from_slice(part);
        }
        put_long(&mut file, 0);
        file.extend_from_slice(b"sync and blocks");
        let whole = without_void_names(&Bytes::from(file.clone())).into_owned();
        assert!(whole.len() > file.len());
        assert!(whole.ends_with(b"\x00sync and blocks"));
        for end in 0..file.len() - 16 {
            let cut = Bytes::copy_from_slice(&file[..end]);
            assert_eq!(without_void_names(&cut), &cut[..]);
        }
    }
}
