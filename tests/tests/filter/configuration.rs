//! Configurations, good and bad: a bad one changes nothing, is logged once with all its errors, and is counted.

use serde_json::{Value, json};
use spillway_tests::{Clock, Fault, HostFunction, Proxy, Vm, traffic};

use crate::sidecar::{
    BURST, HOME, HOST, Sidecar, client, document, filter, hop, inbound, outbound, policy,
    response_with, server, to,
};

/// Documents that must be refused, one fault each.
fn bad() -> Vec<String> {
    let of = |change: fn(&mut Value)| document("Client", change);
    vec![
        String::new(),
        " ".into(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        "{".into(),
        "{\"version\": 1".into(),
        "\u{feff}{}".into(),
        "\0".into(),
        "1e999".into(),
        "[".repeat(100_000),
        format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)),
        "\"".repeat(100_000),
        "x".repeat(600 * 1024),
        client().replace("\"worker\"", "\"worker\\ud800\""),
        of(|d| d["version"] = json!(2)),
        of(|d| d["version"] = json!("1")),
        of(|d| d["side"] = json!("client")),
        of(|d| d["generation"] = json!(-1)),
        of(|d| d["generation"] = json!(1.5)),
        of(|d| d["tokens"] = json!([])),
        of(|d| d["tokens"] = json!(["a", "b"])),
        of(|d| d["tokens"] = json!(["mesh-token-1", "mesh-token-2", "mesh-token-3"])),
        of(|d| d["prefixHeader"] = json!("X-Upper")),
        of(|d| d["prefixHeader"] = json!("a b")),
        of(|d| d["unknown"] = json!(1)),
        of(|d| d["clusters"] = json!({"primary": {"prefix": "a b"}})),
        of(|d| d["policies"][0]["unknown"] = json!(1)),
        of(|d| d["policies"][0]["home"] = json!("nowhere")),
        of(|d| d["policies"][0]["overflow"] = json!([{"cluster": "nowhere"}])),
        of(|d| d["policies"][0]["mode"] = json!("Switch")),
        of(|d| d["policies"][0]["capacity"] = json!({"primary": {"total": {"rate": "0/s"}}})),
        of(|d| d["policies"][0]["capacity"] = json!({"primary": {"total": {"rate": 15}}})),
        of(|d| d["policies"][0]["capacity"] = json!({"primary": {}})),
        of(|d| d["policies"][0]["bodies"] = json!("All")),
        of(|d| d["policies"][0]["override"] = json!({"force": "Home"})),
        of(|d| d["policies"][0]["id"] = json!("a;b")),
        of(|d| {
            let again = d["policies"][0].clone();
            d["policies"].as_array_mut().unwrap().push(again);
        }),
    ]
}

#[test]
fn traffic_passes_untouched_before_there_is_a_good_one() {
    for bad in bad() {
        let mut sidecar = Sidecar::start("primary", &bad);
        let response = response_with(&[
            ("x-spillway-load", "primary;9;1"),
            ("x-spillway-bounce", "1"),
        ]);
        for request in [outbound(), inbound(HOME), traffic::outbound(HOST, 80)] {
            let (outcome, answer) = sidecar.exchange(&request, &response);
            assert_eq!(outcome.forwarded().unwrap(), request.headers);
            assert_eq!(answer, response.headers);
        }
        sidecar.pass(300);
        assert_eq!(
            sidecar.proxy.metric_sum(&["spillway_config_errors"]),
            1,
            "{bad:.80}"
        );
        let logs = sidecar.proxy.take_logs();
        assert_eq!(logs.len(), 1, "{bad:.80}: {logs:?}");
        assert!(
            logs[0].text.len() < 16_000,
            "a log line is no copy of the document"
        );
        sidecar.reconfigure(&client());
        assert!(
            sidecar.forward(&outbound()).has("x-spillway"),
            "it recovers from {bad:.80}"
        );
    }
}

#[test]
fn the_last_good_one_stays_in_force() {
    for bad in bad() {
        let mut home = Sidecar::start("primary", &server());
        for _ in 0..BURST {
            assert!(home.refused(&inbound(HOME)).is_none());
        }
        home.reconfigure(&bad);
        assert!(home.refused(&inbound(HOME)).is_some(), "{bad:.80}");
        home.pass(200);
        assert_eq!(home.proxy.metric_sum(&["spillway_config_generation"]), 7);
    }
    let mut caller = Sidecar::start("primary", &client());
    caller.send_many(1, &[("primary", 1_000_000)]);
    for bad in bad() {
        caller.reconfigure(&bad);
        caller.pass(100);
    }
    assert_eq!(
        caller.metric("spillway_config_errors", &[]),
        bad().len() as u64
    );
    let sent = caller.send_many(10, &[("primary", 1_000_000)]);
    assert!(to(&sent, "burst") >= 8, "{sent:?}");
}

#[test]
fn all_errors_are_told_at_once_with_their_paths() {
    let bad = policy("Client", |p| {
        p["home"] = json!("nowhere");
        p["overflow"] = json!([{"cluster": "burst", "maxRate": "0/s"}]);
        p["bodies"] = json!("All");
        p["surprise"] = json!(1);
    });
    let sidecar = Sidecar::start("primary", &bad);
    let logs = sidecar.proxy.take_logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    for path in [
        "policies[0].home",
        "policies[0].overflow[0].maxRate",
        "policies[0].bodies",
        "policies[0].surprise",
    ] {
        assert!(
            logs[0].text.contains(path),
            "{path} is not in {}",
            logs[0].text
        );
    }
    assert!(logs[0].level >= 3);
}

#[test]
fn a_document_of_nothing_but_errors_is_refused_in_a_line() {
    let tokens = document("Client", |d| d["tokens"] = json!(vec![0; 200_000]));
    let unknown = document("Client", |d| {
        for number in 0..30_000 {
            d[format!("u{number}")] = json!(0);
        }
    });
    for bad in [tokens, unknown] {
        let sidecar = Sidecar::start("primary", &bad);
        let logs = sidecar.proxy.take_logs();
        assert_eq!(logs.len(), 1);
        assert!(logs[0].text.len() < 20_000, "{}", logs[0].text.len());
        assert!(
            logs[0].text.contains("more errors"),
            "{:.200}",
            logs[0].text
        );
    }
}

/// A token is no secret that a log should keep.
#[test]
fn no_log_line_holds_a_token() {
    for change in [
        |d: &mut Value| d["tokens"] = json!(["mesh-token-1", "mesh-token-1", "mesh-token-0"]),
        |d: &mut Value| d["tokens"] = json!(["mesh-token-1 "]),
        |d: &mut Value| d["policies"][0]["home"] = json!("nowhere"),
    ] {
        let sidecar = Sidecar::start("primary", &document("Client", change));
        for line in sidecar.proxy.take_logs() {
            assert!(!line.text.contains("mesh-token"), "{}", line.text);
        }
    }
}

#[test]
fn the_vms_of_a_proxy_say_it_once_together_and_again_when_it_comes_again() {
    let mut one = Sidecar::start("primary", "{}");
    let _two = Sidecar::of(&one.proxy, "{}");
    assert_eq!(one.proxy.take_logs().len(), 1);
    one.reconfigure(&client());
    one.reconfigure("{}");
    assert_eq!(one.proxy.take_logs().len(), 1, "it was good in between");
}

#[test]
fn two_plugins_of_one_vm_do_not_mix() {
    let proxy = Proxy::new(&Clock::default(), "primary", &[("app", "worker")]);
    let mut vm = Vm::start(filter(), &proxy).unwrap();
    let client = vm.configure_as("spillway-client", &client()).unwrap();
    let server = vm.configure_as("spillway-server", &server()).unwrap();
    for _ in 0..3 {
        let response = traffic::response(200);
        let sent = vm
            .exchange(client, &outbound(), &response)
            .unwrap()
            .0
            .forwarded()
            .unwrap();
        assert_eq!(hop(&sent)[0], "primary");
        let served = vm
            .exchange(server, &inbound(HOME), &response)
            .unwrap()
            .0
            .forwarded()
            .unwrap();
        assert!(!served.has("x-spillway"));
    }
    let broken = vm.configure_as("spillway-server", "{}").unwrap();
    vm.retire(server).unwrap();
    let served = vm
        .exchange(broken, &inbound(HOME), &traffic::response(200))
        .unwrap()
        .0;
    assert!(
        !served.forwarded().unwrap().has("x-spillway"),
        "the last good one of this plugin"
    );
}

#[test]
fn counts_survive_a_reload() {
    let mut caller = Sidecar::start("primary", &client());
    for generation in 0..10 {
        caller.send_many(3, &[]);
        let (stream, _) = caller.vm.open(caller.plugin, &outbound()).unwrap();
        caller.reconfigure(&document("Client", |d| d["generation"] = json!(generation)));
        caller.vm.respond(stream, &traffic::response(200)).unwrap();
        caller.vm.close(stream).unwrap();
    }
    caller.pass(200);
    assert_eq!(caller.metric("spillway_decisions", &[]), 40);
}

/// A thousand changes, good and bad, with traffic in between: no trap, no growth without bound.
#[test]
fn a_thousand_changes_do_no_harm() {
    let mut sidecar = Sidecar::start("primary", &client());
    let bad = bad();
    let mut memory = 0;
    let mut metrics = 0;
    for i in 0..1_000_usize {
        let next = match i % 4 {
            0 => document("Client", |d| d["generation"] = json!(i)),
            1 => bad[i / 4 % bad.len()].clone(),
            2 => document("Server", |d| d["generation"] = json!(i)),
            _ => policy(
                "Client",
                |p| {
                    p["overflow"] =
                        json!([{"cluster": "third"}, {"cluster": "burst", "maxRate": "9/s"}])
                },
            ),
        };
        let (stream, _) = sidecar.vm.open(sidecar.plugin, &outbound()).unwrap();
        sidecar.reconfigure(&next);
        sidecar.vm.respond(stream, &traffic::response(200)).unwrap();
        sidecar.vm.close(stream).unwrap();
        sidecar.exchange(&inbound(HOME), &traffic::response(200));
        sidecar.exchange(&outbound(), &traffic::response(503));
        sidecar.pass(100);
        if i == 199 {
            (memory, metrics) = (sidecar.vm.memory_bytes(), sidecar.proxy.metrics().len());
        }
    }
    assert!(
        sidecar.vm.memory_bytes() <= memory + (1 << 20),
        "{} after {memory}",
        sidecar.vm.memory_bytes()
    );
    assert_eq!(sidecar.proxy.metrics().len(), metrics);
    assert!(
        sidecar.proxy.shared_keys().len() < 20,
        "{:?}",
        sidecar.proxy.shared_keys()
    );
    sidecar.reconfigure(&client());
    assert!(sidecar.forward(&outbound()).has("x-spillway"));
}

/// A fleet's largest document: it must be read in a time that no worker thread notices.
#[test]
fn the_largest_configuration_is_read() {
    let large = document("Client", |d| {
        let policies: Vec<Value> = (0..1_024)
            .map(|i| {
                json!({
                    "id": format!("p-{i}"), "name": format!("default/p-{i}"),
                    "destinations": [{"host": format!("p-{i}.default.svc.cluster.local"), "ports": [80]}],
                    "overflow": [{"cluster": "burst"}], "home": "primary",
                })
            })
            .collect();
        d["policies"] = json!(policies);
    });
    let mut caller = Sidecar::start("primary", "{}");
    caller.proxy.take_logs();
    caller.vm.take_cost();
    caller.reconfigure(&large);
    let cost = caller.vm.take_cost();
    assert!(caller.proxy.take_logs().is_empty());
    assert!(
        cost.fuel < 200_000_000,
        "{} fuel for {} bytes",
        cost.fuel,
        large.len()
    );
    let sent = caller.forward(&traffic::outbound("p-1023.default.svc.cluster.local", 80));
    assert_eq!(hop(&sent)[3], "p-1023");
}

#[test]
fn a_proxy_outside_the_table_passes_over_policies_without_a_home() {
    let document = policy("Client", |p| {
        p.as_object_mut().unwrap().remove("home");
    });
    let mut caller = Sidecar::start("elsewhere", &document);
    assert_eq!(caller.forward(&outbound()), outbound().headers);
    let logs = caller.proxy.take_logs();
    assert!(
        logs.len() == 1 && logs[0].text.contains("elsewhere"),
        "{logs:?}"
    );
}

#[test]
fn a_node_that_is_not_istios_is_no_reason_to_fail() {
    for node in [
        json!({}),
        json!({"metadata": {"CLUSTER_ID": null, "LABELS": null}}),
        json!({"metadata": {"CLUSTER_ID": 7}}),
    ] {
        for document in [client(), server()] {
            let proxy = Proxy::new(&Clock::default(), "primary", &[]);
            proxy.set_node(node.clone());
            let mut sidecar = Sidecar::of(&proxy, &document);
            sidecar.forward(&outbound());
            sidecar.forward(&inbound(HOME));
            sidecar.pass(200);
        }
    }
}

#[test]
fn a_host_that_gives_no_ticks_is_told_of() {
    let proxy = Proxy::new(&Clock::default(), "primary", &[("app", "worker")]);
    proxy.faults().always(
        HostFunction::SetTickPeriod,
        Fault::Status(spillway_tests::Status(2)),
    );
    let mut sidecar = Sidecar::of(&proxy, &client());
    assert_eq!(proxy.take_logs().len(), 1);
    assert!(sidecar.forward(&outbound()).has("x-spillway"));
}
