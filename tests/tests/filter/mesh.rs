//! Both sides together: a caller, its service at home, and the same service in another cluster, with the
//! caller's Envoy repeating what is bounced as Istio's routes make it.

use std::time::Duration;

use spillway_tests::time::pass_time;
use spillway_tests::{Clock, Outcome, Proxy, Request, StreamId, traffic};

use crate::sidecar::{HOST, Sidecar, client, hop, outbound, server};

struct Mesh {
    clock: Clock,
    caller: Sidecar,
    home: Sidecar,
    burst: Sidecar,
}

/// Who served a request, and with how many attempts.
#[derive(Debug)]
struct Served {
    by: &'static str,
    attempts: u32,
}

impl Mesh {
    fn start() -> Mesh {
        let clock = Clock::default();
        let of = |cluster, app, document: &str| {
            Sidecar::of(&Proxy::new(&clock, cluster, &[("app", app)]), document)
        };
        Mesh {
            caller: of("primary", "shop", &client()),
            home: of("primary", "worker", &server()),
            burst: of("burst", "worker", &server()),
            clock,
        }
    }

    fn pass(&mut self, time: Duration) {
        let vms = &mut [&mut self.caller.vm, &mut self.home.vm, &mut self.burst.vm];
        pass_time(&self.clock, vms, time).unwrap();
    }

    /// Two attempts where the route leads, and if both bounce, two in the other cluster, and home again.
    fn request(&mut self) -> Served {
        let (stream, outcome) = self
            .caller
            .vm
            .open(self.caller.plugin, &outbound())
            .unwrap();
        let headers = outcome.forwarded().unwrap();
        let target = hop(&headers)[0].clone();
        let order = if target == "burst" {
            ["burst", "burst", "primary", "primary", "burst"]
        } else {
            ["primary", "primary", "burst", "burst", "primary"]
        };
        for (i, by) in order.into_iter().enumerate() {
            let attempts = u32::try_from(i).unwrap() + 1;
            let mut request: Request = traffic::inbound(HOST, 8080, attempts);
            request.headers = request
                .headers
                .with("x-spillway", headers.only("x-spillway").unwrap());
            let server = if by == "burst" {
                &mut self.burst
            } else {
                &mut self.home
            };
            let (outcome, answer) = server.exchange(&request, &traffic::response(200));
            if let Outcome::Forwarded(headers) = outcome {
                let prefix: &[&str] = if by == "burst" { &["bursty-"] } else { &[] };
                assert_eq!(
                    headers.all("x-spillway-prefix"),
                    prefix,
                    "the application is told where it is"
                );
                self.end(stream, &target, answer, prefix);
                return Served { by, attempts };
            }
            assert!(answer.has("x-spillway-bounce"));
        }
        panic!("bounced for ever");
    }

    fn end(
        &mut self,
        stream: StreamId,
        target: &str,
        headers: spillway_tests::Headers,
        prefix: &[&str],
    ) {
        let subset = if target == "primary" { "home" } else { target };
        let mut response = traffic::response(200);
        response.headers = headers;
        let envoy_cluster = format!("outbound|80|spillway-{subset}|{HOST}");
        response.properties = response
            .properties
            .with(&["xds", "cluster_name"], envoy_cluster);
        let answer = self.caller.vm.respond(stream, &response).unwrap();
        assert_eq!(
            answer.all("x-spillway-prefix"),
            prefix,
            "the caller's application is told who answered"
        );
        assert_eq!(
            answer.without("x-spillway-prefix"),
            traffic::response(200).headers
        );
        self.caller.vm.close(stream).unwrap();
    }

    fn run(&mut self, per_second: u32, seconds: u32) -> Vec<Served> {
        (0..per_second * seconds)
            .map(|_| {
                self.pass(Duration::from_secs(1) / per_second);
                self.request()
            })
            .collect()
    }
}

fn share(served: &[Served], cluster: &str) -> f64 {
    served.iter().filter(|s| s.by == cluster).count() as f64 / served.len() as f64
}

fn attempts(served: &[Served]) -> f64 {
    f64::from(served.iter().map(|s| s.attempts).sum::<u32>()) / served.len() as f64
}

#[test]
fn below_the_limit_nothing_leaves_home() {
    let served = Mesh::start().run(12, 30);
    assert!(
        share(&served, "primary") > 0.999,
        "{}",
        share(&served, "primary")
    );
    assert!(attempts(&served) < 1.001);
}

#[test]
fn above_the_limit_home_serves_its_limit_and_the_excess_spills() {
    for demand in [16, 18, 22, 25, 30] {
        let mut mesh = Mesh::start();
        let first = mesh.run(demand, 5);
        let most = (15.0 * 5.0 + 15.0) / f64::from(demand * 5);
        assert!(
            share(&first, "primary") <= most,
            "{demand}/s: the rate and one burst at most"
        );
        mesh.run(demand, 5);
        let served = mesh.run(demand, 30);
        let home = share(&served, "primary") * f64::from(demand);
        assert!(
            (14.5..=15.3).contains(&home),
            "{demand}/s: home serves {home}/s"
        );
        assert!(
            attempts(&served) < 1.06,
            "{demand}/s: the echo keeps bounces rare: {}",
            attempts(&served)
        );
        let rho = mesh.home.metric("spillway_load_milli", &[("class", "own")]);
        let told = rho as f64 / 1_000.0 / (f64::from(demand) / 15.0);
        assert!(
            (0.9..=1.1).contains(&told),
            "{demand}/s: home knows of the whole demand: {rho}"
        );
    }
}

#[test]
fn what_nobody_has_room_for_is_served_at_home() {
    let mut mesh = Mesh::start();
    mesh.run(60, 5);
    let served = mesh.run(60, 20);
    let burst = share(&served, "burst") * 60.0;
    assert!((14.0..=15.5).contains(&burst), "{burst}/s");
    assert!(attempts(&served) < 1.1, "{}", attempts(&served));
}

#[test]
fn all_comes_home_when_the_demand_falls() {
    let mut mesh = Mesh::start();
    mesh.run(30, 10);
    let served = mesh.run(8, 10);
    let late = &served[40..];
    assert!(share(late, "primary") > 0.99, "{}", share(late, "primary"));
}
