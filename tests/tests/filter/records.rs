//! Shared data that is not ours, not of our version, or nonsense: replaced, never misread.

use spillway_tests::Fault;

use crate::sidecar::{BURST, HOME, Sidecar, document, inbound, outbound, policy, server};
use serde_json::json;

/// The keys of the two records that its policy has; another remembers what was last complained about.
fn records(sidecar: &Sidecar) -> Vec<String> {
    let mut keys = sidecar.proxy.shared_keys();
    keys.retain(|key| !key.starts_with("spillway.e."));
    assert_eq!(keys.len(), 2, "{keys:?}");
    keys
}

/// Bytes that are no record of this version: empty, short, cut, long, of another kind or version, and all ones.
fn foreign(ours: &[u8]) -> Vec<Vec<u8>> {
    let mut other_version = ours.to_vec();
    other_version[1] = other_version[1].wrapping_sub(1);
    let mut next_version = ours.to_vec();
    next_version[1] = next_version[1].wrapping_add(1);
    let mut other_kind = ours.to_vec();
    other_kind[0] ^= 0x55;
    let full = |bytes: &[u8]| {
        bytes
            .iter()
            .copied()
            .take(2)
            .chain(vec![0xff; 30])
            .collect()
    };
    vec![
        Vec::new(),
        vec![0],
        ours[..1].to_vec(),
        ours[..2].to_vec(),
        ours[..ours.len() - 1].to_vec(),
        [ours, &[0]].concat(),
        full(&other_version),
        other_version,
        next_version,
        other_kind,
        vec![0xff; ours.len()],
        vec![0; ours.len()],
        b"{\"tat\": 1}".to_vec(),
        vec![7; 100_000],
    ]
}

#[test]
fn foreign_bytes_are_replaced() {
    let ours = Sidecar::start("primary", &server());
    let keys = records(&ours);
    for key in &keys {
        assert!(
            key.starts_with("spillway."),
            "all plugins share one name space: {key}"
        );
        let bytes = ours.proxy.shared(key).unwrap();
        for foreign in foreign(&bytes) {
            // Found when the configuration is taken, and found between two requests.
            let mut late = Sidecar::start("primary", &server());
            late.proxy.set_shared(key, &foreign);
            late.reconfigure(&server());
            check(&mut late, key, &bytes);
            let mut later = Sidecar::start("primary", &server());
            later.proxy.set_shared(key, &foreign);
            check(&mut later, key, &bytes);
        }
    }
}

/// Works as if it were new, and leaves a record of our form.
fn check(home: &mut Sidecar, key: &str, ours: &[u8]) {
    let through = (0..40)
        .filter(|_| home.refused(&inbound(HOME)).is_none())
        .count();
    assert_eq!(through, BURST);
    home.pass(1_001);
    let through = (0..40)
        .filter(|_| home.refused(&inbound(HOME)).is_none())
        .count();
    assert_eq!(through, BURST);
    let left = home.proxy.shared(key).unwrap();
    assert_eq!((left.len(), &left[..2]), (ours.len(), &ours[..2]), "{key}");
}

/// A record of our own form whose numbers cannot be: the gate must not stay closed for a century.
#[test]
fn numbers_that_cannot_be_do_no_lasting_harm() {
    let ours = Sidecar::start("primary", &server());
    for key in records(&ours) {
        let mut bytes = ours.proxy.shared(&key).unwrap();
        for fill in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            bytes[2..].fill(fill);
            let mut home = Sidecar::start("primary", &server());
            home.proxy.set_shared(&key, &bytes);
            for _ in 0..20 {
                home.refused(&inbound(HOME));
                home.pass(500);
            }
            assert!(
                home.refused(&inbound(HOME)).is_none(),
                "{key} filled with {fill:#x}"
            );
        }
    }
}

#[test]
fn the_switchs_record_is_as_safe() {
    let switching = policy("Client", |p| {
        p["mode"] = json!("Switch");
        p["switch"] = json!({"enter": "15/s", "leave": "10/s"});
        p["overflow"] = json!([{"cluster": "burst", "maxRate": "20/s"}]);
    });
    let keys = records(&Sidecar::start("primary", &switching));
    for key in keys {
        let bytes = Sidecar::start("primary", &switching)
            .proxy
            .shared(&key)
            .unwrap();
        for foreign in foreign(&bytes) {
            let mut caller = Sidecar::start("primary", &switching);
            caller.proxy.set_shared(&key, &foreign);
            for _ in 0..10 {
                assert!(
                    caller
                        .forward(&outbound())
                        .only("x-spillway")
                        .unwrap()
                        .starts_with("primary;")
                );
                caller.pass(100);
            }
        }
    }
}

/// Keys cannot be removed from shared data: they must be as many as policies, not as configurations.
#[test]
fn keys_are_bounded() {
    let mut home = Sidecar::start("primary", &server());
    let before = home.proxy.shared_keys();
    for generation in 0..100 {
        home.reconfigure(&document("Server", |d| d["generation"] = json!(generation)));
        home.refused(&inbound(HOME));
        home.pass(100);
    }
    assert_eq!(home.proxy.shared_keys(), before);
}

#[test]
fn a_compare_and_swap_that_always_loses_loses_no_request() {
    let mut home = Sidecar::start("primary", &server());
    home.proxy.faults().cas_loses(u64::MAX);
    for _ in 0..40 {
        assert!(home.refused(&inbound(HOME)).is_none());
    }
    home.pass(1_000);
    home.proxy.faults().clear();
    let through = (0..40)
        .filter(|_| home.refused(&inbound(HOME)).is_none())
        .count();
    assert_eq!(through, BURST);
    home.proxy
        .faults()
        .always(spillway_tests::HostFunction::SetSharedData, Fault::Silent);
    assert!(
        home.refused(&inbound(HOME))
            .is_some_and(|a| a.status == 429)
    );
}
