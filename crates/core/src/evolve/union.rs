//! Union by name: the edits that make a schema take another one's columns.

use iceberg::spec::{PrimitiveType, Schema};

use super::promote::{is_promotion, refusal};
use super::schema::Draft;
use super::tree::{Kind, Node, Target};
use crate::error::{Error, Result};

impl Draft<'_> {
    /// Adds what `schema` has more, promotes where it is wider.
    pub(super) fn union(&mut self, schema: &Schema, relax: bool) -> Result<()> {
        let fields: Vec<Node> = schema.as_struct().fields().iter().map(|f| Node::of(f)).collect();
        self.union_struct(None, "", &fields, false, relax)
    }

    fn union_struct(
        &mut self,
        parent: Option<i32>,
        prefix: &str,
        fields: &[Node],
        in_key: bool,
        relax: bool,
    ) -> Result<()> {
        for field in fields {
            let full =
                if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
            match self.child(parent, &field.name, &full)? {
                Some(own) => self.union_field(&own, &full, field, in_key, relax)?,
                None if in_key => {
                    return Err(Error::invalid_input(
                        "a map's key can't change: it has no such field; leave the field out of the data",
                    )
                    .with("column", full));
                }
                None => {
                    self.check_name(parent, &field.name, None, &full)?;
                    let mut node = Node { required: false, ..field.clone() };
                    self.insert(parent, &mut node, &full, None)?;
                }
            }
        }
        Ok(())
    }

    /// The field of a struct by its own name.
    fn child(&mut self, parent: Option<i32>, name: &str, full: &str) -> Result<Option<Node>> {
        let tree = self.tree.clone();
        let siblings = self.tree.struct_mut(parent)?;
        if let Some(node) = siblings.iter().find(|node| node.name == name) {
            return Ok(Some(node.clone()));
        }
        let mut alike = siblings.iter().filter(|node| tree.same_name(&node.name, name));
        let first = alike.next();
        if alike.next().is_some() {
            return Err(Error::invalid_input(
                "several columns have this name when case is ignored; use the exact name",
            )
            .with("column", full));
        }
        Ok(first.cloned())
    }

    fn union_field(&mut self, own: &Node, full: &str, other: &Node, in_key: bool, relax: bool) -> Result<()> {
        if relax && !in_key {
            let node = self.tree.get_mut(own.id)?;
            node.required &= other.required;
        }
        if let (Some(doc), false) = (&other.doc, in_key) {
            self.tree.get_mut(own.id)?.doc = Some(doc.clone());
        }
        match (&own.kind, &other.kind) {
            (Kind::Primitive(from), Kind::Primitive(to)) => self.union_type(own.id, full, from, to, in_key),
            (Kind::Struct(_), Kind::Struct(fields)) => {
                self.union_struct(Some(own.id), full, fields, in_key, relax)
            }
            (Kind::List(a), Kind::List(b)) => {
                self.union_field(&a[0], &format!("{full}.element"), &b[0], in_key, relax)
            }
            (Kind::Map(a), Kind::Map(b)) => {
                self.union_field(&a[0], &format!("{full}.key"), &b[0], true, relax)?;
                self.union_field(&a[1], &format!("{full}.value"), &b[1], in_key, relax)
            }
            (from, to) => {
                Err(refusal(full, &from.describe(), &to.describe(), self.metadata.format_version()))
            }
        }
    }

    fn union_type(
        &mut self,
        id: i32,
        full: &str,
        from: &PrimitiveType,
        to: &PrimitiveType,
        in_key: bool,
    ) -> Result<()> {
        let version = self.metadata.format_version();
        // Dates and timestamps convert in neither direction by themselves: a mix of them is a mistake more often than not.
        let dates = matches!(from, PrimitiveType::Date) || matches!(to, PrimitiveType::Date);
        if from == to || (!dates && is_promotion(to, from, version)) {
            return Ok(());
        }
        if dates {
            return Err(Error::invalid_input(
                "a date and another type are not united; cast the data to the column's type, or promote the column first",
            )
            .with("column", full)
            .with("from", from)
            .with("to", to));
        }
        let target = Target::of(id, in_key);
        self.promote_node(&target, full, to)
    }
}
