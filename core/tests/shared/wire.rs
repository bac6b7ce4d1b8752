//! The wire form as a controller writes it.

use spillway_core::caller::Force;
use spillway_core::config::{Bodies, Config, Mode, Side, wire};
use spillway_core::rate::{Capacity, SECOND, Unit};
use spillway_core::switch::Limits;
use spillway_core::table::Table;
use spillway_core::totals;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::help::{count, per_second};

/// What a controller writes by the wire form is what the filter reads: every field, and the
/// defaults left out.
#[test]
fn the_wire_form_is_read_as_it_is_written() {
    use wire::{Amount, Document, Enforcement, OnExhausted, Overflow, Policy, SwitchLimits};
    let rate = |n, unit| spillway_core::rate::Rate::new(n, unit).unwrap();
    let row = |prefix: &str| wire::Cluster {
        prefix: prefix.into(),
    };
    let clusters = || {
        [("a".into(), row("")), ("b".into(), row("b."))]
            .into_iter()
            .collect::<Table<_>>()
    };
    let plain = Policy {
        id: "plain".into(),
        name: "ns/plain".into(),
        destinations: Vec::new(),
        workload: None,
        home: None,
        overflow: Vec::new(),
        mode: wire::Mode::Spill,
        switch: None,
        capacity: Table::default(),
        bounce: wire::Bounce::On,
        bodies: Bodies::Small,
        routes: Vec::new(),
        enforcement: Enforcement::Active,
        override_: None,
        on_exhausted: OnExhausted::Home,
    };
    let full = Policy {
        id: "full".into(),
        name: "ns/full".into(),
        destinations: vec![wire::Destination {
            host: "full.svc".into(),
            ports: vec![80, 443],
        }],
        workload: Some(wire::Workload {
            labels: [("app".into(), "full".into())].into_iter().collect(),
            ports: vec![8080],
        }),
        home: Some("a".into()),
        overflow: vec![Overflow {
            cluster: "b".into(),
            max_rate: Some(rate(900, Unit::Minute)),
        }],
        mode: wire::Mode::Switch,
        switch: Some(SwitchLimits {
            enter: per_second(15),
            leave: rate(10, Unit::Hour),
            endpoints: [("a".into(), count(3))].into_iter().collect(),
        }),
        capacity: [
            (
                "a".into(),
                wire::Capacity {
                    per_endpoint: Some(Amount {
                        rate: Some(per_second(50)),
                        concurrency: Some(count(9)),
                    }),
                    total: None,
                    endpoints: count(3),
                },
            ),
            (
                "b".into(),
                wire::Capacity {
                    per_endpoint: None,
                    total: Some(Amount {
                        rate: None,
                        concurrency: Some(count(10)),
                    }),
                    endpoints: count(4),
                },
            ),
        ]
        .into_iter()
        .collect(),
        bounce: wire::Bounce::Off,
        bodies: Bodies::Buffered,
        routes: vec![wire::Route {
            path_prefix: "/n".into(),
            class: wire::Class::Never,
        }],
        enforcement: Enforcement::Shadow,
        override_: Some(wire::Override {
            force: wire::Force::Overflow,
            until_unix_seconds: 1 << 53,
        }),
        on_exhausted: OnExhausted::Shed,
    };
    let document = Document {
        version: wire::VERSION,
        generation: 1 << 53,
        side: Side::Server,
        tokens: vec!["mesh-token-1".into(), "mesh-token-2".into()],
        prefix_header: "x-tag".into(),
        clusters: clusters(),
        policies: vec![plain, full],
    };
    let text = serde_json::to_string(&document).unwrap();
    let plain_text = r#"{"id":"plain","name":"ns/plain"}"#;
    assert!(text.contains(plain_text), "defaults are left out: {text}");

    let config = Config::parse(text.as_bytes(), "a").unwrap();
    assert_eq!((config.generation, config.side), (1 << 53, Side::Server));
    assert_eq!(config.prefix_header, "x-tag");
    let [plain, full] = config.policies.as_slice() else {
        panic!("{config:?}");
    };
    assert_eq!((plain.home.as_str(), plain.mode), ("a", Mode::Spill));
    assert_eq!((full.id.as_str(), full.name.as_str()), ("full", "ns/full"));
    assert_eq!(config.policy_for_cluster("outbound|443||full.svc"), Some(1));
    let workload = full.workload.as_ref().unwrap();
    assert_eq!(
        workload.labels.iter().collect::<Vec<_>>(),
        [("app", &"full".to_owned())]
    );
    assert_eq!(workload.ports, [8080]);
    assert_eq!(full.rungs[0].max_rate.unwrap().interval, SECOND / 15 + 1);
    let limits = Limits::new(per_second(15), rate(10, Unit::Hour)).unwrap();
    let of_service = totals::Limits {
        service: limits,
        endpoints: count(3),
    };
    assert_eq!(full.mode, Mode::SwitchService(of_service));
    let capacity = Capacity::of_each(Some(per_second(50)), Some(count(9)), count(3));
    assert_eq!(full.capacity, Some(capacity));
    let at_b = Config::parse(text.as_bytes(), "b").unwrap();
    assert_eq!(
        at_b.policies[1].capacity.unwrap().concurrency,
        Some(count(2))
    );
    assert_eq!(at_b.prefix, "b.");
    assert!(!full.bounce && full.shadow && full.shed);
    assert_eq!(
        (full.bodies, full.never.as_slice()),
        (Bodies::Buffered, &["/n".to_owned()][..])
    );
    let force = full.force.unwrap();
    assert_eq!((force.force, force.until), (Force::Overflow, u64::MAX));
}

#[test]
fn tables_are_sorted_lists() {
    let mut table: Table<u32> = [("b".into(), 2), ("a".into(), 1), ("b".into(), 3)]
        .into_iter()
        .collect();
    assert_eq!(table.iter().collect::<Vec<_>>(), [("a", &1), ("b", &3)]);
    assert_eq!((table.get("a"), table.get("c")), (Some(&1), None));
    *table.entry("aa").unwrap() += 7;
    *table.entry("a").unwrap() += 7;
    assert_eq!(table.insert("c".into(), 4), None);
    assert_eq!(table.insert("c".into(), 5), Some(4));
    assert_eq!((table.len(), table.is_empty()), (4, false));
    let written = serde_json::to_string(&table).unwrap();
    assert_eq!(written, r#"{"a":8,"aa":7,"b":3,"c":5}"#);
    assert!(Table::<u32>::default().is_empty());
}
