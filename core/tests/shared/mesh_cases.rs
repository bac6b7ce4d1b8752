//! Whole meshes: what the studies behind the rules found must hold for the code.

use spillway_core::rate::Capacity;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{MILLI, count, each};
use super::mesh::{Callers, Cluster, Mesh, Report, run};

/// `endpoints` that together serve `total` a second.
fn cluster(endpoints: u32, total: u32) -> Cluster {
    Cluster {
        endpoints: endpoints as usize,
        capacity: Some(each(total / endpoints, endpoints)),
        takes: 10 * MILLI,
    }
}

/// Ten callers whose home is cluster 0, beside a second cluster with plenty of room.
fn two(demand: f64) -> Mesh {
    let callers = Callers::new(10, demand, &[0, 1]);
    Mesh::new(vec![cluster(4, 400), cluster(4, 4_000)], vec![callers])
}

fn assert_within(value: f64, least: f64, most: f64, what: &str, report: &Report) {
    assert!(
        (least..=most).contains(&value),
        "{what}: {value:.3} is not within {least} and {most}: {report:?}"
    );
}

#[test]
fn below_the_limit_all_stays_home() {
    let report = run(&two(200.0));
    assert_eq!(report.served[1], 0, "{report:?}");
    assert_eq!((report.bounced, report.forced), (0, 0));
}

#[test]
fn at_twice_the_limit_home_is_full_and_few_are_bounced() {
    let report = run(&two(800.0));
    assert_within(report.rate(0), 384.0, 404.0, "home's rate", &report);
    assert_within(report.share(report.bounced), 0.0, 0.2, "bounces", &report);
    assert_within(report.rho, 1_900.0, 2_100.0, "the load", &report);
    assert_eq!(report.forced, 0, "{report:?}");
}

/// Retries are not counted as demand: the load that is told stays the true one.
#[test]
fn at_the_limit_the_load_is_true() {
    for demand in [400.0, 480.0] {
        let report = run(&two(demand));
        let truth = demand / 400.0 * 1_000.0;
        assert_within(report.rho, truth * 0.96, truth * 1.04, "the load", &report);
        assert_within(report.rate(0), 375.0, 404.0, "home's rate", &report);
        assert_within(report.share(report.bounced), 0.0, 0.4, "bounces", &report);
    }
}

/// Without any feedback the gate alone keeps the limit.
#[test]
fn without_feedback_the_gate_keeps_the_limit() {
    let report = run(&Mesh {
        deaf: 1.0,
        ..two(2_000.0)
    });
    assert_within(report.rate(0), 390.0, 404.0, "home's rate", &report);
    assert_eq!(report.forced, 0, "{report:?}");
}

/// Without any request that may be bounced the echo alone keeps it.
#[test]
fn without_bounces_the_echo_keeps_the_limit() {
    let mut mesh = two(1_200.0);
    mesh.callers[0].bounceable = 0.0;
    let report = run(&mesh);
    assert_within(report.rate(0), 360.0, 420.0, "home's rate", &report);
    assert_eq!(report.bounced, 0);
}

#[test]
fn never_routes_stay_home_and_others_spill_for_them() {
    let mut mesh = two(800.0);
    mesh.callers[0].never = 0.3;
    let report = run(&mesh);
    // What is forced while the gate is full fills nothing.
    assert_within(report.rate(0), 375.0, 425.0, "home's rate", &report);
}

/// A at five times its limit, B at half of its own: B's own traffic does not notice.
#[test]
fn overflow_yields() {
    let clusters = vec![cluster(4, 400), cluster(4, 400)];
    let callers = vec![
        Callers::new(10, 2_000.0, &[0, 1]),
        Callers::new(10, 200.0, &[1, 0]),
    ];
    let report = run(&Mesh::new(clusters, callers));
    let kept = report.at_home[1] as f64 / report.offered[1] as f64;
    assert_within(kept, 0.99, 1.0, "B's own traffic at home", &report);
    assert_within(report.rate(1), 320.0, 410.0, "B's rate", &report);
}

/// Two clusters that are both over their limit do not swap traffic, and few requests wander.
#[test]
fn full_clusters_do_not_swap() {
    let clusters = vec![cluster(4, 400), cluster(4, 400)];
    let callers = vec![
        Callers::new(10, 520.0, &[0, 1]),
        Callers::new(10, 520.0, &[1, 0]),
    ];
    let report = run(&Mesh::new(clusters, callers));
    for group in 0..2 {
        let kept = report.at_home[group] as f64 / report.offered[group] as f64;
        assert_within(kept, 0.97, 1.0, "traffic at home", &report);
    }
    let attempts = report.attempts as f64 / report.all() as f64;
    assert_within(attempts, 1.0, 1.15, "attempts a request", &report);
    assert_within(report.rho, 1_250.0, 1_350.0, "the load", &report);
}

/// Where all is full and the policy sheds, both clusters serve their limit and no more.
#[test]
fn shedding_keeps_the_limit() {
    let clusters = vec![cluster(4, 400), cluster(4, 400)];
    let callers = vec![
        Callers::new(10, 800.0, &[0, 1]),
        Callers::new(10, 800.0, &[1, 0]),
    ];
    let report = run(&Mesh {
        shed: true,
        ..Mesh::new(clusters, callers)
    });
    for cluster in 0..2 {
        assert_within(report.rate(cluster), 380.0, 408.0, "a rate", &report);
    }
    assert!(report.shed > 0 && report.forced == 0, "{report:?}");
}

/// A caller that forges its echo takes little of home from the honest ones.
#[test]
fn a_forger_costs_little() {
    let mesh = |forged_echo| {
        let mut forger = Callers::new(1, 80.0, &[0, 1]);
        forger.forged_echo = forged_echo;
        let honest = Callers::new(10, 300.0, &[0, 1]);
        Mesh::new(two(0.0).clusters, vec![honest, forger])
    };
    let before = run(&mesh(None));
    let after = run(&mesh(Some(u32::MAX)));
    let cost = (before.at_home[0] as f64 - after.at_home[0] as f64) / (400.0 * before.seconds);
    assert_within(cost, -0.02, 0.09, "cost, of home's throughput", &after);
}

/// An endpoint that slows down is worth less by Little's law, and its load is shed.
#[test]
fn concurrency_is_kept() {
    let limited = |takes| Cluster {
        endpoints: 4,
        capacity: Some(Capacity::of_each(None, Some(count(10)), count(4))),
        takes,
    };
    // 40 at once at 50 ms: 800/s.
    let mesh = |takes| {
        let callers = Callers::new(10, 600.0, &[0, 1]);
        Mesh::new(vec![limited(takes), cluster(4, 4_000)], vec![callers])
    };
    let quick = run(&mesh(50 * MILLI));
    let kept = quick.at_home[0] as f64 / quick.all() as f64;
    assert_within(kept, 0.95, 1.0, "at home", &quick);
    // At 250 ms: 160/s.
    let slow = run(&mesh(250 * MILLI));
    assert_within(slow.rate(0), 130.0, 161.0, "home's rate", &slow);
    assert_within(slow.share(slow.bounced), 0.0, 0.5, "bounces", &slow);
}

#[test]
fn three_clusters_fill_up_in_order() {
    let clusters = vec![cluster(4, 400), cluster(4, 400), cluster(4, 4_000)];
    let callers = vec![Callers::new(10, 1_200.0, &[0, 1, 2])];
    let report = run(&Mesh::new(clusters, callers));
    // What the first rung bounced comes home, and takes its room there.
    assert_within(report.rate(0), 384.0, 404.0, "home's rate", &report);
    // Overflow alone finds half of the tolerance.
    assert_within(
        report.rate(1),
        340.0,
        405.0,
        "the first rung's rate",
        &report,
    );
    assert_within(report.share(report.forced), 0.0, 0.03, "forced", &report);
}

/// Home's own limit holds whatever rungs turn away, and little is shed while a rung has room.
#[test]
fn a_full_rung_does_not_overload_home() {
    for shed in [false, true] {
        let clusters = vec![cluster(4, 400), cluster(2, 600), cluster(4, 4_000)];
        let callers = vec![Callers::new(10, 2_000.0, &[0, 1, 2])];
        let report = run(&Mesh {
            shed,
            ..Mesh::new(clusters, callers)
        });
        assert_within(report.rate(0), 390.0, 404.0, "home's rate", &report);
        assert_within(report.share(report.shed), 0.0, 0.01, "shed", &report);
        assert_within(report.share(report.bounced), 0.0, 0.18, "bounces", &report);
    }
}

/// Where all is full, what home serves by force does not make it bounce the others in vain.
#[test]
fn where_all_is_full_few_wander() {
    for demands in [[1_600.0, 40.0], [1_600.0, 320.0]] {
        let clusters = vec![cluster(4, 400), cluster(4, 400)];
        let callers = vec![
            Callers::new(10, demands[0], &[0, 1]),
            Callers::new(10, demands[1], &[1, 0]),
        ];
        let report = run(&Mesh::new(clusters, callers));
        let attempts = report.attempts as f64 / report.all() as f64;
        assert_within(attempts, 1.0, 1.15, "attempts a request", &report);
        let served = report.served.iter().sum::<u64>() as f64 / report.all() as f64;
        assert_within(served, 0.999, 1.001, "served", &report);
    }
}

/// A rung without a gate takes all that spills.
#[test]
fn a_rung_without_a_gate() {
    let mut mesh = two(1_200.0);
    mesh.clusters[1].capacity = None;
    let report = run(&mesh);
    assert_within(report.rate(0), 384.0, 404.0, "home's rate", &report);
}
