//! SQL over the catalog's tables.

use datafusion::dataframe::DataFrame;
use icefield_core::Result;

use super::Session;
use crate::error::from_datafusion;

impl Session {
    /// Plans a SQL statement; its tables are the catalog's (`namespace.table`), as they are now, and those registered in
    /// the context.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what can't be parsed or planned.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        self.context().sql(query).await.map_err(from_datafusion)
    }
}
