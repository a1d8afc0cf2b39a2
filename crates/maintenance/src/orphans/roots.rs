//! Which folders are looked through, and which of them other tables use.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use icefield_core::catalog::{Catalog, FOLDER_PROPERTIES, NamespaceIdent, TableIdent};
use icefield_core::{Error, ErrorKind, Result, Table};

use crate::identity::{Equal, is_within};
use crate::paths::KeyHash;
use crate::reach::reached_by;

/// The folders that a table writes to, none inside another.
pub(crate) fn own_roots(metadata: &TableMetadata, equal: &Equal) -> Vec<String> {
    let elsewhere = FOLDER_PROPERTIES.iter().filter_map(|name| metadata.properties().get(*name));
    let mut roots: Vec<String> = Vec::new();
    for folder in std::iter::once(metadata.location()).chain(elsewhere.map(String::as_str)) {
        let folder = folder.trim_end_matches('/');
        if !roots.iter().any(|root| equal.is_within(folder, root)) {
            roots.retain(|root| !equal.is_within(root, folder));
            roots.push(folder.to_string());
        }
    }
    roots
}

/// The folders that are looked through unless the caller names one: the table's location. Those that its properties name are
/// what its owner says: only where that is `anywhere`.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a whole store.
pub(super) fn default_roots(metadata: &TableMetadata, equal: &Equal, anywhere: bool) -> Result<Vec<String>> {
    let roots = match anywhere {
        true => own_roots(metadata, equal),
        false => vec![metadata.location().trim_end_matches('/').to_string()],
    };
    roots.iter().try_for_each(|root| require_folder(equal, root)).map(|()| roots)
}

/// Refuses to empty a whole bucket or disk.
fn require_folder(equal: &Equal, root: &str) -> Result<()> {
    if !equal.split(root).1.is_empty() {
        return Ok(());
    }
    let message = "a whole store is no table's folder, and every other file in it would be deleted; name a folder in it";
    Err(Error::invalid_input(message).with("location", root))
}

/// The folder that the caller named, if the table may be looked for there.
pub(super) fn chosen_root(
    metadata: &TableMetadata,
    equal: &Equal,
    location: &str,
    anywhere: bool,
) -> Result<String> {
    require_folder(equal, location)?;
    let own = [metadata.location()];
    if anywhere || own.iter().any(|root| equal.is_within(location, root)) {
        return Ok(location.trim_end_matches('/').to_string());
    }
    Err(Error::invalid_input(
        "the location is outside of the table's own folder, and every file there that is not the table's would be deleted; to do so all the same say allow_outside_table(true)",
    )
    .with("location", location)
    .with("folders", own.join(", ")))
}

/// What to do about another table that can't be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unloadable {
    Fail,
    /// Its folder is not known.
    Skip,
}

/// The files of the catalog's other tables: what lies in their folders. Where a table's own folder lies in that of another, what the
/// other one reaches: all else there may be the table's.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    folders: Vec<(TableIdent, String)>,
    reached: Vec<(TableIdent, HashSet<KeyHash>)>,
}

impl Neighbours {
    /// Loads all tables but `table`, files of which in `roots` are asked for. One request for each namespace and one or two for each
    /// table; for those in whose folders a root lies, one more for each manifest list and manifest.
    pub(crate) async fn of(
        catalog: &Arc<dyn Catalog>,
        table: &Table,
        roots: &[String],
        unloadable: Unloadable,
    ) -> Result<Self> {
        let mut idents = Vec::new();
        let mut namespaces: Vec<Option<NamespaceIdent>> = vec![None];
        while let Some(parent) = namespaces.pop() {
            if let Some(namespace) = &parent {
                idents.extend(skip_missing(catalog.list_tables(namespace).await)?.unwrap_or_default());
            }
            let children = skip_missing(catalog.list_namespaces(parent.as_ref()).await)?.unwrap_or_default();
            namespaces.extend(children.into_iter().map(Some));
        }
        idents.retain(|ident| ident != table.ident());
        let mut loads = stream::iter(idents)
            .map(|ident| {
                let catalog = catalog.clone();
                async move { (catalog.load_table(&ident).await, ident) }
            })
            .buffer_unordered(8)
            .map(|(loaded, ident)| match skip_missing(loaded) {
                Ok(table) => Ok((ident, table)),
                Err(error) if unloadable == Unloadable::Skip => {
                    tracing::warn!(table = %ident, %error, "another table can't be loaded, and its folder is not known");
                    Ok((ident, None))
                }
                Err(e) => Err(unknown(&ident, e)),
            });
        let mut neighbours = Self::default();
        while let Some((ident, table)) = loads.try_next().await? {
            let Some(table) = table else { continue };
            let mut folders = own_roots(table.metadata(), &Equal::default());
            // Whatever its metadata says of the table's place, the catalog says where that metadata is.
            let pointer = table.metadata_location();
            folders.extend(pointer.rsplit_once('/').map(|(folder, _)| folder.to_string()));
            let (around, beside): (Vec<String>, Vec<String>) =
                folders.into_iter().partition(|folder| roots.iter().any(|root| is_inside(root, folder)));
            neighbours.folders.extend(beside.into_iter().map(|folder| (ident.clone(), folder)));
            if around.is_empty() {
                continue;
            }
            match reached_by(&table).await {
                Ok(reached) => neighbours.reached.push((ident, reached)),
                // Everything there may be the other table's.
                Err(error) if unloadable == Unloadable::Skip => {
                    tracing::warn!(table = %ident, %error, "files of another table, in whose folder this one lies, are not known");
                    neighbours.folders.extend(around.into_iter().map(|folder| (ident.clone(), folder)));
                }
                Err(e) => return Err(unknown(&ident, e)),
            }
        }
        Ok(neighbours)
    }

    /// Refuses a folder that another table has too: which files are whose can't be told.
    pub(crate) fn check(&self, root: &str) -> Result<()> {
        let shared =
            self.folders.iter().find(|(_, folder)| is_within(root, folder) && is_within(folder, root));
        match shared {
            None => Ok(()),
            Some((ident, folder)) => Err(Error::invalid_input(
                "another table has the same folder, and its files would be deleted; name a location that is this table's alone",
            )
            .with("location", folder)
            .with("other table", ident)),
        }
    }

    /// The other table that a file is of, or may be.
    pub(crate) fn owner(&self, location: &str) -> Option<&TableIdent> {
        let by_folder = self.folders.iter().find(|(_, folder)| is_within(location, folder));
        let reached = || {
            let key = KeyHash::of(location);
            self.reached.iter().find(|(_, reached)| reached.contains(&key)).map(|(ident, _)| ident)
        };
        by_folder.map(|(ident, _)| ident).or_else(reached)
    }
}

/// Whether a folder lies in another, and is not that one.
fn is_inside(folder: &str, of: &str) -> bool {
    is_within(folder, of) && !is_within(of, folder)
}

fn unknown(ident: &TableIdent, error: Error) -> Error {
    Error::new(
        error.kind(),
        "another table of the catalog can't be loaded, so that its files are not known; repair or drop it, or say check_other_tables(false) if it has no files here",
    )
    .with("table", ident)
    .with_source(error)
}

fn skip_missing<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
