//! The ladder on the caller's side: which rung takes what, and which are left alone.

use serde_json::json;
use spillway_tests::traffic;

use crate::caller::{FULL, loaded};
use crate::sidecar::{HOST, Sidecar, client, hop, load, outbound, policy, response_with, to};

#[test]
fn a_rung_with_a_maximum_takes_no_more_from_all_threads_together() {
    let document = policy("Client", |p| {
        p["overflow"] = json!([{"cluster": "burst", "maxRate": "20/s"}]);
    });
    let mut one = loaded(&document, 1_000_000);
    let mut two = Sidecar::of(&one.proxy, &document);
    let mut spilled = 0;
    for _ in 0..100 {
        for caller in [&mut one, &mut two] {
            spilled += to(&caller.send_many(4, FULL), "burst");
        }
        one.pass(100);
        two.vm.tick(two.plugin).unwrap();
    }
    assert!(
        (195..=225).contains(&spilled),
        "10 s at 20/s, and a burst at first: {spilled}"
    );
}

#[test]
fn what_has_room_nowhere_comes_home_and_says_so() {
    let mut caller = loaded(&client(), 1_000_000);
    let sent = caller.send_many(20, &[("primary", 1_000_000), ("burst", 1_000_000)]);
    let returned = sent
        .iter()
        .filter(|p| p[0] == "primary" && p[5] == "h")
        .count();
    assert!(returned >= 17, "{sent:?}");
}

#[test]
fn the_next_rung_takes_what_the_first_cannot() {
    let document = policy("Client", |p| {
        p["overflow"] = json!([{"cluster": "burst"}, {"cluster": "third"}])
    });
    let mut caller = loaded(&document, 4_000);
    caller.send_many(10, &[("primary", 4_000), ("burst", 2_000)]);
    let sent = caller.send_many(1_000, &[("primary", 4_000), ("burst", 2_000)]);
    let (home, burst, third) = (to(&sent, "primary"), to(&sent, "burst"), to(&sent, "third"));
    assert!((250..=260).contains(&home), "{home}");
    assert!((370..=380).contains(&burst), "half of the rest: {burst}");
    assert_eq!(home + burst + third, 1_000);
}

#[test]
fn a_home_that_is_a_rung_is_passed_over() {
    let document = policy("Client", |p| {
        p.as_object_mut().unwrap().remove("home");
        p["overflow"] = json!([{"cluster": "burst"}, {"cluster": "third"}]);
    });
    let mut caller = Sidecar::start("burst", &document);
    caller.answer(&outbound(), &load("burst", 1_000_000, 1));
    let sent = caller.send_many(50, &[("burst", 1_000_000)]);
    assert!(to(&sent, "third") >= 48, "{sent:?}");
    assert!(
        sent.iter().all(|p| p[2] == "burst"),
        "home is the caller's own"
    );
}

#[test]
fn a_rung_that_fails_without_a_load_header_is_left_alone_for_a_while() {
    // What Envoy makes of a 503 for gRPC.
    let grpc = response_with(&[
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "no healthy upstream"),
    ]);
    for mut failure in [traffic::response(503), grpc] {
        // By the rung's own route: it did not stray.
        let cluster = format!("outbound|80|spillway-burst|{HOST}");
        failure.properties = failure.properties.with(&["xds", "cluster_name"], cluster);
        let mut caller = loaded(&client(), 1_000_000);
        let stream = loop {
            let (stream, outcome) = caller.vm.open(caller.plugin, &outbound()).unwrap();
            if hop(&outcome.forwarded().unwrap())[0] == "burst" {
                break stream;
            }
        };
        caller.vm.respond(stream, &failure).unwrap();
        assert_eq!(to(&caller.send_many(20, FULL), "burst"), 0);
        caller.pass(1_200);
        assert!(to(&caller.send_many(20, FULL), "burst") > 15);
        assert_eq!(
            caller.metric("spillway_rung_closed", &[("target", "burst")]),
            1
        );
    }
}

/// Its route does not say that bounces are repeated, or has no retries left for them.
#[test]
fn a_bounce_that_nobody_repeated_is_the_last_one_offered_for_a_while() {
    let grpc = [("grpc-status", "8"), ("content-type", "application/grpc")];
    for (status, more) in [("429", [].as_slice()), ("200", &grpc)] {
        let mut caller = Sidecar::start("primary", &client());
        let offers = |caller: &mut Sidecar| hop(&caller.forward(&outbound()))[5] == "b";
        assert!(offers(&mut caller));
        let bounce = [
            ("x-spillway-load", "primary;900;2"),
            ("x-spillway-bounce", "1"),
        ];
        let mut bounced = response_with(&[&bounce, more].concat());
        bounced.headers = bounced.headers.set(":status", status);
        let told = caller.answer(&outbound(), &bounced);
        assert_eq!(told.only(":status").unwrap(), status, "no lie about it");
        assert!(!offers(&mut caller));
        caller.pass(10_100);
        assert!(offers(&mut caller));
        let counted = caller.metric("spillway_bounces_not_repeated", &[]);
        assert_eq!(counted, 1);
    }
}

/// The route to the rung is missing, or was taken back, so the request went elsewhere.
#[test]
fn a_rung_without_a_route_is_left_alone_for_a_while() {
    let mut caller = loaded(&client(), 1_000_000);
    for _ in 0..3 {
        caller.answer(&outbound(), &traffic::response(200));
    }
    assert_eq!(to(&caller.send_many(20, FULL), "burst"), 0);
    assert_eq!(
        caller.metric("spillway_rung_closed", &[("target", "burst")]),
        0,
        "told at the next tick"
    );
    caller.pass(100);
    assert_eq!(
        caller.metric("spillway_rung_closed", &[("target", "burst")]),
        1
    );
}
