//! Who hears whom: distance, pauses, and the nearest few.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_away_is_not_heard() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    let carol = world.caller("lobby", "carol").await;
    alice.is_heard_by(&[&bob, &carol]).await;
    bob.move_to([0.0, 0.0, 1.5]).await;
    alice.is_heard_by(&[&carol]).await;
    bob.talk_to(&world).await;
    bob.move_to([0.0, 0.5, 0.0]).await;
    // Each hears the first packet after that, and none from before.
    alice.is_heard_by(&[&bob, &carol]).await;
    bob.is_heard_by(&[&alice, &carol]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_media_is_not_heard_by_who_paused_it() {
    let world = World::start().await;
    let mut alice = world.caller("lobby", "alice").await;
    let mut bob = world.caller("lobby", "bob").await;
    let carol = world.caller("lobby", "carol").await;
    bob.call("PauseMedia", alice.media).await;
    alice.is_heard_by(&[&carol]).await;
    bob.is_heard_by(&[&alice, &carol]).await;
    bob.call("ResumeMedia", alice.media).await;
    alice.is_heard_by(&[&bob, &carol]).await;
    let own = alice.media;
    alice.call("StopMedia", own).await;
    alice.talk_to(&world).await;
    alice.call("StartMedia", own).await;
    alice.is_heard_by(&[&bob, &carol]).await;
    assert_eq!(world.drops("media_stopped").await, 1.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_talkers_the_nearest_are_heard() {
    let world = World::start_with("[limit.peer]\nconcurrent_streams = 2\n").await;
    let hearer = world.caller("lobby", "hearer").await;
    let mut talkers = Vec::new();
    for (at, user) in [0.1, 0.2, 0.3].into_iter().zip(["near", "middle", "far"]) {
        let mut talker = world.caller("lobby", user).await;
        talker.move_to([at, 0.0, 0.0]).await;
        talkers.push(talker);
    }
    let [near, middle, far] = &mut talkers[..] else {
        panic!("three");
    };
    // While there is a place, anybody is heard.
    far.is_heard_by(&[&hearer]).await;
    middle.is_heard_by(&[&hearer]).await;
    // The nearest takes the place of the farthest.
    near.is_heard_by(&[&hearer]).await;
    for _ in 0..5 {
        far.talk_to(&world).await;
        middle.is_heard_by(&[&hearer]).await;
        near.is_heard_by(&[&hearer]).await;
    }
    assert_eq!(world.drops("stream_limit").await, 5.0);
    world.stop().await;
}
