//! What a service's logs say of its tables.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps each span that begins and each event, of the level INFO and above, as a line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("icefield")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().to_string());
        span.record(&mut fields);
        let mut lines = self.0.lock().unwrap();
        lines.push(fields.0);
        Id::from_u64(lines.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields("event".to_string());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Writes, commits a change of metadata, and fails at both. Gives the snapshot that was made.
async fn operations() -> i64 {
    let session = Session::builder().build().unwrap();
    let rows = session.sql("SELECT 1 AS id").await.unwrap();
    let report = rows.clone().append_to(&session, "a.t").create_with(|table| table).await.unwrap();
    report.table.set_properties([("a", "b")]).await.unwrap();
    rows.append_to(&session, "a.t").branch("nobody").await.unwrap_err();
    session.drop_table("a.t").await.unwrap();
    report.table.set_properties([("a", "c")]).await.unwrap_err();
    report.snapshot_id.unwrap()
}

#[tokio::test]
async fn writes_and_commits_are_told() {
    // Whether anybody listens is kept for each place that tells, from its first time on; that others come there at the
    // same time, in threads that nobody listens to, must not decide it.
    operations().await;
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    tracing::callsite::rebuild_interest_cache();
    let snapshot = operations().await;
    let told = lines.0.lock().unwrap();
    let with = |what: &str| told.iter().filter(|line| line.starts_with(what)).collect::<Vec<_>>();
    assert_eq!(with("write "), vec!["write operation=\"append\" table=a.t"; 2], "{told:#?}");
    assert_eq!(with("commit "), vec!["commit table=a.t"; 3], "{told:#?}");
    let committed = with("event message=committed");
    assert_eq!(committed.len(), 2, "{told:#?}");
    assert!(committed[0].contains(&format!("snapshot_id={snapshot} ")), "{told:#?}");
    assert_eq!(with("event message=written report=a.t: created with 1 rows").len(), 1, "{told:#?}");
    assert_eq!(with("event message=not committed error=").len(), 1, "{told:#?}");
}

#[tokio::test]
async fn reports_are_written_as_json() {
    let session = Session::builder().build().unwrap();
    let rows = session.sql("SELECT 1 AS id").await.unwrap();
    let report = rows.clone().append_to(&session, "a.t").create_with(|table| table).await.unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["table"], "a.t");
    assert_eq!(json["rows"], 1);
    assert_eq!(json["snapshot_id"], report.snapshot_id.unwrap());
    assert!(json["elapsed"]["commit"].as_f64().unwrap() > 0.0);

    let error = rows.append_to(&session, "b.t").await.unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    assert_eq!(json["kind"], "NotFound");
    assert_eq!(json["message"], error.to_string());
}
