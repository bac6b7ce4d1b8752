//! What a thousand policies in one configuration cost: a request nothing more, and their taking in
//! what grows no faster than they do. All of it is counted and nothing is timed.

use serde_json::{Value, json};
use spillway_tests::cost::Cost;
use spillway_tests::{Request, traffic};

use crate::sidecar::{HOME, HOST, Sidecar, document, inbound, outbound, stranger};

/// As many as a namespace may have.
const MANY: usize = 1_000;

/// So many policies, as the controller writes them; the service's own is in the middle.
fn policies(side: &str, count: usize) -> String {
    document(side, |document| {
        let worker = document["policies"][0].clone();
        let other = |number: usize| {
            let name = format!("service-{number:04}");
            let mut policy = worker.clone();
            policy["id"] = json!(format!("{name}-f8a1c18b6f"));
            policy["name"] = json!(format!("default/{name}"));
            policy["destinations"][0]["host"] = json!(host(number));
            policy["workload"]["labels"]["app"] = json!(name);
            policy
        };
        let mut list: Vec<Value> = (1..count).map(other).collect();
        list.insert(count / 2, worker);
        document["policies"] = json!(list);
    })
}

fn host(number: usize) -> String {
    format!("service-{number:04}.default.svc.cluster.local")
}

/// What these requests cost by turns, together.
fn cost(sidecar: &mut Sidecar, requests: &[Request]) -> Cost {
    for _ in 0..20 {
        sidecar.vm.take_cost();
        for request in requests {
            sidecar.exchange(request, &traffic::response(200));
        }
    }
    sidecar.vm.take_cost()
}

#[test]
fn a_request_costs_the_same_with_a_thousand_policies() {
    let elsewhere = || traffic::outbound("other.default.svc.cluster.local", 80);
    let cases = [
        ("Client", vec![outbound()]),
        ("Client", vec![elsewhere()]),
        ("Client", vec![outbound(), elsewhere()]),
        ("Server", vec![inbound(HOME)]),
        ("Server", vec![stranger()]),
    ];
    for (number, (side, requests)) in cases.into_iter().enumerate() {
        let of = |count| {
            cost(
                &mut Sidecar::start("primary", &policies(side, count)),
                &requests,
            )
        };
        let one = of(1);
        for count in [100, MANY] {
            let many = of(count);
            assert_eq!(many.calls, one.calls, "case {number}, {count} policies");
            // Where in the heap the state lies makes a few percent.
            let most = one.fuel + one.fuel / 12;
            let fuel = many.fuel;
            assert!(
                fuel <= most,
                "case {number}, {count} policies: {fuel} fuel, with one it was {}",
                one.fuel
            );
        }
    }
}

/// Fuel and kibibytes of memory that one policy more costs, between so many and so many.
fn a_policy_more(side: &str, from: usize, to: usize, changes: usize) -> (u64, f64) {
    let taken = |count| {
        let document = policies(side, count);
        let mut sidecar = Sidecar::start("primary", &document);
        for _ in 0..changes {
            sidecar.vm.take_cost();
            sidecar.reconfigure(&document);
        }
        (sidecar.vm.take_cost().fuel, sidecar.vm.memory_bytes())
    };
    let ((fuel, memory), (more_fuel, more_memory)) = (taken(from), taken(to));
    let policies = to - from;
    (
        (more_fuel - fuel) / policies as u64,
        (more_memory - memory) as f64 / 1024.0 / policies as f64,
    )
}

#[test]
fn a_configuration_is_taken_in_at_a_cost_that_grows_with_its_policies_and_no_faster() {
    for side in ["Client", "Server"] {
        for (changes, most_fuel, most_memory) in [(0, 80_000, 2.5), (10, 90_000, 4.5)] {
            let (few, _) = a_policy_more(side, 1, 100, changes);
            let (many, memory) = a_policy_more(side, 100, MANY, changes);
            let told = format!("{side}, {changes} changes: {few} and {many} fuel, {memory} KiB");
            assert!(many <= few + few / 10, "{told}");
            assert!(many <= most_fuel, "{told}");
            assert!(memory <= most_memory, "{told}");
        }
    }
}

#[test]
fn memory_does_not_grow_with_changes_of_many_policies() {
    let document = policies("Client", MANY);
    let mut sidecar = Sidecar::start("primary", &document);
    let mut after = |changes: usize| {
        for _ in 0..changes {
            sidecar.reconfigure(&document);
        }
        sidecar.vm.memory_bytes()
    };
    let before = after(50);
    assert_eq!(after(50), before);
}

/// Ten times a second in every worker thread.
#[test]
fn a_tick_of_a_thousand_policies_is_cheap() {
    for (side, most) in [("Client", 150 * MANY), ("Server", 10_000)] {
        let mut sidecar = Sidecar::start("primary", &policies(side, MANY));
        sidecar.pass(1_000);
        sidecar.vm.take_cost();
        sidecar.pass(100);
        let cost = sidecar.vm.take_cost();
        assert!(cost.fuel <= most as u64, "{side}: {}", cost.fuel);
        assert!(cost.total_calls() <= 3, "{side}: {:?}", cost.calls);
    }
}

#[test]
fn each_of_a_thousand_policies_is_found() {
    let mut sidecar = Sidecar::start("primary", &policies("Client", MANY));
    for number in 1..MANY {
        let parts = sidecar.send(&traffic::outbound(&host(number), 80), &[]);
        assert_eq!(parts[3], format!("service-{number:04}-f8a1c18b6f"));
    }
    assert_eq!(sidecar.send(&traffic::outbound(HOST, 80), &[])[3], "worker");
}
