//! A schema as a tree that can be changed in place, with the names by which its fields are found.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    ListType, Literal, MapType, NestedField, NestedFieldRef, PrimitiveType, StructType, Type,
};

use crate::error::{Error, Result};
use crate::format::members::{Hidden, Parts, parts, set_parts};
use crate::format::primitive_text;

/// The highest id that a table's own field may have: those above belong to metadata columns.
const MAX_FIELD_ID: i32 = i32::MAX - 200;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) doc: Option<String>,
    pub(super) initial_default: Option<Literal>,
    pub(super) write_default: Option<Literal>,
    /// What else a metadata file says of the column.
    pub(super) hidden: Hidden,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Primitive(PrimitiveType),
    Struct(Vec<Node>),
    /// The element.
    List(Box<[Node; 1]>),
    /// Key and value.
    Map(Box<[Node; 2]>),
}

/// Where a name leads.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) id: i32,
    /// The field around it, absent for a top-level column. Fields of a list's struct have the element as their parent.
    pub(super) parent: Option<i32>,
    /// Whether it is a list's element or a map's key or value, which have fixed names.
    pub(super) fixed: bool,
    /// Whether it is a map's key or lies within one.
    pub(super) in_key: bool,
    /// Whether a short name led here, which leaves out `element` or `value`.
    short: bool,
}

impl Target {
    /// A struct's field that was found by other means than a name.
    pub(super) fn of(id: i32, in_key: bool) -> Self {
        Self { id, parent: None, fixed: false, in_key, short: false }
    }
}

impl Node {
    pub(super) fn of(field: &NestedField) -> Self {
        let Parts { doc, initial_default, write_default, hidden } = parts(field);
        Self {
            id: field.id,
            name: field.name.clone(),
            required: field.required,
            doc,
            initial_default,
            write_default,
            hidden,
            kind: Kind::of(&field.field_type),
        }
    }

    pub(super) fn to_field(&self) -> NestedFieldRef {
        let mut field = NestedField::new(self.id, &self.name, self.kind.to_type(), self.required);
        let parts = Parts {
            doc: self.doc.clone(),
            initial_default: self.initial_default.clone(),
            write_default: self.write_default.clone(),
            hidden: self.hidden.clone(),
        };
        set_parts(&mut field, parts);
        Arc::new(field)
    }

    pub(super) fn children(&self) -> &[Node] {
        match &self.kind {
            Kind::Primitive(_) => &[],
            Kind::Struct(fields) => fields,
            Kind::List(element) => element.as_slice(),
            Kind::Map(entry) => entry.as_slice(),
        }
    }

    fn children_mut(&mut self) -> &mut [Node] {
        match &mut self.kind {
            Kind::Primitive(_) => &mut [],
            Kind::Struct(fields) => fields,
            Kind::List(element) => element.as_mut_slice(),
            Kind::Map(entry) => entry.as_mut_slice(),
        }
    }

    /// Calls `visit` on this node and all below it, parents first.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Node)) {
        visit(self);
        self.children().iter().for_each(|child| child.walk(visit));
    }
}

impl Kind {
    pub(super) fn of(field_type: &Type) -> Self {
        match field_type {
            Type::Primitive(primitive) => Self::Primitive(primitive.clone()),
            Type::Struct(fields) => Self::Struct(fields.fields().iter().map(|f| Node::of(f)).collect()),
            Type::List(list) => Self::List(Box::new([Node::of(&list.element_field)])),
            Type::Map(map) => Self::Map(Box::new([Node::of(&map.key_field), Node::of(&map.value_field)])),
        }
    }

    pub(super) fn to_type(&self) -> Type {
        match self {
            Self::Primitive(primitive) => Type::Primitive(primitive.clone()),
            Self::Struct(fields) => {
                Type::Struct(StructType::new(fields.iter().map(Node::to_field).collect()))
            }
            Self::List(element) => Type::List(ListType::new(element[0].to_field())),
            Self::Map(entry) => Type::Map(MapType::new(entry[0].to_field(), entry[1].to_field())),
        }
    }

    /// The kind in words, for messages: nested types without their fields.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Primitive(primitive) => primitive_text(primitive),
            Self::Struct(_) => "struct".to_string(),
            Self::List(_) => "list".to_string(),
            Self::Map(_) => "map".to_string(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) fields: Vec<Node>,
    /// The highest id ever given in the table.
    pub(super) last_id: i32,
    pub(super) case_sensitive: bool,
}

impl Tree {
    pub(super) fn new(fields: &[NestedFieldRef], last_id: i32, case_sensitive: bool) -> Self {
        Self { fields: fields.iter().map(|f| Node::of(f)).collect(), last_id, case_sensitive }
    }

    pub(super) fn next_id(&mut self) -> Result<i32> {
        if self.last_id >= MAX_FIELD_ID {
            return Err(Error::new(
                crate::ErrorKind::ResourceExhausted,
                "the table has used up its field ids; copy it to a new table",
            ));
        }
        self.last_id += 1;
        Ok(self.last_id)
    }

    /// Gives new ids to all fields of a type, those of one level before those below them, as Iceberg Java does.
    pub(super) fn assign_ids(&mut self, kind: &mut Kind) -> Result<()> {
        let children: &mut [Node] = match kind {
            Kind::Primitive(_) => &mut [],
            Kind::Struct(fields) => fields,
            Kind::List(element) => element.as_mut_slice(),
            Kind::Map(entry) => entry.as_mut_slice(),
        };
        for child in children.iter_mut() {
            child.id = self.next_id()?;
        }
        children.iter_mut().try_for_each(|child| self.assign_ids(&mut child.kind))
    }

    /// The field of a name; dots lead into structs. `element`, `key` and `value` lead into lists and maps and may be left
    /// out before a struct's fields.
    pub(super) fn find(&self, name: &str) -> Result<Option<Target>> {
        let mut passes = vec![true];
        if !self.case_sensitive {
            passes.push(false);
        }
        for exact in passes {
            let mut found = Vec::new();
            lookup(&self.fields, name, exact, &Around::default(), &mut found);
            let full: Vec<&Target> = found.iter().filter(|t| !t.short).collect();
            if full.len() > 1 {
                return Err(Error::invalid_input(
                    "several columns have this name when case is ignored; use the exact name with case_sensitive(true)",
                )
                .with("column", name));
            }
            if let Some(target) = full.first().copied().or(found.first()) {
                return Ok(Some(target.clone()));
            }
        }
        Ok(None)
    }

    pub(super) fn get(&self, id: i32) -> Option<&Node> {
        fn search(nodes: &[Node], id: i32) -> Option<&Node> {
            nodes.iter().find_map(|node| if node.id == id { Some(node) } else { search(node.children(), id) })
        }
        search(&self.fields, id)
    }

    pub(super) fn get_mut(&mut self, id: i32) -> Result<&mut Node> {
        fn search(nodes: &mut [Node], id: i32) -> Option<&mut Node> {
            nodes
                .iter_mut()
                .find_map(|node| if node.id == id { Some(node) } else { search(node.children_mut(), id) })
        }
        search(&mut self.fields, id)
            .ok_or_else(|| Error::internal("a field that was found is gone").with("field_id", id))
    }

    /// The fields beside those of `parent`; top-level columns for none.
    pub(super) fn struct_mut(&mut self, parent: Option<i32>) -> Result<&mut Vec<Node>> {
        let Some(parent) = parent else { return Ok(&mut self.fields) };
        match &mut self.get_mut(parent)?.kind {
            Kind::Struct(fields) => Ok(fields),
            other => {
                Err(Error::invalid_input("only structs have fields that can be added, moved or dropped")
                    .with("type", other.describe()))
            }
        }
    }

    /// Whether two names clash.
    pub(super) fn same_name(&self, a: &str, b: &str) -> bool {
        a == b || (!self.case_sensitive && a.to_lowercase() == b.to_lowercase())
    }

    /// Full names by id: `a.b`, `list.element.x`, `map.value`.
    pub(super) fn names(&self) -> HashMap<i32, String> {
        fn collect(nodes: &[Node], prefix: &str, names: &mut HashMap<i32, String>) {
            for node in nodes {
                let name =
                    if prefix.is_empty() { node.name.clone() } else { format!("{prefix}.{}", node.name) };
                collect(node.children(), &name, names);
                names.insert(node.id, name);
            }
        }
        let mut names = HashMap::new();
        collect(&self.fields, "", &mut names);
        names
    }

    /// The full name of a field, or its id where it has none.
    pub(super) fn name_of(&self, id: i32) -> String {
        self.names().remove(&id).unwrap_or_else(|| format!("field {id}"))
    }

    /// The field around each field; top-level columns have none.
    pub(super) fn parents(&self) -> HashMap<i32, i32> {
        let mut parents = HashMap::new();
        for node in &self.fields {
            node.walk(&mut |at| parents.extend(at.children().iter().map(|child| (child.id, at.id))));
        }
        parents
    }

    pub(super) fn walk<'a>(&'a self, mut visit: impl FnMut(&'a Node)) {
        self.fields.iter().for_each(|node| node.walk(&mut visit));
    }
}

/// What lies around the fields that are being searched.
#[derive(Default, Clone)]
struct Around {
    parent: Option<i32>,
    fixed: bool,
    in_key: bool,
    short: bool,
}

fn lookup(nodes: &[Node], name: &str, exact: bool, around: &Around, found: &mut Vec<Target>) {
    for (position, node) in nodes.iter().enumerate() {
        let Some(rest) = strip_name(name, &node.name, exact) else { continue };
        let in_key = around.in_key || (around.fixed && nodes.len() == 2 && position == 0);
        if rest.is_empty() {
            found.push(Target {
                id: node.id,
                parent: around.parent,
                fixed: around.fixed,
                in_key,
                short: around.short,
            });
        } else if let Some(rest) = rest.strip_prefix('.') {
            descend(node, rest, exact, &Around { in_key, ..around.clone() }, found);
        }
    }
}

fn descend(node: &Node, rest: &str, exact: bool, around: &Around, found: &mut Vec<Target>) {
    let below =
        Around { parent: Some(node.id), fixed: !matches!(node.kind, Kind::Struct(_)), ..around.clone() };
    lookup(node.children(), rest, exact, &below, found);
    let inner = match &node.kind {
        Kind::List(element) => &element[0],
        Kind::Map(entry) => &entry[1],
        _ => return,
    };
    if let Kind::Struct(fields) = &inner.kind {
        let below = Around { parent: Some(inner.id), fixed: false, short: true, ..around.clone() };
        lookup(fields, rest, exact, &below, found);
    }
}

/// What follows `name` at the start of `text`.
fn strip_name<'a>(text: &'a str, name: &str, exact: bool) -> Option<&'a str> {
    if exact {
        return text.strip_prefix(name);
    }
    // Lower-casing may change a name's length in bytes, so the cut is looked for at each end and each dot of the text.
    let wanted = name.to_lowercase();
    text.match_indices('.')
        .map(|(at, _)| at)
        .chain([text.len()])
        .filter_map(|at| text.split_at_checked(at))
        .find_map(|(head, rest)| (head.to_lowercase() == wanted).then_some(rest))
}
