//! The limit of requests in flight: each one that was let through counts until its stream ends, in whichever
//! way and under whichever configuration, and never longer.

use serde_json::{Value, json};
use spillway_tests::{HostFunction, StreamId, traffic};

use crate::sidecar::{
    HOME, SPILLED, Sidecar, attempt, document, inbound, policy, server, stranger,
};

/// What the endpoint serves at a time.
const LIMIT: usize = 3;

fn limited() -> String {
    capacity(json!({"concurrency": LIMIT}))
}

fn capacity(amount: Value) -> String {
    policy("Server", |p| {
        p["capacity"] = json!({"primary": {"total": amount}, "burst": {"total": amount}});
    })
}

/// A request that is let through, and stays.
fn open(sidecar: &mut Sidecar, hop: &str) -> StreamId {
    let (stream, outcome) = sidecar.vm.open(sidecar.plugin, &inbound(hop)).unwrap();
    outcome.forwarded().unwrap();
    stream
}

/// How many more requests with this header are let through at once; they end without an answer.
fn room(sidecar: &mut Sidecar, hop: &str) -> usize {
    let mut streams = Vec::new();
    loop {
        let (stream, outcome) = sidecar.vm.open(sidecar.plugin, &inbound(hop)).unwrap();
        let refused = outcome.answered().is_ok();
        if refused || streams.len() > 10 * LIMIT {
            let room = streams.len();
            for stream in streams.into_iter().chain([stream]) {
                sidecar.vm.close(stream).unwrap();
            }
            return room;
        }
        streams.push(stream);
    }
}

#[test]
fn a_request_counts_until_its_stream_ends_however_it_ends() {
    let mut home = Sidecar::start("primary", &limited());
    type End = fn(&mut Sidecar, StreamId);
    let ends: [(&str, End); 4] = [
        ("reset before an answer", |_, _| ()),
        ("an answer", |home, stream| {
            home.vm.respond(stream, &traffic::response(200)).unwrap();
        }),
        ("Envoy's own answer", |home, stream| {
            home.vm.respond(stream, &traffic::response(503)).unwrap();
        }),
        (
            "an answer while the host refuses its headers",
            |home, stream| {
                let fault = spillway_tests::Fault::Status(spillway_tests::Status(10));
                let of = HostFunction::GetHeaderMapPairs;
                home.proxy.faults().after(of, 0, fault);
                home.vm.respond(stream, &traffic::response(200)).unwrap();
            },
        ),
    ];
    for (how, end) in ends {
        for _ in 0..5 {
            let streams: Vec<_> = (0..LIMIT).map(|_| open(&mut home, HOME)).collect();
            let answer = home.refused(&inbound(HOME)).unwrap();
            assert_eq!((answer.status, answer.grpc_status), (429, 8), "{how}");
            assert!(answer.headers.has("x-spillway-bounce"));
            for (ended, stream) in streams.into_iter().enumerate() {
                end(&mut home, stream);
                assert_eq!(room(&mut home, HOME), ended, "{how}: not before its end");
                home.vm.close(stream).unwrap();
            }
            assert_eq!(room(&mut home, HOME), LIMIT, "{how}");
        }
    }
}

/// Requests that cannot go elsewhere are served, and take room; refused ones take none.
#[test]
fn what_is_forced_counts_and_what_is_refused_does_not() {
    let mut home = Sidecar::start("primary", &limited());
    let forced = [stranger(), attempt(HOME, 3), attempt(HOME, 5)];
    let streams: Vec<_> = (0..2 * LIMIT)
        .map(|i| {
            let (stream, outcome) = home
                .vm
                .open(home.plugin, &forced[i % forced.len()])
                .unwrap();
            outcome.forwarded().unwrap();
            stream
        })
        .collect();
    for stream in streams {
        assert_eq!(home.admitted(HOME, 20), 0, "three too many, then full");
        home.vm.close(stream).unwrap();
        if room(&mut home, HOME) > 0 {
            break;
        }
    }
}

/// Overflow finds half of the room, one at least, and leaves the rest to own traffic.
#[test]
fn overflow_has_half_of_it() {
    let mut burst = Sidecar::start("burst", &capacity(json!({"concurrency": 4})));
    let streams: Vec<_> = (0..2).map(|_| open(&mut burst, SPILLED)).collect();
    assert_eq!(room(&mut burst, SPILLED), 0);
    assert_eq!(room(&mut burst, "burst;mesh-token-1;burst;worker;1;b"), 2);
    for stream in streams {
        burst.vm.close(stream).unwrap();
    }
    let mut burst = Sidecar::start("burst", &capacity(json!({"concurrency": 1})));
    assert_eq!(room(&mut burst, SPILLED), 1);
}

#[test]
fn threads_share_the_limit() {
    let mut one = Sidecar::start("primary", &limited());
    let mut two = Sidecar::of(&one.proxy, &limited());
    let streams: Vec<_> = (0..2).map(|_| open(&mut one, HOME)).collect();
    assert_eq!(room(&mut two, HOME), 1);
    let last = open(&mut two, HOME);
    assert_eq!((room(&mut one, HOME), room(&mut two, HOME)), (0, 0));
    for stream in streams {
        one.vm.close(stream).unwrap();
    }
    two.vm.close(last).unwrap();
    assert_eq!(room(&mut two, HOME), LIMIT);
}

/// What began under one configuration ends under another: a reload, another limit, none, or no policy.
#[test]
fn the_count_outlives_every_change_of_the_configuration() {
    let mut home = Sidecar::start("primary", &limited());
    let changes = [
        limited(),
        capacity(json!({"concurrency": LIMIT, "rate": "100000/s"})),
        server(),
        policy("Server", |p| p["capacity"] = json!({})),
        document("Server", |d| d["policies"] = json!([])),
        "{}".to_owned(),
    ];
    for between in changes {
        let kept: Vec<_> = (0..2).map(|_| open(&mut home, HOME)).collect();
        home.reconfigure(&between);
        home.vm.close(kept[0]).unwrap();
        // Where nothing limits them, requests are not counted.
        let uncounted = open(&mut home, HOME);
        home.pass(200);
        home.reconfigure(&limited());
        let counts =
            usize::from(between == limited() || between == "{}" || between.contains("100000/s"));
        assert_eq!(room(&mut home, HOME), LIMIT - 1 - counts, "after {between}");
        home.vm.close(kept[1]).unwrap();
        home.vm.close(uncounted).unwrap();
        assert_eq!(room(&mut home, HOME), LIMIT, "after {between}");
    }
}

/// Other threads win every swap in which a request begins or ends: what could not be told is told later, so that
/// the limit is neither lowered nor raised for good.
#[test]
fn lost_swaps_lose_no_count() {
    const LOST: u64 = 4;
    let mut home = Sidecar::start("primary", &limited());
    let lose = |home: &Sidecar| home.proxy.faults().cas_loses(LOST);
    // A beginning, told with the next one.
    lose(&home);
    let untold = open(&mut home, HOME);
    let told = open(&mut home, HOME);
    assert_eq!(room(&mut home, HOME), 1);
    // Ends, told with the next beginning.
    for stream in [untold, told] {
        lose(&home);
        home.vm.close(stream).unwrap();
    }
    home.vm.tick(home.plugin).unwrap();
    assert_eq!(room(&mut home, HOME), LIMIT);
    // A beginning and its end, of which the others never hear.
    lose(&home);
    let untold = open(&mut home, HOME);
    lose(&home);
    home.vm.close(untold).unwrap();
    assert_eq!(room(&mut home, HOME), LIMIT);
    // A tick tells it where no request comes.
    let mut other = Sidecar::of(&home.proxy, &limited());
    let stream = open(&mut home, HOME);
    lose(&home);
    home.vm.close(stream).unwrap();
    assert_eq!(room(&mut other, HOME), LIMIT - 1);
    home.vm.tick(home.plugin).unwrap();
    assert_eq!(room(&mut other, HOME), LIMIT);
    // And the end of the policy does.
    let stream = open(&mut home, HOME);
    home.reconfigure(&document("Server", |d| d["policies"] = json!([])));
    lose(&home);
    home.vm.close(stream).unwrap();
    assert_eq!(room(&mut other, HOME), LIMIT);
}

/// Little's law: at ten times the service time the same demand is ten times the load, although the rate has not
/// changed; and the load falls when the endpoint recovers.
#[test]
fn the_load_is_told_by_what_the_limit_is_worth() {
    let mut home = Sidecar::start("primary", &capacity(json!({"concurrency": 10})));
    // 100/s, so that one is in flight at 10 ms and ten at 100 ms.
    let mut serve = |takes: usize, requests: usize| -> u32 {
        let mut serving = std::collections::VecDeque::new();
        for _ in 0..requests {
            let (stream, outcome) = home.vm.open(home.plugin, &inbound(HOME)).unwrap();
            match outcome.answered() {
                Ok(_) => home.vm.close(stream).unwrap(),
                Err(_) => serving.push_back(stream),
            }
            home.pass(10);
            while serving.len() >= takes {
                let ended = serving.pop_front().unwrap();
                home.vm.close(ended).unwrap();
            }
        }
        for stream in serving {
            home.vm.close(stream).unwrap();
        }
        let answer = home.answer(&attempt(HOME, 3), &traffic::response(200));
        let load = answer.only("x-spillway-load").unwrap();
        load.split(';').nth(1).unwrap().parse().unwrap()
    };
    let quick = serve(2, 300);
    assert!((50..=200).contains(&quick), "{quick}");
    let slow = serve(100, 300);
    assert!(slow > 2_000, "nothing ends: {slow}");
    let quick = serve(2, 300);
    assert!((50..=300).contains(&quick), "back: {quick}");
}
