//! Tokens are replaced while they are used. It is part of the story of [`crate::install`].

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ListParams};
use spillway_clusters::{Identity, User};

use crate::clusters::{World, until};

async fn counts(world: &World, token: &str) -> bool {
    let client = world
        .cluster("burst")
        .client(Identity::Token(token.to_owned()));
    let services: Api<Service> = Api::namespaced(client.unwrap(), "default");
    services.list(&ListParams::default()).await.is_ok()
}

/// At every moment the token that the hub has counts, and at the end the old one does not.
pub(crate) async fn of_a_cluster(world: &World) -> String {
    let old = world.token_of_burst().await;
    let mut story = world.say("rotate burst --dry-run").await;
    assert_eq!(world.token_of_burst().await, old);
    let mut looks = 0;
    let watched = async {
        loop {
            // It may change between the two questions, but not so often.
            let now = world.token_of_burst().await;
            assert!(
                counts(world, &now).await || world.token_of_burst().await != now,
                "it counts no more"
            );
            looks += 1;
        }
    };
    let began = Instant::now();
    tokio::select! {
        said = world.say("rotate burst") => story += &said,
        () = watched => {}
    }
    assert!(looks > 2, "{looks}");
    // It has waited until the new one was used, and not for two pauses of 12 s.
    assert!(began.elapsed() < Duration::from_secs(20));
    let new = world.token_of_burst().await;
    assert_ne!(new, old);
    assert!(counts(world, &new).await);
    until(async || !counts(world, &old).await).await;
    story += &world.say("rotate nobody").await;
    story += &world.say("rotate hub").await;
    story
}

/// The controller accepts the new token everywhere before it sends it; who is interrupted meanwhile
/// goes on.
pub(crate) async fn of_requests(world: &World) -> String {
    let tokens = [
        "get",
        "wasmplugins",
        "--namespace=default",
        "--output=jsonpath={.items[*].spec.pluginConfig.tokens}",
    ];
    let burst = world.cluster("burst");
    let tokens = async || burst.kubectl(User::admin(), &tokens).await.unwrap();
    let one = tokens().await;
    let mut story = world.say("rotate --dry-run").await;
    assert_eq!(tokens().await, one);
    story += &world.say("rotate --timeout 5").await;
    until(async || tokens().await.contains(',')).await;
    let two = tokens().await;
    let sent = |tokens: &str| tokens.split('"').nth(1).unwrap().to_owned();
    assert_eq!(sent(&two), sent(&one));
    // The controller would go on in half a minute; the last steps are done by hand.
    let next = two.split('"').nth(3).unwrap();
    let patch = format!(
        "--patch={{\"stringData\": {{\"tokens\": \"{next}\"}}, \"data\": {{\"next\": null}}}}"
    );
    let patch = [
        "patch",
        "secret",
        "spillway-tokens",
        "--namespace=spillway-system",
        "--type=merge",
        &patch,
    ];
    let by_hand = async {
        tokio::time::sleep(crate::clusters::LOOK).await;
        world
            .cluster("hub")
            .kubectl(User::admin(), &patch)
            .await
            .unwrap();
    };
    let (said, ()) = tokio::join!(world.say("rotate"), by_hand);
    story += &said;
    story
}

/// Both, as a story.
pub(crate) async fn story(world: &World) {
    let of_a_cluster = of_a_cluster(world).await;
    assert_snapshot!("rotate_a_cluster", of_a_cluster);
    let of_requests = of_requests(world).await;
    assert_snapshot!("rotate_requests", of_requests);
}
