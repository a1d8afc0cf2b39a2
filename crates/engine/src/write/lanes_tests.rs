use std::time::Duration;

use arrow::array::{Int64Array, StringViewArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use super::*;
use crate::memory::SharedMemoryPool;

const ROWS: usize = 1000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]))
}

fn batch(key: i64) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![key; ROWS]))]).unwrap()
}

fn stream_of(batches: Vec<Result<RecordBatch>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema(), stream::iter(batches)))
}

fn keys(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Lanes with room for two batches each.
struct Test {
    pool: Arc<dyn MemoryPool>,
    reservation: MemoryReservation,
    encoded: Arc<Encoded>,
    heavy: u64,
}

impl Test {
    fn new() -> Self {
        let pool: Arc<dyn MemoryPool> = SharedMemoryPool::new(1 << 30);
        let reservation = MemoryConsumer::new("rows").with_can_spill(true).register(&pool);
        Self { pool, reservation, encoded: Arc::default(), heavy: 1000 }
    }

    fn lanes(
        &self,
        most: usize,
        how: Deal,
        input: Vec<SendableRecordBatchStream>,
    ) -> Vec<SendableRecordBatchStream> {
        let worth = Worth { bytes: 1000, heavy: self.heavy, rows: None, encoded: self.encoded.clone() };
        let lanes = Lanes {
            schema: &schema(),
            first: 1,
            most,
            of_heavy: most,
            room: 16 << 10,
            how,
            worth,
            reservation: &self.reservation,
        };
        lanes.deal(input)
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing hangs")
}

/// Tasks get as far as they can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

async fn rest(lane: &mut SendableRecordBatchStream) -> Vec<i64> {
    let mut all = Vec::new();
    while let Some(batch) = soon(lane.next()).await {
        all.extend(keys(&batch.unwrap()));
    }
    all
}

#[tokio::test]
async fn few_rows_of_many_streams_come_in_one_lane() {
    let test = Test::new();
    let input = (0..16).map(|n| stream_of(vec![Ok(batch(n))])).collect();
    let mut lanes = test.lanes(16, Deal::AsTheyCome, input);
    let mut first = rest(&mut lanes[0]).await;
    first.sort();
    assert_eq!(first.len(), 16 * ROWS);
    first.dedup();
    assert_eq!(first, (0..16).collect::<Vec<_>>());
    for lane in &mut lanes[1..] {
        assert!(rest(lane).await.is_empty());
    }
    assert_eq!(test.pool.reserved(), 0);
}

#[tokio::test]
async fn another_lane_comes_where_one_is_full_and_has_a_files_worth() {
    let test = Test::new();
    let input = || (0..2).map(|n| stream_of((0..50).map(|_| Ok(batch(n))).collect())).collect();
    // Nothing was encoded: there is one lane, however full.
    let mut lanes = test.lanes(4, Deal::AsTheyCome, input());
    settle().await;
    assert!(test.pool.reserved() > 8 << 10, "rows that wait are counted");
    assert_eq!(rest(&mut lanes[0]).await.len(), 100 * ROWS);
    // Ten thousand rows make a file's worth, but the lane is never full.
    test.encoded.add(10, 1);
    let mut lanes = test.lanes(4, Deal::AsTheyCome, vec![stream_of(vec![Ok(batch(0))])]);
    assert_eq!(rest(&mut lanes[0]).await.len(), ROWS);
    // Both: each stream has a lane of its own in the end, and no more lanes have rows.
    let mut lanes = test.lanes(2, Deal::AsTheyCome, input());
    let (first, second) = lanes.split_at_mut(1);
    settle().await;
    let (one, other) = tokio::join!(rest(&mut first[0]), rest(&mut second[0]));
    assert_eq!(one.len() + other.len(), 100 * ROWS);
    assert!(
        other.len() > 20 * ROWS && other.iter().all(|key| *key == 1),
        "{} {:?}",
        other.len(),
        other.first()
    );
    drop(lanes);
    assert_eq!(test.pool.reserved(), 0);
}

#[tokio::test]
async fn rows_of_one_key_come_in_one_lane() {
    let test = Test::new();
    let mixed = |seed: i64| {
        let keys = (0..ROWS as i64).map(|n| (n > 0).then_some((n * 7919 + seed) % 40));
        RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter(keys))])
    };
    let input = (0..3).map(|seed| stream_of((0..20).map(|n| Ok(mixed(seed * 20 + n)?)).collect())).collect();
    let mut lanes = test.lanes(4, Deal::ByKey(vec![0]), input);
    let all = lanes.iter_mut().map(|lane| async move {
        let mut rows = Vec::new();
        while let Some(batch) = soon(lane.next()).await {
            let batch = batch.unwrap();
            rows.extend(batch.column(0).as_primitive::<Int64Type>().iter());
        }
        rows
    });
    let mut of: Vec<Vec<Option<i64>>> = futures::future::join_all(all).await;
    assert_eq!(of.iter().map(Vec::len).sum::<usize>(), 60 * ROWS);
    assert!(of.iter().filter(|rows| !rows.is_empty()).count() > 2);
    for rows in &mut of {
        rows.sort();
        rows.dedup();
    }
    assert_eq!(of.iter().map(Vec::len).sum::<usize>(), 41, "each key is in one lane, NULL too: {of:?}");
}

#[tokio::test]
async fn a_key_of_more_than_a_file_has_another_lane_where_its_own_is_full() {
    let test = Test::new();
    let input = || vec![stream_of((0..60).map(|_| Ok(batch(7))).collect())];
    let taken = async |lanes: &mut [SendableRecordBatchStream]| {
        let all = lanes.iter_mut().map(|lane| async move { rest(lane).await.len() / ROWS });
        let mut of = futures::future::join_all(all).await;
        of.sort();
        of
    };
    // Nothing was encoded yet: nobody knows what makes a file.
    assert_eq!(taken(&mut test.lanes(3, Deal::ByKey(vec![0]), input())).await, [0, 0, 60]);
    // 20 batches are a file.
    test.encoded.add(20 * ROWS as u64, 1000);
    let mut lanes = test.lanes(3, Deal::ByKey(vec![0]), input());
    let mut own = None;
    for (at, lane) in lanes.iter_mut().enumerate() {
        // The key's own lane is one that has rows at once.
        if tokio::time::timeout(Duration::from_millis(50), lane.next()).await.is_ok() {
            own = Some(at);
        }
    }
    let own = own.expect("one has rows");
    for _ in 0..19 {
        assert!(soon(lanes[own].next()).await.is_some());
    }
    settle().await;
    // Full after a file's worth: what comes now goes to the next lane, where somebody takes it.
    let next = (own + 1) % 3;
    for _ in 0..15 {
        assert!(soon(lanes[next].next()).await.is_some());
    }
    drop(lanes);
    settle().await;
    assert_eq!(test.pool.reserved(), 0);
}

#[tokio::test]
async fn a_key_of_most_rows_has_other_lanes_early() {
    let test = Test { heavy: 100, ..Test::new() };
    // 2 batches are worth a lane to a heavy key, 20 to others.
    test.encoded.add(20 * ROWS as u64, 1000);
    let mut lanes =
        test.lanes(3, Deal::ByKey(vec![0]), vec![stream_of((0..60).map(|_| Ok(batch(7))).collect())]);
    for lane in &mut lanes {
        assert!(soon(lane.next()).await.is_some(), "all lanes have rows, while nobody takes others'");
    }
    drop(lanes);
    // Keys of a lane's share of the rows each: however full their lanes are, nobody would be idle.
    let turns = (0..36).map(|n| Ok(batch(n % 4))).collect();
    let mut lanes = test.lanes(2, Deal::ByKey(vec![0]), vec![stream_of(turns)]);
    settle().await;
    let (first, second) = lanes.split_at_mut(1);
    let (one, other) = tokio::join!(rest(&mut first[0]), rest(&mut second[0]));
    let of_both = one.iter().filter(|key| other.contains(key)).count();
    assert_eq!((one.len() + other.len(), of_both), (36 * ROWS, 0));
    drop(lanes);
    settle().await;
    assert_eq!(test.pool.reserved(), 0);
}

#[tokio::test]
async fn a_stream_that_fails_or_panics_ends_the_write_with_an_error() {
    let test = Test::new();
    for how in [Deal::AsTheyCome, Deal::ByKey(vec![0])] {
        let failing = Err(DataFusionError::Execution("the source is gone".into()));
        let mut lanes = test.lanes(1, how.clone(), vec![stream_of(vec![Ok(batch(1)), failing])]);
        assert_eq!(soon(lanes[0].next()).await.unwrap().unwrap().num_rows(), ROWS);
        let error = soon(lanes[0].next()).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("the source is gone"));
        let panicking = stream::iter(0..3).map(|n| {
            assert!(n < 1, "a source's own fault");
            Ok(batch(n))
        });
        let panicking = Box::pin(RecordBatchStreamAdapter::new(schema(), panicking));
        let mut lanes = test.lanes(1, how, vec![panicking]);
        assert!(soon(lanes[0].next()).await.unwrap().is_ok());
        let error = soon(lanes[0].next()).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("ended abnormally"), "{error}");
        assert!(soon(lanes[0].next()).await.is_none());
    }
}

#[test]
fn lanes_whose_readers_were_ended_are_no_whole_input() {
    let test = Test::new();
    for how in [Deal::AsTheyCome, Deal::ByKey(vec![0])] {
        let reading = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let endless = stream::iter([Ok(batch(1))]).chain(stream::pending());
        let endless = Box::pin(RecordBatchStreamAdapter::new(schema(), endless));
        let inputs: Vec<SendableRecordBatchStream> = vec![endless, stream_of(vec![Ok(batch(1))])];
        let mut lanes = {
            let _runtime = reading.enter();
            test.lanes(2, how, inputs)
        };
        reading.shutdown_timeout(Duration::from_secs(20));
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for lane in &mut lanes {
            waiting.block_on(async {
                let mut last = None;
                while let Some(next) = soon(lane.next()).await {
                    last = Some(next);
                }
                let error = last.expect("a lane of few rows is told, too").unwrap_err();
                assert!(error.to_string().contains("before its end"), "{error}");
            });
        }
        drop(lanes);
        assert_eq!(test.pool.reserved(), 0);
    }
}

#[tokio::test]
async fn no_lane_ends_where_a_stream_fails() {
    let test = Test::new();
    for how in [Deal::AsTheyCome, Deal::ByKey(vec![0])] {
        let failing = Err(DataFusionError::Execution("the source is gone".into()));
        let input = vec![stream_of(vec![Ok(batch(1)), failing]), stream_of(vec![Ok(batch(2))])];
        let mut lanes = test.lanes(3, how, input);
        let mut told = 0;
        for lane in &mut lanes {
            let last = async {
                loop {
                    match lane.next().await {
                        Some(Ok(_)) => {}
                        last => return last,
                    }
                }
            };
            match tokio::time::timeout(Duration::from_millis(100), last).await {
                Ok(Some(Err(error))) => {
                    told += 1;
                    assert!(error.to_string().contains("the source is gone"), "{error}");
                }
                Ok(_) => panic!("a lane ended"),
                Err(_) => {}
            }
        }
        assert_eq!(told, 1);
    }
}

#[tokio::test]
async fn a_lane_that_lost_another_does_not_end() {
    let test = Test::new();
    for how in [Deal::AsTheyCome, Deal::ByKey(vec![0])] {
        // Rows for the lane that is dropped.
        let keys =
            RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(0..1000))]).unwrap();
        let input = || (0..2).map(|_| stream_of((0..50).map(|_| Ok(keys.clone())).collect())).collect();
        let mut lanes = test.lanes(2, how, input());
        drop(lanes.remove(0));
        let rest = async { while lanes[0].next().await.is_some_and(|batch| batch.is_ok()) {} };
        // Its writer is stopped by the one that failed: nobody may take what came for all there is.
        assert!(tokio::time::timeout(Duration::from_millis(100), rest).await.is_err());
        drop(lanes);
        settle().await;
        assert_eq!(test.pool.reserved(), 0);
    }
}

#[tokio::test]
async fn dropped_ends_stop_those_who_wait_for_room() {
    let test = Test::new();
    let dropped = Arc::new(());
    let held = dropped.clone();
    let endless = stream::repeat_with(move || {
        let _ = &held;
        Ok(batch(1))
    });
    let endless = Box::pin(RecordBatchStreamAdapter::new(schema(), endless));
    let lanes = test.lanes(2, Deal::ByKey(vec![0]), vec![endless]);
    settle().await;
    assert!(test.pool.reserved() > 0);
    drop(lanes);
    soon(async {
        while Arc::strong_count(&dropped) > 1 {
            settle().await;
        }
    })
    .await;
    assert_eq!(test.pool.reserved(), 0);
}

#[test]
fn slices_and_views_count_what_they_show() {
    let long = Int64Array::from_iter_values(0..100_000);
    let of = |array: ArrayRef| bytes_of(&RecordBatch::try_from_iter([("a", array)]).unwrap());
    assert_eq!(of(Arc::new(long.slice(7, 10))), 80);
    let texts =
        StringViewArray::from_iter_values((0..1000).map(|n| format!("a text that is long enough: {n:04}")));
    assert_eq!(of(Arc::new(texts.slice(1, 10))), 10 * (16 + 32));
}
