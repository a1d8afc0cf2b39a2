//! Metadata made at random, of every version, with optional members and members that nobody knows at every level, is kept
//! whole through reading, a change and writing.

use icefield_core::format::Metadata;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::metadata::assert_kept_through_changes;

struct Maker {
    rng: StdRng,
    version: u64,
    next_id: i64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let version = rng.random_range(1..=3);
        Self { rng, version, next_id: 0 }
    }

    fn maybe(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.rng).unwrap()
    }

    /// An object, sometimes with members that nobody knows.
    fn object(&mut self, json: Value) -> Value {
        let Value::Object(mut object) = json else { panic!("an object") };
        while self.maybe(25) {
            let value = match self.rng.random_range(0..5) {
                0 => Value::Null,
                1 => json!(self.rng.random::<i64>()),
                2 => json!("\u{1f}é\""),
                3 => json!([1.5, {"a": []}, false]),
                _ => json!({"b": {"c": "d"}}),
            };
            object.insert(format!("x-{}", self.rng.random_range(0..9)), value);
        }
        Value::Object(object)
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn of_type(&mut self, depth: u32) -> Value {
        let plain = [
            "boolean",
            "int",
            "long",
            "float",
            "double",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "string",
            "uuid",
            "fixed[7]",
            "binary",
            "decimal(9,2)",
            "decimal(38, 10)",
            "decimal(20, 12)",
            "LONG",
        ];
        let later = [
            "timestamp_ns",
            "timestamptz_ns",
            "variant",
            "unknown",
            "geometry",
            "geography(OGC:CRS84, karney)",
            "soon",
        ];
        if depth < 3 && self.maybe(20) {
            let json = match self.rng.random_range(0..3) {
                0 => {
                    let fields: Vec<Value> =
                        (0..self.rng.random_range(1..3)).map(|_| self.field(depth + 1)).collect();
                    json!({"type": "struct", "fields": fields})
                }
                1 => json!({"type": "list", "element-id": self.id(), "element": self.of_type(depth + 1),
                    "element-required": self.maybe(50)}),
                _ => json!({"type": "map", "key-id": self.id(), "key": "string", "value-id": self.id(),
                    "value": self.of_type(depth + 1), "value-required": self.maybe(50)}),
            };
            return self.object(json);
        }
        if self.version == 3 && self.maybe(40) { self.pick(&later).into() } else { self.pick(&plain).into() }
    }

    fn default_of(&mut self, of: &Value) -> Value {
        match of.as_str() {
            Some("boolean") => json!(self.maybe(50)),
            Some("int" | "long" | "LONG") => json!(self.rng.random_range(-9..9)),
            Some("float" | "double") => json!(*[0.1, -2.5, 1e30].choose(&mut self.rng).unwrap()),
            Some("date") => self.pick(&["1969-12-31", "2024-02-29"]).into(),
            Some("time") => self.pick(&["10:00:00", "10:00:00.000001"]).into(),
            Some("timestamp" | "timestamp_ns") => self
                .pick(&["1969-12-31T23:59:59.500000", "2020-01-01T00:00:00", "1960-01-01T01:02:03.000001"])
                .into(),
            Some("timestamptz" | "timestamptz_ns") => {
                self.pick(&["1969-12-31T23:59:59.500000+00:00", "2020-01-01T00:00:00+00:00"]).into()
            }
            Some("string") => self.pick(&["", "a", "\u{1f}{}"]).into(),
            Some("uuid") => "F79C3E09-677C-4BBD-A479-3F349CB785E7".into(),
            Some("binary") => self.pick(&["", "00FF", "0a"]).into(),
            Some("decimal(9,2)") => self.pick(&["14.20", "-0.5", "7"]).into(),
            Some("decimal(20, 12)") => self.pick(&["0.000000000001", "-0.5"]).into(),
            Some("fixed[7]") => self.pick(&["00112233445566", "aabbccddeeff00"]).into(),
            Some("decimal(38, 10)") => "1234567890123456789012345678.0123456789".into(),
            Some("variant") => json!("odd"),
            _ if of.is_object() && of["type"] == "struct" => json!({}),
            _ => Value::Null,
        }
    }

    fn field(&mut self, depth: u32) -> Value {
        let id = self.id();
        let of = self.of_type(depth);
        let mut json = json!({"id": id, "name": format!("c{id}"), "required": false, "type": of});
        if self.maybe(20) {
            json["doc"] = self.pick(&["", "a column", "\u{1f}"]).into();
        }
        for key in ["initial-default", "write-default"] {
            if self.version == 3 && self.maybe(40) {
                json[key] = self.default_of(&of);
            }
        }
        self.object(json)
    }

    /// A branch or tag with settings of how long it stays.
    fn retained(&mut self, mut reference: Value) -> Value {
        if self.maybe(40) {
            reference["max-ref-age-ms"] = i64::MAX.into();
        }
        if reference["type"] == "branch" && self.maybe(40) {
            reference["min-snapshots-to-keep"] = 3.into();
        }
        if reference["type"] == "branch" && self.maybe(40) {
            reference["max-snapshot-age-ms"] = 1.into();
        }
        self.object(reference)
    }

    fn metadata_log(&mut self) -> Vec<Value> {
        let count = self.rng.random_range(0..4_i64);
        let entry = |n: i64| json!({"timestamp-ms": 1_600_000_000_000 + n, "metadata-file": format!("memory://w/db/t/{n}.json")});
        (0..count).map(|n| self.object(entry(n))).collect()
    }

    fn metadata(&mut self) -> Value {
        let ids = [self.id(), self.id()];
        let first = self.object(json!({"id": ids[0], "name": "key", "required": true, "type": "long"}));
        let second = self.object(json!({"id": ids[1], "name": "day", "required": true, "type": "date"}));
        let (mut fields, mut schemas) = (vec![first, second], Vec::new());
        let schema_count = self.rng.random_range(1..4);
        for schema_id in 0..schema_count {
            for _ in 0..self.rng.random_range(0..4) {
                let field = self.field(0);
                fields.push(field);
            }
            if fields.len() > 3 && self.maybe(30) {
                fields.remove(self.rng.random_range(2..fields.len()));
            }
            let mut schema = json!({"type": "struct", "schema-id": schema_id, "fields": fields});
            if self.maybe(30) {
                schema["identifier-field-ids"] = if self.maybe(50) { json!([2, 1]) } else { json!([1]) };
            }
            schemas.push(self.object(schema));
        }
        let current = schemas.last().unwrap().clone();
        if self.maybe(50) {
            schemas.reverse();
        }

        // Partition fields are removed as version 1 does it, and as later ones do.
        let (mut specs, mut all) = (Vec::new(), Vec::<Value>::new());
        for spec_id in 0..self.rng.random_range(1..4_i64) {
            for field in &mut all {
                if self.rng.random_range(0..3) == 0 {
                    field["transform"] = "void".into();
                    if self.rng.random_range(0..2) == 0 {
                        field["source-id"] = 900.into();
                    }
                }
            }
            let field_id = 1000 + all.len() as i64;
            let (name, by, source) = match self.rng.random_range(0..4) {
                0 => ("key".to_string(), "identity".to_string(), ids[0]),
                1 => (format!("b{field_id}"), format!("bucket[{field_id}]"), ids[0]),
                2 => (format!("t{field_id}"), format!("truncate[{field_id}]"), ids[0]),
                _ => (format!("v{field_id}"), "void".to_string(), ids[1]),
            };
            if !all.iter().any(|field| field["name"] == name.as_str()) {
                let field = json!({"name": name, "transform": by, "source-id": source, "field-id": field_id});
                all.push(self.object(field));
            }
            specs.push(self.object(json!({"spec-id": spec_id, "fields": all})));
        }
        let default_spec = specs.last().unwrap().clone();
        if self.maybe(30) {
            let odd = json!({"spec-id": 77, "fields": [{"name": "z", "transform": "zorder[2]", "source-id": 1, "field-id": 1900}]});
            specs.push(odd);
        }

        let mut orders = vec![self.object(json!({"order-id": 0, "fields": []}))];
        if self.maybe(50) {
            let field = json!({"transform": "identity", "source-id": 2, "direction": "desc", "null-order": "nulls-last"});
            let mut fields = vec![self.object(field)];
            while self.maybe(30) {
                let by = self.pick(&["bucket[3]", "truncate[9]", "identity"]);
                let field =
                    json!({"transform": by, "source-id": 1, "direction": "asc", "null-order": "nulls-first"});
                fields.push(self.object(field));
            }
            orders.insert(0, self.object(json!({"order-id": 1, "fields": fields})));
        }
        let default_order = orders[0]["order-id"].clone();

        let count = self.rng.random_range(0..5_i64);
        let (mut snapshots, mut log, mut statistics, mut partition_statistics) =
            (vec![], vec![], vec![], vec![]);
        for n in 1..=count {
            let at = 1_600_000_000_000 + n * 1000;
            let mut summary = json!({"total-records": "7"});
            if self.maybe(80) {
                summary["operation"] =
                    self.pick(&["append", "overwrite", "delete", "replace", "other"]).into();
            }
            let mut json = json!({"snapshot-id": n, "timestamp-ms": at, "summary": summary,
                "manifest-list": format!("memory://w/db/t/l{n}.avro")});
            if self.version > 1 && self.maybe(70) {
                json["sequence-number"] = n.into();
            }
            if n > 1 {
                json["parent-snapshot-id"] = (n - 1).into();
            }
            if self.maybe(50) {
                json["schema-id"] = 0.into();
            }
            if self.version == 1 && self.maybe(20) {
                json.as_object_mut().unwrap().remove("summary");
            }
            if self.version == 1 && self.maybe(20) {
                json.as_object_mut().unwrap().remove("manifest-list");
                json["manifests"] = json!(["memory://w/db/t/m.avro"]);
            }
            if self.version == 3 && self.maybe(50) {
                json["first-row-id"] = 0.into();
                if self.maybe(50) {
                    json["added-rows"] = 3.into();
                }
            }
            if self.maybe(20) {
                json["key-id"] = "k".into();
            }
            snapshots.push(self.object(json));
            if n > 1 && self.maybe(30) {
                // It was rolled back to.
                log.push(self.object(json!({"snapshot-id": n - 1, "timestamp-ms": at - 500})));
            }
            log.push(self.object(json!({"snapshot-id": n, "timestamp-ms": at})));
            if self.maybe(30) {
                let mut blob = json!({"type": "ndv", "snapshot-id": n, "sequence-number": n, "fields": [1]});
                if self.maybe(50) {
                    blob["properties"] = if self.maybe(50) { json!({"ndv": "3"}) } else { json!({}) };
                }
                let blob = self.object(blob);
                statistics.push(
                    self.object(
                        json!({"snapshot-id": n, "statistics-path": format!("memory://w/{n}.puffin"),
                    "file-size-in-bytes": 9, "file-footer-size-in-bytes": 2, "blob-metadata": [blob]}),
                    ),
                );
            }
            if self.maybe(30) {
                partition_statistics.push(self.object(json!({"snapshot-id": n,
                    "statistics-path": format!("memory://w/{n}.parquet"), "file-size-in-bytes": 9})));
            }
        }
        let mut refs = Map::new();
        if count > 0 {
            let main = self.retained(json!({"snapshot-id": count, "type": "branch"}));
            refs.insert("main".to_string(), self.object(main));
            for name in ["audit", "a tag"] {
                if self.maybe(40) {
                    let mut of = json!({"snapshot-id": self.rng.random_range(1..=count), "type": "branch"});
                    if name == "a tag" {
                        of["type"] = "tag".into();
                    }
                    let of = self.retained(of);
                    refs.insert(name.to_string(), self.object(of));
                }
            }
        }
        let mut json = json!({
            "format-version": self.version, "table-uuid": uuid::Uuid::from_u128(self.rng.random()).to_string(),
            "location": self.pick(&["memory://w/db/t", "memory://w/db/t/"]), "last-updated-ms": 1_600_000_100_000_i64,
            "last-column-id": self.next_id, "current-schema-id": current["schema-id"], "schemas": schemas,
            "default-spec-id": default_spec["spec-id"], "partition-specs": specs, "last-partition-id": 1999,
            "default-sort-order-id": default_order, "sort-orders": orders, "snapshots": snapshots,
            "snapshot-log": log, "metadata-log": self.metadata_log(), "statistics": statistics,
            "partition-statistics": partition_statistics,
        });
        // Without one, writers say it in three ways.
        let none = [Some(json!(-1)), Some(Value::Null), None];
        let none = none.choose(&mut self.rng).unwrap().clone();
        if let Some(current) = if count > 0 { Some(count.into()) } else { none } {
            json["current-snapshot-id"] = current;
        }
        if count > 0 || self.version > 1 || self.maybe(50) {
            json["refs"] = Value::Object(refs);
        }
        if self.maybe(70) {
            json["properties"] = if self.maybe(50) { json!({}) } else { json!({"p": "q"}) };
        }
        if self.version == 1 {
            json["schema"] = current;
            json["partition-spec"] = default_spec["fields"].clone();
        } else {
            json["last-sequence-number"] = count.into();
        }
        if self.version == 3 {
            json["next-row-id"] = 9.into();
        }
        if self.maybe(30) {
            let mut key = json!({"key-id": "k", "encrypted-key-metadata": "a2V5"});
            let other = json!({"key-id": "by", "encrypted-key-metadata": ""});
            let mut keys = Vec::new();
            if self.maybe(50) {
                key["encrypted-by-id"] = "by".into();
                key["properties"] = if self.maybe(50) { json!({"made": ""}) } else { json!({}) };
                keys.push(self.object(other));
            }
            keys.insert(0, self.object(key));
            json["encryption-keys"] = keys.into();
        }
        self.object(json)
    }
}

#[tokio::test]
async fn random_metadata_is_kept_whole_through_changes() {
    for seed in 0..200 {
        let mut maker = Maker::new(seed);
        let json = maker.metadata();
        let metadata =
            Metadata::from_json(json.clone()).unwrap_or_else(|e| panic!("seed {seed}: {e}: {json}"));
        let again = metadata.to_json().unwrap();
        assert_eq!(again, json, "seed {seed}");
        if seed % 8 != 0 {
            continue;
        }

        assert_kept_through_changes(&json, &format!("seed {seed}")).await;
    }
}
