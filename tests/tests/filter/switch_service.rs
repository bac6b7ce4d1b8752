//! Switch mode by the rate of the whole service: callers and endpoints together, each a proxy of its own.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_tests::time::pass_time;
use spillway_tests::{Clock, Headers, Proxy, traffic};

use crate::sidecar::{HOST, Sidecar, client, document, inbound, load, outbound, policy};

pub(crate) fn shared(side: &str, endpoints: u32) -> String {
    policy(side, |p| {
        p["mode"] = json!("Switch");
        p["switch"] =
            json!({"enter": "15/s", "leave": "10/s", "endpoints": {"primary": endpoints}});
        p["capacity"] = json!({});
    })
}

fn proxy(clock: &Clock, name: &str) -> Proxy {
    let proxy = Proxy::new(clock, "primary", &[("app", "worker")]);
    proxy.set_node(json!({
        "id": name,
        "metadata": {"CLUSTER_ID": "primary", "LABELS": {"app": "worker"}},
    }));
    proxy
}

/// The parts of a header.
fn parts(headers: &Headers, name: &str) -> Vec<String> {
    let value = headers.only(name).expect(name);
    value.split(';').map(str::to_owned).collect()
}

/// Callers, each with its workers' VMs, and endpoints with two each.
struct Service {
    clock: Clock,
    document: String,
    callers: Vec<Sidecar>,
    endpoints: Vec<Vec<Sidecar>>,
    turn: usize,
}

impl Service {
    fn start(callers: usize, endpoints: u32) -> Service {
        let clock = Clock::default();
        let serving = shared("Server", endpoints);
        let document = shared("Client", endpoints);
        let endpoint = |i| {
            let first = Sidecar::of(&proxy(&clock, &format!("worker-{i}")), &serving);
            let second = Sidecar::of(&first.proxy, &serving);
            vec![first, second]
        };
        let mut service = Service {
            callers: Vec::new(),
            endpoints: (0..endpoints).map(endpoint).collect(),
            turn: 0,
            clock,
            document,
        };
        for _ in 0..callers {
            let name = format!("shop-{}", service.callers.len());
            let proxy = proxy(&service.clock, &name);
            service.callers.push(Sidecar::of(&proxy, &service.document));
        }
        // Endpoints have a name after their first tick.
        service.pass(Duration::from_millis(200));
        service
    }

    /// A request of a caller; true where it spilled.
    fn request(&mut self, caller: usize) -> bool {
        self.turn += 1;
        let turn = self.turn;
        let caller = &mut self.callers[caller];
        let (stream, outcome) = caller.vm.open(caller.plugin, &outbound()).unwrap();
        let headers = outcome.forwarded().unwrap();
        let sent = parts(&headers, "x-spillway");
        assert_eq!(sent.len(), 7, "{sent:?}");
        let away = sent[0] == "burst";
        let mut answer = traffic::response(200);
        let subset = if away { "burst" } else { "home" };
        let route = format!("outbound|80|spillway-{subset}|{HOST}");
        answer.properties = answer.properties.with(&["xds", "cluster_name"], route);
        if !away {
            let all = self.endpoints.len();
            let endpoint = &mut self.endpoints[turn % all];
            let worker = &mut endpoint[turn / all % 2];
            let hop = headers.only("x-spillway").unwrap();
            let told = worker.answer(&inbound(&hop), &traffic::response(200));
            assert_eq!(parts(&told, "x-spillway-load").len(), 8);
            answer.headers = answer
                .headers
                .with("x-spillway-load", told.only("x-spillway-load").unwrap());
        }
        let back = caller.vm.respond(stream, &answer).unwrap();
        assert!(
            !back.has("x-spillway-load"),
            "the application sees none of it"
        );
        caller.vm.close(stream).unwrap();
        away
    }

    fn pass(&mut self, time: Duration) {
        let callers = self.callers.iter_mut().map(|one| &mut one.vm);
        let workers = self.endpoints.iter_mut().flatten().map(|one| &mut one.vm);
        pass_time(
            &self.clock,
            &mut callers.chain(workers).collect::<Vec<_>>(),
            time,
        )
        .unwrap();
    }

    /// Even requests of all callers in turn; the part of the last second's that spilled.
    fn run(&mut self, per_second: u64, seconds: u64) -> f64 {
        let mut away = 0;
        for i in 0..per_second * seconds {
            let caller = i as usize % self.callers.len();
            let spilled = self.request(caller);
            away += u64::from(spilled && i >= per_second * (seconds - 1));
            self.pass(Duration::from_nanos(1_000_000_000 / per_second));
        }
        away as f64 / per_second as f64
    }

    fn epoch(&mut self, caller: usize) -> u32 {
        let caller = &mut self.callers[caller];
        parts(&caller.forward(&outbound()), "x-spillway")[6]
            .parse()
            .unwrap()
    }
}

/// Three callers of 8/s each: none is over 15/s, and together they are.
#[test]
fn callers_that_share_the_limits_leave_together_and_come_back() {
    let mut service = Service::start(3, 2);
    assert_eq!(service.run(6, 10), 0.0);
    assert!(service.run(24, 10) > 0.8);
    assert!(
        service.run(12, 10) > 0.5,
        "between the limits they stay away"
    );
    assert_eq!(service.run(6, 20), 0.0);
    assert_eq!(service.run(12, 10), 0.0, "between the limits they stay");
    assert_eq!((0..3).map(|i| service.epoch(i)).collect::<Vec<_>>(), [2; 3]);
}

#[test]
fn the_state_outlives_everybody() {
    let mut service = Service::start(2, 1);
    service.run(24, 10);
    assert_eq!((service.epoch(0), service.epoch(1)), (1, 1));
    // A new configuration, with other limits.
    let other = service.document.replace("15/s", "16/s");
    service.callers[0].reconfigure(&other);
    assert_eq!(service.epoch(0), 1);
    // A thread that starts now, and new code: another VM of the same proxy.
    let thread = Sidecar::of(&service.callers[0].proxy, &other);
    service.callers[0] = thread;
    assert_eq!(service.epoch(0), 1);
    // A caller that was restarted learns with its first answer.
    let restarted = Sidecar::of(&proxy(&service.clock, "shop-new"), &service.document);
    service.callers[1] = restarted;
    assert!(!service.request(1));
    assert!(service.run(24, 3) > 0.8);
    // A new configuration of the endpoint, and its restart.
    let serving = shared("Server", 1);
    for worker in &mut service.endpoints[0] {
        worker.reconfigure(&serving);
    }
    assert!(service.run(24, 3) > 0.8);
    let first = Sidecar::of(&proxy(&service.clock, "worker-0"), &serving);
    let second = Sidecar::of(&first.proxy, &serving);
    service.endpoints[0] = vec![first, second];
    service.pass(Duration::from_millis(200));
    assert!(service.run(24, 10) > 0.8);
    // A caller that starts now learns it from the endpoint that started after all others.
    service.callers.push(Sidecar::of(
        &proxy(&service.clock, "shop-late"),
        &service.document,
    ));
    assert!(!service.request(2));
    assert_eq!(service.epoch(2), 1);
    // In another mode there is nothing to learn.
    service.callers[2].reconfigure(&client());
    assert!(
        !service.callers[2]
            .forward(&outbound())
            .only("x-spillway")
            .unwrap()
            .starts_with("burst")
    );
}

/// What an endpoint tells after a request with these parts behind the header.
fn tells(worker: &mut Sidecar, echo: u32, tail: &str) -> Option<Vec<String>> {
    let hop = format!("primary;mesh-token-1;primary;worker;{echo};{tail}");
    let answer = worker.answer(&inbound(&hop), &traffic::response(200));
    answer
        .has("x-spillway-load")
        .then(|| parts(&answer, "x-spillway-load"))
}

#[test]
fn a_forged_epoch_or_echo_is_worth_little() {
    let mut home = Sidecar::start("primary", &shared("Server", 1));
    home.pass(200);
    let epoch = |home: &mut Sidecar, lie: &str| {
        tells(home, 1, &format!(";{lie}"));
        home.pass(200);
        tells(home, 1, ";0").unwrap()[7].clone()
    };
    for lie in ["1", "3", "499999999", "999999999"] {
        assert_eq!(
            epoch(&mut home, lie),
            "0",
            "{lie}: nobody is here, so nobody leaves"
        );
    }
    // Moved by a thousand, in the state in which it is.
    assert_eq!(epoch(&mut home, "400000000"), "1000");
    let total = |home: &mut Sidecar| tells(home, 1, ";0").unwrap()[4].parse::<u64>().unwrap();
    home.pass(200);
    let before = total(&mut home);
    tells(&mut home, 999_999_999, ";0");
    home.pass(200);
    assert_eq!(total(&mut home) - before, 1 + 20);
    // No header of ours: a caller without the filter, to which nothing is told.
    for bad in ["x", ";", ";-1", ";1;1", ";1234567890", ";1;"] {
        assert_eq!(tells(&mut home, 1, bad), None, "{bad}");
    }
    // 20/s: nobody talks it into staying home.
    for _ in 0..600 {
        tells(&mut home, 1, ";1001");
        home.pass(50);
    }
    assert_eq!(epoch(&mut home, "1001"), "1001");
    for lie in ["1002", "2000", "300000000"] {
        for _ in 0..20 {
            tells(&mut home, 1, &format!(";{lie}"));
            home.pass(50);
        }
        assert_eq!(epoch(&mut home, lie), "1001", "{lie}");
    }
}

/// Only home's answers count, and only news: whatever else comes, the caller stays as it is.
#[test]
fn a_caller_believes_home_alone() {
    let mut caller = Sidecar::start("primary", &shared("Client", 1));
    for told in [
        "burst;0;1;5;1;1;1;1",
        "third;0;1;5;1;1;1;1",
        "primary;0;1;5;1;1;1;1;1",
        "primary;0;1;5;1;1;1",
        "primary;0;1;5;1;1;1;1234567890",
        "primary;0;1;5;1;1;1;-1",
        "primary;0;1;;;;;",
    ] {
        let mut answer = load("primary", 0, 1);
        answer.headers = answer.headers.set("x-spillway-load", told);
        caller.answer(&outbound(), &answer);
        let sent = parts(&caller.forward(&outbound()), "x-spillway");
        assert_eq!(
            (sent[0].as_str(), sent[6].as_str()),
            ("primary", "0"),
            "{told}"
        );
    }
    let mut answer = load("primary", 0, 1);
    answer.headers = answer
        .headers
        .set("x-spillway-load", "primary;0;1;5;1;1;1;1");
    caller.answer(&outbound(), &answer);
    let sent = parts(&caller.forward(&outbound()), "x-spillway");
    assert_eq!((sent[0].as_str(), sent[6].as_str()), ("burst", "1"));
}

/// A caller whose home has no row goes by its own rate, as does every policy without the table; other clusters'
/// endpoints tell nothing.
#[test]
fn without_a_row_nothing_is_shared() {
    let elsewhere = |side: &str| {
        policy(side, |p| {
            p["mode"] = json!("Switch");
            p["switch"] = json!({"enter": "15/s", "leave": "10/s", "endpoints": {"third": 2}});
            p["capacity"] = json!({});
        })
    };
    let mut caller = Sidecar::start("primary", &elsewhere("Client"));
    assert_eq!(parts(&caller.forward(&outbound()), "x-spillway").len(), 6);
    let mut home = Sidecar::start("primary", &elsewhere("Server"));
    home.pass(200);
    assert_eq!(tells(&mut home, 1, ";0"), None);
    let mut burst = Sidecar::start("burst", &shared("Server", 1));
    burst.pass(200);
    let spilled = "burst;mesh-token-1;primary;worker;1;;1";
    let answer = burst.answer(&inbound(spilled), &traffic::response(200));
    assert_eq!(answer.only("x-spillway-load").unwrap(), "burst;0;1");
}

/// Shadow shares the switch, and changes nothing.
#[test]
fn shadow_decides_and_leaves_all_at_home() {
    let shadow = |side: &str| {
        let text = shared(side, 1);
        let mut document: Value = serde_json::from_str(&text).unwrap();
        document["policies"][0]["enforcement"] = json!("Shadow");
        document.to_string()
    };
    let mut service = Service::start(2, 1);
    service.callers[0].reconfigure(&shadow("Client"));
    service.callers[1].reconfigure(&shadow("Client"));
    assert_eq!(service.run(24, 10), 0.0);
    assert_eq!((service.epoch(0), service.epoch(1)), (1, 1));
    let would = service.callers[0].metric(
        "spillway_shadow_decisions",
        &[("reason", "switched"), ("target", "burst")],
    );
    assert!(would > 20, "{would}");
    service.callers[0].reconfigure(&document("Client", |_| ()));
}
