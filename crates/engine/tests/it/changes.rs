//! Incremental reads: appended rows, and the feed of changes.

use icefield_core::catalog::parse_ident;
use icefield_core::commit::{Expiry, Transaction};
use icefield_core::evolve::types::{long, optional};
use icefield_core::{AsOf, ErrorKind};
use icefield_engine::changes::{Beginning, Start};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};
use icefield_testkit::{newest_metadata, spark_sql};

use crate::scan_support::{rows, session, session_for_all_places, text_rows};

async fn append(session: &Session, values: &str) -> Table {
    let frame =
        session.sql(&format!("SELECT column1 AS id, column2 AS v FROM (VALUES {values})")).await.unwrap();
    frame.append_to(session, "db.t").create_with(|t| t).await.unwrap().table
}

async fn overwrite(session: &Session, values: &str) -> Table {
    let frame =
        session.sql(&format!("SELECT column1 AS id, column2 AS v FROM (VALUES {values})")).await.unwrap();
    frame.overwrite(session, "db.t").await.unwrap().table
}

fn snapshots(table: &Table) -> Vec<i64> {
    table.core().metadata().history().iter().map(|entry| entry.snapshot_id).collect()
}

async fn sorted(frame: datafusion::dataframe::DataFrame) -> Vec<String> {
    let mut rows = text_rows(&frame.collect().await.unwrap());
    rows.sort();
    rows
}

#[tokio::test]
async fn appended_rows_are_those_of_appends_after_the_first_and_up_to_the_last_snapshot() {
    let session = session();
    append(&session, "(1, 'a')").await;
    append(&session, "(2, 'b'), (3, 'c')").await;
    overwrite(&session, "(9, 'z')").await;
    append(&session, "(4, 'd')").await;
    let table = append(&session, "(5, 'e')").await.create_tag("last").await.unwrap();
    let ids = snapshots(&table);
    let cases: [(i64, i64, &[&str]); 5] = [
        (ids[0], ids[1], &["2|b", "3|c"]),
        (ids[0], ids[4], &["2|b", "3|c", "4|d", "5|e"]),
        (ids[1], ids[2], &[]),
        (ids[2], ids[3], &["4|d"]),
        (ids[4], ids[4], &[]),
    ];
    for (from, to, expected) in cases {
        assert_eq!(sorted(table.appended_between(from, to).await.unwrap()).await, expected);
        let query = format!("SELECT * FROM appends('db.t', {from}, {to}) ORDER BY id");
        assert_eq!(rows(&session, &query).await, expected);
    }
    let query = format!("SELECT count(*), max(t.id) FROM appends('db.t', {}, 'last') WHERE v > 'b'", ids[0]);
    assert_eq!(rows(&session, &query).await, ["3|5"]);
    let query =
        format!("SELECT v FROM appends('db.t', {}, 'main') a JOIN db.t ON a.id = t.id ORDER BY 1", ids[0]);
    assert_eq!(rows(&session, &query.replace("SELECT v", "SELECT a.v")).await, ["d", "e"]);
    for (from, to, kind) in [
        (ids[3], ids[1], ErrorKind::InvalidInput),
        (7, ids[1], ErrorKind::InvalidInput),
        (ids[0], 7, ErrorKind::NotFound),
    ] {
        assert_eq!(table.appended_between(from, to).await.unwrap_err().kind(), kind);
        assert_eq!(table.changes_between(from, to).unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_range_begins_at_the_tables_first_snapshot_if_asked() {
    let session = session();
    append(&session, "(1, 'a')").await;
    overwrite(&session, "(2, 'b')").await;
    let table = append(&session, "(3, 'c')").await;
    assert_eq!(sorted(table.appended_between(Beginning, "main").await.unwrap()).await, ["1|a", "3|c"]);
    assert_eq!(
        rows(&session, "SELECT * FROM appends('db.t', NULL, 'main') ORDER BY id").await,
        ["1|a", "3|c"]
    );
    let feed = "SELECT id, _change_type FROM changes('db.t', null, 'main') ORDER BY _change_ordinal, id";
    assert_eq!(rows(&session, feed).await, ["1|INSERT", "1|DELETE", "2|INSERT", "3|INSERT"]);
    let empty = session.create_table("db.empty", [optional("id", long())]).await.unwrap();
    assert_eq!(empty.appended_between(Beginning, AsOf::Current).await.unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_reader_that_lags_behind_expiry_can_tell() {
    let session = session();
    for id in 1..=4 {
        append(&session, &format!("({id}, 'x')")).await;
    }
    let table = session.table("db.t").await.unwrap();
    let ids = snapshots(&table);
    let gone = vec![ids[0], ids[1]];
    let expire = Transaction::new(table.core())
        .expire_snapshots(move |_| Ok(Expiry { snapshots: gone.clone(), ..Expiry::default() }));
    expire.commit(&**session.catalog()).await.unwrap();
    let table = session.table("db.t").await.unwrap();
    // The last that expired is the parent of one that is there.
    assert_eq!(sorted(table.appended_between(ids[1], ids[3]).await.unwrap()).await, ["3|x", "4|x"]);
    let early = AsOf::Timestamp(1);
    for start in [Start::After(AsOf::Snapshot(ids[0])), Start::After(early), Start::Beginning] {
        let appends = table.appended_between(start.clone(), ids[3]).await.unwrap_err();
        let changes = table.changes_between(start, ids[3]).unwrap_err();
        for error in [appends, changes] {
            assert_eq!(error.kind(), ErrorKind::Expired, "{error}");
            assert!(error.to_string().contains("read the table as it is"), "{error}");
        }
    }
    let error = session.sql(&format!("SELECT * FROM appends('db.t', {}, 'main')", ids[0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired, "{error}");
}

#[tokio::test]
async fn a_column_that_came_later_is_among_the_appended_rows() {
    let session = session();
    append(&session, "(1, 'a')").await;
    let table = append(&session, "(2, 'b')").await;
    let ids = snapshots(&table);
    let table = table
        .update_schema()
        .rename_column("v", "w")
        .add_column("x", icefield_core::evolve::types::long())
        .await
        .unwrap();
    let frame = table.appended_between(ids[0], ids[1]).await.unwrap();
    let names: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "w", "x"]);
    assert_eq!(sorted(frame).await, ["2|b|NULL"]);
}

#[tokio::test]
async fn a_feed_says_what_was_inserted_and_deleted_and_leaves_out_what_was_carried_over() {
    let session = session();
    append(&session, "(1, 'a')").await;
    append(&session, "(2, 'b'), (3, 'c'), (3, 'c'), (4, NULL)").await;
    let table = overwrite(&session, "(1, 'a'), (2, 'B'), (3, 'c'), (4, NULL), (5, 'e'), (5, 'e')").await;
    let ids = snapshots(&table);
    let (second, third) = (ids[1], ids[2]);
    let feed = || table.changes_between(ids[0], third).unwrap();
    let appended = ["2|b", "3|c", "3|c", "4|NULL"].map(|row| format!("{row}|INSERT|0|{second}"));
    let replaced = ["2|B|INSERT", "2|b|DELETE", "3|c|DELETE", "5|e|INSERT", "5|e|INSERT"];
    let mut expected: Vec<String> = replaced.iter().map(|row| format!("{row}|1|{third}")).collect();
    expected.extend(appended);
    expected.sort();
    assert_eq!(sorted(feed().await.unwrap()).await, expected);
    // All five rows that were there, and the six that came.
    assert_eq!(feed().keep_carried_over().await.unwrap().count().await.unwrap(), 4 + 5 + 6);

    // What was inserted, deleted and inserted again counts as inserted by the last that did.
    let net = ["2|B", "3|c", "4|NULL", "5|e", "5|e"].map(|row| format!("{row}|INSERT|1|{third}"));
    assert_eq!(sorted(feed().net().await.unwrap()).await, net);

    let query = format!("SELECT * FROM changes('db.t', {}, 'main')", ids[0]);
    let mut by_sql = rows(&session, &query).await;
    by_sql.sort();
    assert_eq!(by_sql, expected);
    let query = format!(
        "SELECT c.id, a.v, _change_type FROM changes('db.t', {second}, {third}) c JOIN appends('db.t', {}, {second}) a ON a.id = c.id
         WHERE _change_ordinal = 0 AND _commit_snapshot_id = {third} AND c.v = 'B'",
        ids[0]
    );
    assert_eq!(rows(&session, &query).await, ["2|b|INSERT"]);
    let refused =
        session.sql(&format!("SELECT * FROM changes('db.t', {third}, {second})")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");

    let updates =
        sorted(table.changes_between(second, third).unwrap().updates_by(["id"]).await.unwrap()).await;
    let expected = ["2|B|UPDATE_AFTER", "2|b|UPDATE_BEFORE", "3|c|DELETE", "5|e|INSERT", "5|e|INSERT"];
    assert_eq!(updates, expected.map(|row| format!("{row}|0|{third}")));
    for columns in [vec!["nobody"], vec![]] {
        assert_eq!(feed().updates_by(columns).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(table.changes_between(third, third).unwrap().await.unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
async fn appends_and_changes_are_those_of_spark() {
    let folder = tempfile::tempdir().unwrap();
    let made = "create namespace l.db;
        create table l.db.t (id bigint, v string, x double) using iceberg
          tblproperties('format-version'='2', 'write.delete.mode'='copy-on-write', 'write.update.mode'='copy-on-write',
                        'write.merge.mode'='copy-on-write');
        insert into l.db.t values (0, 'first', 0.5);
        insert into l.db.t select id, concat('v', id), id / 4 from range(1, 40);
        delete from l.db.t where id % 7 = 3;
        update l.db.t set v = 'changed' where id % 5 = 1;
        insert into l.db.t values (3, 'v3', 0.75), (100, null, null);
        call l.system.rewrite_data_files(table => 'db.t', options => map('rewrite-all', 'true'));
        merge into l.db.t t using (select id, 'merged' v from range(35, 45)) s on t.id = s.id
          when matched then update set v = s.v when not matched then insert (id, v) values (s.id, s.v);
        update l.db.t set v = 'v6' where id = 6";
    if spark_sql(folder.path(), made).is_none() {
        return;
    }
    let session = session_for_all_places();
    let metadata = newest_metadata(&folder.path().join("db/t")).unwrap();
    let namespace = icefield_core::catalog::NamespaceIdent::new("db".to_string());
    session.catalog().create_namespace(&namespace, Default::default()).await.unwrap();
    let ident = parse_ident("db.t").unwrap();
    session.catalog().register_table(&ident, metadata.to_str().unwrap()).await.unwrap();
    let table = session.table("db.t").await.unwrap();
    let ids = snapshots(&table);
    assert_eq!(ids.len(), 8);
    let text = "concat_ws('~', coalesce(cast(id as string), 'NULL'), coalesce(v, 'NULL'), coalesce(cast(x as string), 'NULL')";
    let (mut statements, mut ours) = (Vec::new(), Vec::new());
    for (number, (from, to)) in [(0, 1), (0, 2), (1, 4), (4, 7), (0, 7)].into_iter().enumerate() {
        let (from, to) = (ids[from], ids[to]);
        let view = |view: &str, more: &str| {
            format!(
                "call l.system.create_changelog_view(table => 'db.t', changelog_view => '{view}{number}',
                 options => map('start-snapshot-id', '{from}', 'end-snapshot-id', '{to}'){more});
                 select {text}, _change_type, _change_ordinal, _commit_snapshot_id) from {view}{number}"
            )
        };
        statements.push(view("plain", ""));
        statements.push(view("updates", ", identifier_columns => array('id')"));
        statements.push(view("net", ", net_changes => true"));
        for feed in [
            table.changes_between(from, to).unwrap(),
            table.changes_between(from, to).unwrap().updates_by(["id"]),
            table.changes_between(from, to).unwrap().net(),
        ] {
            ours.push(sorted(feed.await.unwrap()).await);
        }
    }
    let answers = spark_sql(folder.path(), &statements.join(";")).unwrap();
    // Each call of the procedure answers with the view's name.
    let theirs: Vec<Vec<String>> = answers
        .chunks(2)
        .map(|pair| {
            let mut rows: Vec<String> = pair[1].iter().map(|row| row.trim().replace('~', "|")).collect();
            rows.sort();
            rows
        })
        .collect();
    assert_eq!(ours.len(), theirs.len());
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "feed {number}");
        assert!(!ours.is_empty());
    }
}

#[tokio::test]
async fn rows_with_maps_are_compared_by_their_entries_however_deep_the_maps_are() {
    let session = session();
    let of = |rows: &[(i64, &str)]| {
        let row = |(id, v): &(i64, &str)| {
            format!(
                "SELECT {id} AS id, MAP {{'k': '{v}'}} AS m, [named_struct('n', MAP {{{id}: '{v}'}})] AS deep"
            )
        };
        let query = rows.iter().map(row).collect::<Vec<_>>().join(" UNION ALL ");
        let session = session.clone();
        async move { session.sql(&query).await.unwrap() }
    };
    let (before, after) = ([(1, "a"), (2, "b"), (3, "")], [(1, "a"), (2, "c"), (3, ""), (4, "d")]);
    of(&before).await.append_to(&session, "db.t").create_with(|t| t).await.unwrap();
    of(&after).await.overwrite(&session, "db.t").await.unwrap();
    let table = session.table("db.t").await.unwrap();
    let ids = snapshots(&table);
    let feed = || table.changes_between(ids[0], ids[1]).unwrap();
    let changes =
        ["2|{k: b}|[{n: {2: b}}]|DELETE", "2|{k: c}|[{n: {2: c}}]|INSERT", "4|{k: d}|[{n: {4: d}}]|INSERT"];
    let changes = changes.map(|row| format!("{row}|0|{}", ids[1]));
    assert_eq!(sorted(feed().await.unwrap()).await, changes);
    assert_eq!(sorted(feed().net().await.unwrap()).await, changes);
    assert_eq!(feed().keep_carried_over().updates_by(["id"]).await.unwrap().count().await.unwrap(), 7);
}
