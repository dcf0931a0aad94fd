//! What a store does that has a file.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;

/// A store in a file.
pub(in crate::store) async fn open(path: &Path) -> Store {
    try_open(path).await.unwrap()
}

async fn try_open(path: &Path) -> Result<Store, OpenError> {
    Store::open(&StoreConfig::File(path.to_owned())).await
}

fn append(path: &Path, text: &str) {
    let mut all = fs::read(path).unwrap();
    all.extend_from_slice(text.as_bytes());
    fs::write(path, all).unwrap();
}

#[tokio::test]
async fn a_file_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let store = open(&path).await;
    let hour = Duration::from_secs(3600);
    let put = commit()
        .put(m("a"), "{\"a\":\"\u{fc}\\n\"}")
        .due(Timestamp(7));
    let put = put.put(m("gone"), "1").keep(Duration::ZERO);
    let put = put.put(m("kept"), "1").keep(hour).put(m("deleted"), "1");
    let version = put.event("match:a", "match.running").done(&store).await;
    commit()
        .delete(m("deleted"))
        .event("a", "b")
        .done(&store)
        .await;
    let (id, events) = (
        store.id().await.unwrap(),
        store.events(0, 10).await.unwrap(),
    );
    drop(store);

    // The first time from the commits, the second time from what was written anew.
    for _ in 0..2 {
        let store = open(&path).await;
        assert_eq!(store.id().await.unwrap(), id);
        assert_eq!(store.events(0, 10).await.unwrap(), events);
        assert_eq!(*store.newest_event().borrow(), events.newest);
        let document = load(&store, m("a")).await.unwrap();
        assert_eq!(&*document.text, "{\"a\":\"\u{fc}\\n\"}");
        assert_eq!(document.version, version);
        assert_eq!(store.due(10).await.unwrap(), [m("a")]);
        assert_eq!(store.matches("", 10).await.unwrap().len(), 2);
        drop(store);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("deleted") || text.contains("commit"),
            "{text}"
        );
    }
    let store = open(&path).await;
    commit().event("a", "c").done(&store).await;
    assert_eq!(store.events(0, 10).await.unwrap().newest, events.newest + 1);
}

#[tokio::test]
async fn a_file_without_events_keeps_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let empty = open(&path).await.events(0, 10).await.unwrap();
    assert_eq!(open(&path).await.events(0, 10).await.unwrap(), empty);
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    commit().put(m("a"), "1").done(&open(&path).await).await;
    append(
        &path,
        "{\"commit\":{\"id\":1,\"at\":1,\"put\":[{\"key\":\"match:b\"",
    );
    let store = open(&path).await;
    assert_eq!(store.matches("", 10).await.unwrap().len(), 1);
    commit().put(m("c"), "1").done(&store).await;
    drop(store);
    assert_eq!(open(&path).await.matches("", 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_broken_is_left_as_it_is_and_the_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    commit().put(m("a"), "1").done(&open(&path).await).await;
    let good = fs::read_to_string(&path).unwrap();
    let first = good.lines().next().unwrap();
    let unknown = "{\"document\":{\"version\":1,\"record\":{\"key\":\"hunter2\",\"text\":\"1\",\"due\":null,\"until\":null}}}";
    for (text, line) in [
        (format!("{good}{{\"hunter2\n{{}}\n"), 3),
        (format!("{good}{good}"), 3),
        (format!("{first}\n{unknown}\n"), 2),
        (first.replace("\"form\":1", "\"form\":2") + "\n", 1),
        (good.replace(first, "hunter2"), 1),
        ("hunter2 without an end".to_owned(), 1),
    ] {
        fs::write(&path, &text).unwrap();
        let error = try_open(&path).await.unwrap_err().to_string();
        let place = format!("{}:{line}: ", path.display());
        assert!(error.starts_with(&place), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, "").unwrap();
    assert!(open(&path).await.matches("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_bridges_do_not_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let store = open(&path).await;
    let error = try_open(&path).await.unwrap_err().to_string();
    assert!(error.contains("used by another bridge"), "{error}");
    drop(store);
    open(&path).await;
    let nowhere = folder.path().join("no/such/journal");
    let error = try_open(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("no/such/journal"), "{error}");
}

#[tokio::test]
async fn every_memory_is_a_history_of_its_own() {
    let id = |store: Store| async move { store.id().await.unwrap() };
    assert_ne!(id(Store::memory()).await, id(Store::memory()).await);
}
