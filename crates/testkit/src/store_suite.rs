//! What every object store must do for a table to be safe on it, as one story that tests run on each.

use futures::TryStreamExt;
use icefield_core::ErrorKind;
use icefield_core::storage::{FileEntry, Storage, join};

/// Runs the suite under `root`, an empty folder of a store.
///
/// # Panics
/// When the store does something else than the library relies on.
pub async fn store_suite(storage: &Storage, root: &str) {
    written_once(storage, root).await;
    one_of_many_creates(storage, root).await;
    listed(storage, root).await;
    streamed(storage, root).await;
}

/// A file is whole or not there, is replaced whole, and deleted without complaint when it is not there.
async fn written_once(storage: &Storage, root: &str) {
    let location = join(root, "once/a=1%2F2/x y.bin");
    assert_eq!(storage.read(&location).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.size(&location).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!storage.exists(&location).await.unwrap());
    storage.delete(&location).await.unwrap();
    storage.write(&location, "first").await.unwrap();
    storage.write(&location, "second").await.unwrap();
    assert_eq!(storage.read(&location).await.unwrap(), "second");
    assert_eq!(storage.read_range(&location, 1..4).await.unwrap(), "eco");
    assert_eq!(storage.size(&location).await.unwrap(), 6);
    storage.delete(&location).await.unwrap();
    storage.delete(&location).await.unwrap();
    assert!(!storage.exists(&location).await.unwrap());
}

/// Of many that create one file at the same time, one does, and its bytes stay.
async fn one_of_many_creates(storage: &Storage, root: &str) {
    for round in 0..5 {
        let location = join(root, &format!("race/{round}"));
        let creates = (0..8).map(|writer| {
            let (storage, location) = (storage.clone(), location.clone());
            async move { (writer, storage.write_if_absent(&location, format!("by {writer}")).await.unwrap()) }
        });
        let outcomes = futures::future::join_all(creates).await;
        let winners: Vec<i32> =
            outcomes.into_iter().filter_map(|(writer, won)| won.then_some(writer)).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(storage.read(&location).await.unwrap(), format!("by {}", winners[0]));
        assert!(!storage.write_if_absent(&location, "late").await.unwrap());
    }
}

/// More files than one page of a listing holds, at every depth, each once, with its size; a neighbour's are not among them.
async fn listed(storage: &Storage, root: &str) {
    let folder = join(root, "listed");
    let wanted = 1100;
    let writes = (0..wanted).map(|n| {
        let location = join(&folder, &format!("{}/f{n}", n % 7));
        async move { storage.write(&location, vec![b'x'; n % 5]).await.map(|()| (location, (n % 5) as u64)) }
    });
    let mut expected: Vec<(String, u64)> =
        futures::StreamExt::buffer_unordered(futures::stream::iter(writes), 32).try_collect().await.unwrap();
    storage.write(&join(root, "listed-too/x"), "x").await.unwrap();
    let found: Vec<FileEntry> = storage.list(&folder).try_collect().await.unwrap();
    let mut found: Vec<(String, u64)> = found.into_iter().map(|file| (file.location, file.size)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let nothing: Vec<FileEntry> = storage.list(&join(root, "no such folder")).try_collect().await.unwrap();
    assert_eq!(nothing, []);
    let locations = expected.into_iter().map(|(location, _)| location).collect();
    let outcomes: Vec<_> = futures::StreamExt::collect(storage.delete_all(locations, 32)).await;
    assert_eq!(outcomes.len(), wanted);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    let left: Vec<FileEntry> = storage.list(&folder).try_collect().await.unwrap();
    assert_eq!(left, []);
}

/// A file of several parts is not there before it is finished, and whole after; one that is given up never is.
async fn streamed(storage: &Storage, root: &str) {
    use tokio::io::AsyncWriteExt;
    let chunk = |n: usize| vec![b'a' + (n % 26) as u8; 1 << 20];
    let location = join(root, "streamed/large");
    let mut writer = storage.writer(&location).unwrap();
    for n in 0..21 {
        writer.write_all(&chunk(n)).await.unwrap();
    }
    assert!(!storage.exists(&location).await.unwrap());
    writer.shutdown().await.unwrap();
    let whole = storage.read(&location).await.unwrap();
    assert_eq!(whole.len(), 21 << 20);
    assert!((0..21).all(|n| whole[n << 20..(n + 1) << 20] == chunk(n)));
    let chunks: Vec<_> = storage.read_stream(&location).await.unwrap().try_collect().await.unwrap();
    assert_eq!(chunks.concat(), whole);

    let dropped = join(root, "streamed/dropped");
    let mut writer = storage.writer(&dropped).unwrap();
    for n in 0..12 {
        writer.write_all(&chunk(n)).await.unwrap();
    }
    drop(writer);
    assert!(!storage.exists(&dropped).await.unwrap());
}
