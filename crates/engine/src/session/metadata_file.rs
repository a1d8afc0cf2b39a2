//! Tables opened from their metadata files, without a catalog: to look at, to restore from, to compare.

use std::future::IntoFuture;

use futures::future::BoxFuture;
use icefield_core::catalog::{TableIdent, parse_ident};
use icefield_core::{Result, Table as CoreTable};

use super::Session;
use super::builder::CACHE_SHARE;
use crate::scan::ScanCaches;
use crate::table::Table;

/// Opens a table from its metadata file, as [`Session::table_from_metadata_file`] says.
#[must_use = "nothing happens before .await"]
#[derive(Debug, Clone)]
pub struct OpenMetadataFile {
    session: Session,
    location: String,
    name: Option<String>,
    moved: Vec<(String, String)>,
}

impl Session {
    /// Opens a table from one of its metadata files, by its location, whatever catalog it is in: `v3.metadata.json`,
    /// `00003-….gz.metadata.json`. The table is read-only: what would commit to it fails with
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported). It is not part of the catalog and SQL does not find it by
    /// name; [`Table::provider`] can be registered in the [context](Session::context).
    ///
    /// ```no_run
    /// # async fn example(session: icefield_engine::Session) -> icefield_core::Result<()> {
    /// let table = session
    ///     .table_from_metadata_file("/backup/hotel/rates/metadata/v12.metadata.json")
    ///     .moved("s3://lake/hotel/rates", "/backup/hotel/rates")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound), and
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) for a file that is not table metadata.
    pub fn table_from_metadata_file(&self, location: impl Into<String>) -> OpenMetadataFile {
        OpenMetadataFile { session: self.clone(), location: location.into(), name: None, moved: Vec::new() }
    }
}

impl OpenMetadataFile {
    /// Names the table, as `namespace.table`, in messages and plans. By default the folders that it lies in do.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Looks for what the table names under `from` at `to`: for tables that were copied or moved. Relative locations are looked
    /// for beside the metadata file where no `from` fits them. Of several, the longest that
    /// fits applies; see [`Storage::with_mappings`](icefield_core::storage::Storage::with_mappings).
    pub fn moved(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.moved.push((from.into(), to.into()));
        self
    }
}

impl IntoFuture for OpenMetadataFile {
    type Output = Result<Table>;
    type IntoFuture = BoxFuture<'static, Result<Table>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { session, location, name, moved } = self;
        Box::pin(async move {
            let ident = match name {
                Some(name) => parse_ident(&name)?,
                None => folders(&location)?,
            };
            let any_moved = !moved.is_empty();
            // The caller has named the folder, and those that files were moved to.
            let folder = location
                .rsplit_once("/metadata/")
                .or(location.rsplit_once('/'))
                .map_or("", |(folder, _)| folder);
            let places = moved.iter().map(|(_, to)| to.clone()).chain([folder.to_string(), location.clone()]);
            let places = places.filter(|place| !place.is_empty()).collect::<Vec<_>>();
            let storage = session.catalog().storage().and_within(places)?.with_mappings(moved)?;
            let core = CoreTable::from_metadata_file(storage, ident, &location).await?;
            let table = Table::new(session.clone(), core);
            if !any_moved && !table.core().is_relative() {
                return Ok(table);
            }
            // A file of the moved table has the name of one of the original, and not always its bytes.
            let caches = ScanCaches::new(session.memory_budget() / CACHE_SHARE);
            Ok(table.with_caches(caches.with_view_types(session.scan_caches().view_types())))
        })
    }
}

/// The name that a table's folders give it: `db.t` for `.../db/t/metadata/v1.metadata.json`.
fn folders(location: &str) -> Result<TableIdent> {
    let mut folders = location.rsplit('/').skip(1).filter(|part| !part.is_empty() && *part != "metadata");
    let (name, namespace) = (folders.next().unwrap_or("table"), folders.next().unwrap_or("file"));
    Ok(TableIdent::from_strs([namespace, name])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_by_its_folders() {
        for (location, name) in [
            ("/w/db/t/metadata/v1.metadata.json", "db.t"),
            ("s3://b/t/metadata/v1.metadata.json", "b.t"),
            ("/v1.metadata.json", "file.table"),
        ] {
            assert_eq!(folders(location).unwrap().to_string(), name);
        }
    }
}
