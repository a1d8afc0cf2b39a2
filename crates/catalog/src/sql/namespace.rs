//! Namespaces as rows: the levels joined by dots, one row a property. A namespace exists while it, or one below it, has a
//! property or a table.

use std::collections::{BTreeSet, HashMap};

use icefield_core::catalog::NamespaceIdent;
use icefield_core::catalog::pointer::no_namespace;
use icefield_core::{Error, ErrorKind, Result};

use super::database::{CommitError, Transaction};
use super::pointers::{SqlPointers, encode};
use super::statements as sql;

impl SqlPointers {
    pub(super) async fn has_namespace(&self, namespace: &NamespaceIdent) -> Result<bool> {
        let encoded = encode(namespace)?;
        let below = format!("{encoded}.");
        let args = [self.name.as_str(), &encoded, &below];
        Ok(!self.retry(|_| self.database.query(sql::NAMESPACE_EXISTS, &args)).await?.is_empty())
    }

    /// Rolls nothing back: the caller's transaction is dropped with the error.
    pub(super) async fn require_namespace(
        &self,
        tx: &mut dyn Transaction,
        namespace: &NamespaceIdent,
    ) -> Result<()> {
        if self.has_namespace_in(tx, namespace).await? { Ok(()) } else { Err(no_namespace(namespace)) }
    }

    async fn has_namespace_in(&self, tx: &mut dyn Transaction, namespace: &NamespaceIdent) -> Result<bool> {
        let encoded = encode(namespace)?;
        let below = format!("{encoded}.");
        Ok(!tx.query(sql::NAMESPACE_EXISTS, &[&self.name, &encoded, &below]).await?.is_empty())
    }

    pub(super) async fn children(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        let prefix = match parent {
            Some(parent) => format!("{}.", encode(parent)?),
            None => String::new(),
        };
        let args = [self.name.as_str(), &prefix];
        let rows = self.retry(|_| self.database.query(sql::LIST_NAMESPACES, &args)).await?;
        let names = rows.into_iter().flatten().flatten();
        let levels: BTreeSet<String> = names
            .filter_map(|name| name.strip_prefix(&prefix)?.split('.').next().map(str::to_string))
            .filter(|level| !level.is_empty())
            .collect();
        if levels.is_empty()
            && let Some(parent) = parent
            && !self.has_namespace(parent).await?
        {
            return Err(no_namespace(parent));
        }
        let above = parent.map(|parent| parent.as_ref().clone()).unwrap_or_default();
        levels
            .into_iter()
            .map(|level| Ok(NamespaceIdent::from_vec([above.as_slice(), &[level]].concat())?))
            .collect()
    }

    pub(super) async fn create_namespace_once(
        &self,
        namespace: &NamespaceIdent,
        properties: &HashMap<String, String>,
        lost: bool,
    ) -> Result<()> {
        let encoded = encode(namespace)?;
        not_reserved(namespace, properties.keys())?;
        let mut tx = self.begin_exclusive().await?;
        if self.has_namespace_in(&mut *tx, namespace).await? {
            tx.rollback().await;
            if lost && self.properties(namespace).await? == *properties {
                return Ok(()); // by the try whose answer was lost
            }
            return Err(
                Error::new(ErrorKind::AlreadyExists, "the namespace exists").with("namespace", namespace)
            );
        }
        // A marker for each level above, so that they stay when this one goes.
        let levels = namespace.as_ref();
        for depth in 1..=levels.len() {
            let level: Vec<&str> = levels.iter().take(depth).map(String::as_str).collect();
            self.set(&mut *tx, &level.join("."), sql::EXISTS, "true").await?;
        }
        for (key, value) in properties {
            self.set(&mut *tx, &encoded, key, value).await?;
        }
        tx.commit().await.map_err(CommitError::into_error)
    }

    async fn set(&self, tx: &mut dyn Transaction, namespace: &str, key: &str, value: &str) -> Result<()> {
        let done = tx.execute(sql::SET_PROPERTY, &[&self.name, namespace, key, value]).await;
        done.map(drop).map_err(|e| e.with("namespace", namespace).with("property", key))
    }

    /// A namespace's properties, without the marker of its existence.
    pub(super) async fn properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        let encoded = encode(namespace)?;
        let args = [self.name.as_str(), &encoded];
        let rows = self.retry(|_| self.database.query(sql::NAMESPACE_PROPERTIES, &args)).await?;
        if rows.is_empty() && !self.has_namespace(namespace).await? {
            return Err(no_namespace(namespace));
        }
        let pairs = rows.into_iter().filter_map(|row| {
            let mut columns = row.into_iter();
            Some((columns.next()??, columns.next()?.unwrap_or_default()))
        });
        Ok(pairs.filter(|(key, _)| key != sql::EXISTS).collect())
    }

    pub(super) async fn update_namespace_once(
        &self,
        namespace: &NamespaceIdent,
        set: &HashMap<String, String>,
        remove: &[String],
    ) -> Result<()> {
        let encoded = encode(namespace)?;
        not_reserved(namespace, set.keys().chain(remove))?;
        let mut tx = self.begin_exclusive().await?;
        self.require_namespace(&mut *tx, namespace).await?;
        // PyIceberg writes no marker beside other properties: without it, removing the last would drop the namespace.
        self.set(&mut *tx, &encoded, sql::EXISTS, "true").await?;
        for key in remove {
            tx.execute(sql::REMOVE_PROPERTY, &[&self.name, &encoded, key]).await?;
        }
        for (key, value) in set {
            self.set(&mut *tx, &encoded, key, value).await?;
        }
        tx.commit().await.map_err(CommitError::into_error)
    }

    pub(super) async fn drop_namespace_once(&self, namespace: &NamespaceIdent, lost: bool) -> Result<()> {
        let encoded = encode(namespace)?;
        let below = format!("{encoded}.");
        let mut tx = self.begin_exclusive().await?;
        // Before the check: other programs' inserts of tables do not take our lock, but the row that they looked at is gone.
        let dropped = tx.execute(sql::DROP_NAMESPACE, &[&self.name, &encoded]).await?;
        let content = tx.query(sql::NAMESPACE_CONTENT, &[&self.name, &encoded, &below]).await?;
        if !content.is_empty() {
            tx.rollback().await;
            return Err(Error::invalid_input("the namespace is not empty; drop what is in it first")
                .with("namespace", namespace));
        }
        if dropped == 0 {
            tx.rollback().await;
            return if lost { Ok(()) } else { Err(no_namespace(namespace)) };
        }
        tx.commit().await.map_err(CommitError::into_error)
    }
}

fn not_reserved<'a>(namespace: &NamespaceIdent, mut keys: impl Iterator<Item = &'a String>) -> Result<()> {
    match keys.find(|key| *key == sql::EXISTS) {
        Some(_) => Err(Error::invalid_input("the property exists is the catalog's own; choose another name")
            .with("namespace", namespace)),
        None => Ok(()),
    }
}
