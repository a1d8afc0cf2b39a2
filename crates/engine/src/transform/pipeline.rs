//! [`Pipeline`]: transforms connected by the names of their inputs and outputs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use icefield_core::{Error, ErrorKind, Result};
use tokio::sync::OnceCell;

use super::Transform;
use super::cached::cached;
use crate::error::from_datafusion;
use crate::looks::looks_of;
use crate::session::Session;

/// Transforms that take each other's outputs. An input is, in this order, a DataFrame that was given, another transform's
/// output, or the session's table of that name.
#[derive(Debug)]
pub struct Pipeline {
    session: Session,
    frames: BTreeMap<String, DataFrame>,
    transforms: BTreeMap<String, Transform>,
    /// Outputs of transforms that are cached, once they have run.
    computed: Mutex<BTreeMap<String, Computed>>,
}

type Computed = Arc<OnceCell<Arc<dyn TableProvider>>>;

impl Pipeline {
    /// A pipeline over a session's tables.
    pub fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            frames: BTreeMap::new(),
            transforms: BTreeMap::new(),
            computed: Mutex::default(),
        }
    }

    /// Gives a DataFrame a name.
    pub fn frame(mut self, name: impl Into<String>, frame: DataFrame) -> Self {
        self.frames.insert(name.into(), frame);
        self
    }

    /// Adds a transform. Of two of one name the later one counts.
    pub fn transform(mut self, transform: Transform) -> Self {
        self.transforms.insert(transform.name().to_string(), transform);
        self
    }

    /// Checks all plans: names, columns, types. Tables are looked up, no data is read, nothing is cached. Gives the
    /// transforms' names, each after those that it takes from.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the transform, the input and the column.
    pub async fn check(&self) -> Result<Vec<String>> {
        let order = self.order(self.transforms.keys().cloned())?;
        let mut outputs = BTreeMap::new();
        for name in &order {
            if let Some(transform) = self.transforms.get(name) {
                let frame = self.planned(transform, &outputs).await?;
                outputs.insert(name.clone(), frame);
            }
        }
        Ok(order)
    }

    /// A transform's output. What it takes is checked first; then the transforms that are cached run, and the rest when
    /// the DataFrame does.
    ///
    /// # Errors
    /// As [`Pipeline::check`], and [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted) when what is to be
    /// cached does not fit the session's budget.
    pub async fn output(&self, name: &str) -> Result<DataFrame> {
        if !self.transforms.contains_key(name) {
            return Err(Error::not_found("no transform of this name in the pipeline").with("transform", name));
        }
        let order = self.order([name.to_string()])?;
        let mut outputs = BTreeMap::new();
        for name in &order {
            if let Some(transform) = self.transforms.get(name) {
                outputs.insert(name.clone(), self.planned(transform, &outputs).await?);
            }
        }
        let mut results = BTreeMap::new();
        for name in &order {
            let Some(transform) = self.transforms.get(name) else { continue };
            let mut frame = self.planned(transform, &results).await?;
            if transform.cached {
                let run = || async {
                    let looks = looks_of(frame.logical_plan()).map_err(from_datafusion)?;
                    cached(name, frame, looks).await.map_err(|e| e.with("transform", name))
                };
                let computed = self.computed(name);
                let rows = computed.get_or_try_init(run).await?;
                frame = self.session.context().read_table(rows.clone()).map_err(from_datafusion)?;
            }
            results.insert(name.clone(), frame);
        }
        results
            .remove(name)
            .ok_or_else(|| Error::internal("a transform was not planned").with("transform", name))
    }

    /// A transform's output, empty before its first run. Who comes while another runs it waits for that run.
    fn computed(&self, transform: &str) -> Computed {
        let mut computed = self.computed.lock().unwrap_or_else(PoisonError::into_inner);
        computed.entry(transform.to_string()).or_default().clone()
    }

    async fn planned(
        &self,
        transform: &Transform,
        outputs: &BTreeMap<String, DataFrame>,
    ) -> Result<DataFrame> {
        let mut inputs = Vec::new();
        for name in transform.inputs() {
            let frame = match self.frames.get(name).or_else(|| outputs.get(name)) {
                Some(frame) => frame.clone(),
                None => self.table(name).await.map_err(|e| {
                    let missing = matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput);
                    let e = if missing {
                        Error::invalid_input(
                            "nothing has the name of an input: no frame, no transform, no table",
                        )
                        .with_source(e)
                    } else {
                        e
                    };
                    e.with("transform", transform.name()).with("input", name)
                })?,
            };
            inputs.push((name, frame));
        }
        transform.plan(inputs)
    }

    async fn table(&self, name: &str) -> Result<DataFrame> {
        self.session.table(name).await?.dataframe().await
    }

    /// The transforms that these need, themselves included, each after those that it takes from.
    fn order(&self, wanted: impl IntoIterator<Item = String>) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(&name, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, path: &mut Vec<String>, order: &mut Vec<String>) -> Result<()> {
        let Some(transform) = self.transforms.get(name) else { return Ok(()) };
        if order.iter().any(|done| done == name) {
            return Ok(());
        }
        if path.iter().any(|above| above == name) {
            path.push(name.to_string());
            return Err(Error::invalid_input("transforms take each other's outputs in a circle")
                .with("transform", name)
                .with("circle", path.join(" <- ")));
        }
        path.push(name.to_string());
        for input in transform.inputs() {
            if !self.frames.contains_key(input) {
                self.visit(input, path, order)?;
            }
        }
        path.pop();
        order.push(name.to_string());
        Ok(())
    }
}
