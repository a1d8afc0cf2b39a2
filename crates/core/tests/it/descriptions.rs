//! Columns' descriptions carry things inside this library that stay there: none is taken for it, and none shows it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use iceberg::spec::{FormatVersion, NestedField, NestedFieldRef, Schema, Type};
use iceberg::transaction::{AddColumn, ApplyTransactionAction, Transaction};
use iceberg::{Catalog as _, TableCreation};
use icefield_core::catalog::{Catalog, IcebergCatalog};
use icefield_core::evolve::{SchemaUpdate, types};
use icefield_core::format::{column_doc, iceberg_schema, initial_default};
use serde_json::{Value, json};

use crate::metadata::{evolve, file, registered, written};

/// Descriptions that look like what this library puts into them.
const LOOKALIKES: [&str; 5] = [
    "a\u{1f}b",
    "a\u{1f}{}",
    "a\u{1f}{\"members\":{\"initial-default\":7}}",
    "\u{1f}{\"members\":{\"initial-default\":7},\"empty\":true}",
    "\u{1f}",
];

/// All columns of a schema, at every level.
fn columns(schema: &Schema) -> Vec<NestedFieldRef> {
    fn collect(of: &Type, into: &mut Vec<NestedFieldRef>) {
        let fields = match of {
            Type::Primitive(_) => Vec::new(),
            Type::Struct(inner) => inner.fields().to_vec(),
            Type::List(list) => vec![list.element_field.clone()],
            Type::Map(map) => vec![map.key_field.clone(), map.value_field.clone()],
        };
        for field in fields {
            collect(&field.field_type, into);
            into.push(field);
        }
    }
    let mut all = Vec::new();
    collect(&Type::Struct(schema.as_struct().clone()), &mut all);
    all
}

/// A table's metadata with one column of each description.
fn described() -> Value {
    let mut json = file("v3-with-all-members");
    let columns = (1..).zip(LOOKALIKES).map(
        |(id, doc)| json!({"id": id, "name": format!("c{id}"), "required": false, "type": "int", "doc": doc}),
    );
    json["schemas"][0]["fields"] = columns.collect();
    json
}

#[tokio::test]
async fn a_description_from_arrow_is_text_whatever_is_in_it() {
    for doc in LOOKALIKES {
        let described = |name: &str, of: DataType| {
            Field::new(name, of, true).with_metadata(HashMap::from([("doc".to_string(), doc.to_string())]))
        };
        let list = DataType::List(Arc::new(described("element", DataType::Int32)));
        let arrow = ArrowSchema::new(vec![described("n", DataType::Int32), described("l", list)]);
        let schema = iceberg_schema(&arrow, FormatVersion::V3).unwrap();
        for column in columns(&schema) {
            // The format has no descriptions of elements.
            let expected = (column.name != "element").then_some(doc);
            assert_eq!(column_doc(&column), expected, "{}", column.name);
            assert_eq!(initial_default(&column).unwrap(), None, "{}", column.name);
        }
        // Nor where its columns come to a table that is there.
        let (catalog, table) = registered(&file("v2-minimal")).await;
        let union = SchemaUpdate::new().union_by_name(schema.clone());
        let table = evolve(&catalog, &table, union).await;
        let after = written(&table).await;
        let added = after["schemas"].as_array().unwrap().last().unwrap()["fields"].as_array().unwrap();
        let column = added.iter().find(|field| field["name"] == "n").unwrap();
        assert_eq!((&column["doc"], column.get("initial-default")), (&json!(doc), None));
    }
}

#[tokio::test]
async fn iceberg_sees_descriptions_and_no_more_and_keeps_the_rest() {
    for name in ["v2-with-all-members", "described"] {
        let json = if name == "described" { described() } else { file(name) };
        let (ours, table) = registered(&json).await;
        let theirs = IcebergCatalog::new(ours.clone());
        let seen = theirs.load_table(table.ident()).await.unwrap();
        for schema in seen.metadata().schemas_iter() {
            for column in columns(schema) {
                let shown = table.metadata().schema_by_id(schema.schema_id()).unwrap();
                let shown = shown.field_by_id(column.id).unwrap();
                assert_eq!(column.doc.as_deref(), column_doc(shown), "{name}: {}", column.name);
            }
        }
        let refs =
            |table: &iceberg::table::Table| serde_json::to_value(table.metadata()).unwrap()["refs"].clone();
        assert_eq!(refs(&seen).as_object().unwrap().len(), json["refs"].as_object().unwrap().len());

        // Their commits change what they mean to change.
        let tx = Transaction::new(&seen);
        let add = AddColumn::builder().name("added").field_type(types::int()).doc(LOOKALIKES[2]).build();
        let tx = tx.update_schema().add_column(add).apply(tx).unwrap();
        let after_theirs = tx.commit(&theirs).await.unwrap();
        let added = after_theirs.metadata().current_schema().field_by_name("added").unwrap();
        assert_eq!(added.doc.as_deref(), Some(LOOKALIKES[2]));
        let table = ours.load_table(table.ident()).await.unwrap();
        let after = written(&table).await;
        let before = json["schemas"].as_array().unwrap();
        let current = before.iter().find(|schema| schema["schema-id"] == json["current-schema-id"]).unwrap();
        let now = after["schemas"].as_array().unwrap().last().unwrap();
        let mut expected = current["fields"].as_array().unwrap().clone();
        let id = json["last-column-id"].as_i64().unwrap() + 1;
        expected
            .push(json!({"id": id, "name": "added", "required": false, "type": "int", "doc": LOOKALIKES[2]}));
        assert_eq!(now["fields"], Value::Array(expected), "{name}");
        assert_eq!(after["current-schema-id"], now["schema-id"]);
        let kept = |json: &Value| {
            json["schemas"].as_array().unwrap().iter().take(before.len()).cloned().collect::<Vec<_>>()
        };
        let mut sorted = before.clone();
        sorted.sort_by_key(|schema| schema["schema-id"].as_i64());
        let mut old = kept(&after);
        old.sort_by_key(|schema| schema["schema-id"].as_i64());
        assert_eq!(old, sorted, "{name}");
    }
}

#[tokio::test]
async fn iceberg_creates_tables_whose_descriptions_are_text() {
    let (ours, table) = registered(&file("v2-minimal")).await;
    let theirs = IcebergCatalog::new(ours.clone());
    let columns = (1..).zip(LOOKALIKES).map(|(id, doc)| {
        let column = NestedField::optional(id, format!("c{id}"), types::int());
        NestedFieldRef::from(column.with_doc(doc))
    });
    let schema = Schema::builder().with_fields(columns).build().unwrap();
    let creation = TableCreation::builder().name("new".to_string()).schema(schema).build();
    let made = theirs.create_table(table.ident().namespace(), creation).await.unwrap();
    let docs = |schema: &Schema| {
        schema.as_struct().fields().iter().map(|f| f.doc.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(docs(made.metadata().current_schema()), LOOKALIKES);
    let loaded = ours.load_table(made.identifier()).await.unwrap();
    let fields = written(&loaded).await["schemas"][0]["fields"].clone();
    for (field, doc) in fields.as_array().unwrap().iter().zip(LOOKALIKES) {
        assert_eq!((&field["doc"], field.get("initial-default")), (&json!(doc), None));
    }
}

#[tokio::test]
async fn a_table_whose_defaults_iceberg_can_not_hold_is_not_given_to_it() {
    let mut json = file("v3-with-all-members");
    let fields = json["schemas"][0]["fields"].as_array().unwrap().clone();
    for (name, is_refused) in
        [("ns", true), ("early", true), ("long_decimal", false), ("f", false), ("u", false)]
    {
        let column = fields.iter().find(|field| field["name"] == name).unwrap();
        json["schemas"][0]["fields"] = json!([fields[0], column]);
        let (ours, table) = registered(&json).await;
        let theirs = IcebergCatalog::new(ours.clone());
        match theirs.load_table(table.ident()).await {
            Ok(seen) => {
                assert!(!is_refused, "{name}");
                let schema = seen.metadata().current_schema();
                assert!(schema.field_by_name(name).unwrap().initial_default.is_some(), "{name}");
                let tx = Transaction::new(&seen);
                let add = AddColumn::optional("added", types::int());
                let tx = tx.update_schema().add_column(add).apply(tx).unwrap();
                tx.commit(&theirs).await.unwrap();
                let after = written(&ours.load_table(table.ident()).await.unwrap()).await;
                assert_eq!(after["schemas"][1]["fields"][1], *column);
            }
            Err(error) => {
                assert!(is_refused && error.to_string().contains(name), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_description_that_is_set_is_text_whatever_is_in_it() {
    for doc in LOOKALIKES {
        let (catalog, table) = registered(&file("v2-with-all-members")).await;
        let table = evolve(&catalog, &table, SchemaUpdate::new().set_doc("y", doc)).await;
        let column = written(&table).await["schemas"][2]["fields"][1].clone();
        assert_eq!((&column["doc"], &column["x-tag"]), (&json!(doc), &json!({"a": [1]})));
        assert_eq!(column.get("initial-default"), None);
    }
}

#[tokio::test]
async fn iceberg_sees_tags_of_version_1_and_keeps_them() {
    let mut json = file("v1-with-tags");
    for column in ["/schema/fields/0", "/schemas/0/fields/0"] {
        json.pointer_mut(column).unwrap()["x-tag"] = "pii".into();
    }
    let (ours, table) = registered(&json).await;
    let theirs = IcebergCatalog::new(ours.clone());
    let seen = theirs.load_table(table.ident()).await.unwrap();
    assert_eq!(seen.metadata().current_schema().field_by_id(1).unwrap().doc, None);
    let tag = seen.metadata().snapshot_for_ref("eoy").map(|snapshot| snapshot.snapshot_id());
    assert_eq!((tag, seen.metadata().last_updated_ms()), (Some(1), 1602638573874));
    let tx = Transaction::new(&seen);
    let tx = tx.update_schema().add_column(AddColumn::optional("added", types::int())).apply(tx).unwrap();
    tx.commit(&theirs).await.unwrap();
    let after = written(&ours.load_table(table.ident()).await.unwrap()).await;
    assert_eq!(after["refs"], json["refs"]);
    assert_eq!(after["schemas"][1]["fields"][0], json["schemas"][0]["fields"][0]);
    assert_eq!(after["schemas"][1]["fields"].as_array().unwrap().len(), 3);
}
