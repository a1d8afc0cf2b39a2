//! `CREATE NAMESPACE` and `DROP NAMESPACE`, which are `SCHEMA` and `DATABASE`, too.

use std::collections::HashMap;
use std::fmt;

use icefield_core::catalog::NamespaceIdent;
use icefield_core::{Error, ErrorKind, Result};

use super::cursor::Cursor;
use crate::session::{DEFAULT_SCHEMA, Session};

/// The words for a namespace in statements.
pub(super) const NAMESPACE: [&str; 3] = ["NAMESPACE", "SCHEMA", "DATABASE"];

/// `CREATE NAMESPACE [IF NOT EXISTS] a.b [COMMENT 'text'] [LOCATION 'place'] [WITH PROPERTIES ('k' = 'v')]`
#[derive(Debug, Clone)]
pub(super) struct CreateNamespace {
    namespace: NamespaceIdent,
    if_not_exists: bool,
    properties: HashMap<String, String>,
}

/// `DROP NAMESPACE [IF EXISTS] a.b [RESTRICT]`
#[derive(Debug, Clone)]
pub(super) struct DropNamespace {
    namespace: NamespaceIdent,
    if_exists: bool,
}

/// Reads a namespace's name, without the catalog's.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for the context's own.
pub(super) fn parse_namespace(cursor: &mut Cursor<'_, '_>, catalog: &str) -> Result<NamespaceIdent> {
    let mut parts = cursor.parts()?;
    if parts.len() > 1 && parts.first().is_some_and(|first| first == catalog) {
        parts.remove(0);
    }
    if let [only] = &parts[..]
        && only == DEFAULT_SCHEMA
    {
        let message = "this is where the session keeps tables of its own, views among them; name a namespace of the catalog";
        return Err(Error::invalid_input(message).with("namespace", DEFAULT_SCHEMA));
    }
    Ok(NamespaceIdent::from_vec(parts)?)
}

/// Reads a statement after `CREATE NAMESPACE`.
pub(super) fn parse_create(cursor: &mut Cursor<'_, '_>, catalog: &str) -> Result<CreateNamespace> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    let namespace = parse_namespace(cursor, catalog)?;
    let mut properties = HashMap::new();
    loop {
        if cursor.take(&["COMMENT"]) {
            properties.insert("comment".to_string(), cursor.text()?);
        } else if cursor.take(&["LOCATION"]) {
            properties.insert("location".to_string(), cursor.text()?);
        } else if cursor.take(&["WITH", "PROPERTIES"]) || cursor.take(&["WITH", "DBPROPERTIES"]) {
            properties.extend(cursor.properties()?);
        } else {
            break;
        }
    }
    Ok(CreateNamespace { namespace, if_not_exists, properties })
}

/// Reads a statement after `DROP NAMESPACE`.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for `CASCADE`.
pub(super) fn parse_drop(cursor: &mut Cursor<'_, '_>, catalog: &str) -> Result<DropNamespace> {
    let if_exists = cursor.take(&["IF", "EXISTS"]);
    let namespace = parse_namespace(cursor, catalog)?;
    if cursor.take(&["CASCADE"]) {
        let message = "a namespace is dropped once it is empty; drop its tables first, and leave CASCADE out";
        return Err(Error::unsupported(message).with("namespace", namespace));
    }
    cursor.take(&["RESTRICT"]);
    Ok(DropNamespace { namespace, if_exists })
}

impl CreateNamespace {
    pub(super) async fn run(&self, session: &Session) -> Result<()> {
        let created = session.catalog().create_namespace(&self.namespace, self.properties.clone()).await;
        match created {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && self.if_not_exists => Ok(()),
            other => other,
        }
    }
}

impl DropNamespace {
    pub(super) async fn run(&self, session: &Session) -> Result<()> {
        match session.catalog().drop_namespace(&self.namespace).await {
            Err(e) if e.kind() == ErrorKind::NotFound && self.if_exists => Ok(()),
            other => other,
        }
    }
}

impl fmt::Display for CreateNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE NAMESPACE {}", self.namespace.as_ref().join("."))
    }
}

impl fmt::Display for DropNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DROP NAMESPACE {}", self.namespace.as_ref().join("."))
    }
}
