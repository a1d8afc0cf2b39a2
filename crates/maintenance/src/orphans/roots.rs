//! Which folders are looked through, and which of them other tables use.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use icefield_core::catalog::{Catalog, FOLDER_PROPERTIES, NamespaceIdent, TableIdent};
use icefield_core::{Error, ErrorKind, Result, Table};

use crate::identity::{Equal, is_within};

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

/// The folders of the catalog's other tables.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Vec<(TableIdent, String)>);

impl Neighbours {
    /// Loads all other tables. One request for each namespace and one or two for each table.
    pub(crate) async fn of(
        catalog: &Arc<dyn Catalog>,
        table: &Table,
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
                Err(e) => Err(Error::new(
                    e.kind(),
                    "another table of the catalog can't be loaded, so that its folders are not known; repair or drop it, or say check_other_tables(false) if it has no files here",
                )
                .with("table", &ident)
                .with_source(e)),
            });
        let mut folders = Vec::new();
        while let Some((ident, table)) = loads.try_next().await? {
            let roots = table.map(|table| own_roots(table.metadata(), &Equal::default())).unwrap_or_default();
            folders.extend(roots.into_iter().map(|root| (ident.clone(), root)));
        }
        Ok(Self(folders))
    }

    /// Refuses a folder that another table has too: which files are whose can't be told.
    pub(crate) fn check(&self, root: &str) -> Result<()> {
        let shared = self.0.iter().find(|(_, folder)| is_within(root, folder) && is_within(folder, root));
        match shared {
            None => Ok(()),
            Some((ident, folder)) => Err(Error::invalid_input(
                "another table has the same folder, and its files would be deleted; name a location that is this table's alone",
            )
            .with("location", folder)
            .with("other table", ident)),
        }
    }

    /// Keeps of the other tables' folders those inside of `roots`: nothing else is listed.
    pub(super) fn inside(mut self, roots: &[String]) -> Self {
        self.0.retain(|(_, folder)| roots.iter().any(|root| is_within(folder, root)));
        self
    }

    /// Keeps of the other tables' folders those that this one does not lie in.
    pub(crate) fn beside(mut self, location: &str) -> Self {
        self.0.retain(|(_, folder)| !is_within(location, folder));
        self
    }

    /// The other table in whose folder a file lies.
    pub(crate) fn owner(&self, location: &str) -> Option<&TableIdent> {
        self.0.iter().find(|(_, folder)| is_within(location, folder)).map(|(ident, _)| ident)
    }
}

fn skip_missing<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
