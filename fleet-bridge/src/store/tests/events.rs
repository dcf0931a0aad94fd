//! Events, whatever is behind the store.

use super::*;

every_store![
    events_have_numbers_that_grow_by_one,
    the_newest_events_are_kept,
    who_waits_for_events_is_woken,
];

async fn events_have_numbers_that_grow_by_one(store: Arc<Store>) {
    let empty = store.events(0, 10).await.unwrap();
    assert!(empty.events.is_empty());
    assert_eq!(empty.oldest, 0);
    let first = empty.newest + 1;
    assert!(!empty.has_gap(0) && !empty.has_gap(empty.newest));
    assert!(empty.has_gap(empty.newest - 1));

    let before = store.now();
    let two = commit().event("match:a", "1").event("instance:7", "2");
    two.done(&store).await;
    commit().put(m("a"), "{}").done(&store).await;
    commit().event("match:a", "3").done(&store).await;
    let page = store.events(0, 10).await.unwrap();
    let seen = |it: &Event| {
        let [subject, kind, data] = [&it.subject, &it.kind, &it.data].map(ToString::to_string);
        (it.sequence, subject, kind, data)
    };
    let seen: Vec<_> = page.events.iter().map(seen).collect();
    let expected = [
        (first, "match:a", "1", "{}"),
        (first + 1, "instance:7", "2", "{}"),
        (first + 2, "match:a", "3", "{}"),
    ]
    .map(|(sequence, subject, kind, data)| {
        (
            sequence,
            subject.to_owned(),
            kind.to_owned(),
            data.to_owned(),
        )
    });
    assert_eq!(seen, expected);
    assert!(page.events.iter().all(|event| event.at >= before));
    assert_eq!((page.oldest, page.newest), (first, first + 2));

    for (after, limit, expected) in [
        (first - 1, 10, &page.events[..]),
        (first, 10, &page.events[1..]),
        (first, 1, &page.events[1..2]),
        (first + 2, 10, &[]),
        (first + 3, 10, &[]),
        (u64::MAX, 10, &[]),
        (0, 0, &[]),
    ] {
        let page = store.events(after, limit).await.unwrap();
        assert_eq!(page.events, expected, "{limit} after {after}");
        assert_eq!((page.oldest, page.newest), (first, first + 2));
        assert_eq!(page.has_gap(after), after > first + 2, "{after}");
    }
}

async fn the_newest_events_are_kept(store: Arc<Store>) {
    const BATCH: usize = 500;
    for _ in 0..=EVENTS_MAX / BATCH {
        let many = (0..BATCH).fold(commit(), |commit, _| commit.event("a", "b"));
        many.done(&store).await;
    }
    let page = store.events(0, usize::MAX).await.unwrap();
    assert_eq!(page.events.len(), PAGE_MAX);
    assert_eq!(page.newest - page.oldest + 1, EVENTS_MAX as u64);
    assert_eq!(page.events[0].sequence, page.oldest);
    assert!(page.has_gap(page.oldest - 2));
    let last = store.events(page.newest - 1, 10).await.unwrap();
    assert_eq!(last.events.len(), 1);
}

async fn who_waits_for_events_is_woken(store: Arc<Store>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Arc::clone(&store);
    let run = tokio::spawn(async move {
        running.run(async { drop(stopped.await) }).await;
    });
    let mut newest = store.newest_event();
    let before = store.events(0, 1).await.unwrap().newest;
    let time = Duration::from_secs(10);
    tokio::time::timeout(time, newest.wait_for(|newest| *newest == before))
        .await
        .unwrap()
        .unwrap();
    commit().event("a", "1").event("a", "2").done(&store).await;
    tokio::time::timeout(time, newest.wait_for(|newest| *newest == before + 2))
        .await
        .unwrap()
        .unwrap();
    let page = store.events(before, 10).await.unwrap();
    let kinds: Vec<_> = page.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["1", "2"]);
    drop(stop);
    tokio::time::timeout(time, run).await.unwrap().unwrap();
}
