//! Shared data that is not ours, not of our version, or nonsense: replaced, never misread.

use spillway_tests::{Fault, Proxy, traffic};

use crate::sidecar::{
    BURST, HOME, RETURNED, Sidecar, attempt, document, inbound, outbound, policy, server,
};
use crate::switch_service::shared;
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

/// A server that has long been asked for 30/s, and whose gate is full now.
fn busy() -> Sidecar {
    let mut home = Sidecar::start("primary", &server());
    for _ in 0..300 {
        home.refused(&inbound(HOME));
        home.pass(33);
    }
    home.admitted(HOME, 2 * BURST);
    home
}

/// Records of another version may mean anything: here they would close the gate and report a high load.
#[test]
fn foreign_bytes_are_replaced() {
    let busy = busy();
    for key in &records(&busy) {
        assert!(
            key.starts_with("spillway."),
            "all plugins share one name space: {key}"
        );
        let ours = busy.proxy.shared(key).unwrap();
        for foreign in foreign(&ours) {
            for late in [true, false] {
                // Found when the configuration is taken, or between two requests.
                let proxy = Proxy::new(busy.proxy.clock(), "primary", &[("app", "worker")]);
                proxy.set_shared(key, &foreign);
                let mut home = Sidecar::of(&proxy, &server());
                if late {
                    proxy.set_shared(key, &foreign);
                }
                home.vm.tick(home.plugin).unwrap();
                // What came home as all is full takes no room.
                let answer = home.answer(&attempt(RETURNED, 3), &traffic::response(200));
                assert_eq!(
                    answer.only("x-spillway-load").unwrap(),
                    "primary;0;3",
                    "{key}: {foreign:.40?}"
                );
                assert_eq!(home.admitted(HOME, 40), BURST, "{key}: {foreign:.40?}");
                home.vm.tick(home.plugin).unwrap();
                let left = proxy.shared(key).unwrap();
                assert_eq!(
                    (left.len(), &left[..2]),
                    (ours.len(), &ours[..2]),
                    "{key}: a record of our form"
                );
            }
        }
    }
}

/// The other side of the same coin: a record of ours is believed, by a thread that starts only now.
#[test]
fn records_of_this_version_are_believed() {
    let busy = busy();
    let mut second = Sidecar::of(&busy.proxy, &server());
    assert_eq!(second.admitted(HOME, 40), 0);
    second.vm.tick(second.plugin).unwrap();
    let told = second
        .answer(&attempt(HOME, 3), &traffic::response(200))
        .only("x-spillway-load")
        .unwrap();
    let rho: u32 = told.split(';').nth(1).unwrap().parse().unwrap();
    assert!(rho > 1_500, "{told}");
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
    switch_is_safe(&switching, &records(&Sidecar::start("primary", &switching)));
    let shared = shared("Client", 1);
    let keys = Sidecar::start("primary", &shared).proxy.shared_keys();
    switch_is_safe(&shared, &keys);
}

fn switch_is_safe(switching: &str, keys: &[String]) {
    for key in keys {
        let bytes = Sidecar::start("primary", switching)
            .proxy
            .shared(key)
            .unwrap();
        for foreign in foreign(&bytes) {
            let mut caller = Sidecar::start("primary", switching);
            caller.proxy.set_shared(key, &foreign);
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

/// The totals that callers share a switch by: what is not ours is replaced, under another name, so that nobody
/// takes the difference for requests.
#[test]
fn foreign_totals_are_replaced() {
    const ASKS: &str = "primary;mesh-token-1;primary;worker;1;;0";
    let told = |home: &mut Sidecar| {
        let answer = home.answer(&inbound(ASKS), &traffic::response(200));
        let value = answer.only("x-spillway-load")?;
        let numbers = value.split(';').skip(3).map(|part| part.parse().unwrap());
        Some(numbers.collect::<Vec<u32>>())
    };
    let busy = |home: &mut Sidecar| {
        for _ in 0..20 {
            told(home);
            home.pass(100);
        }
        told(home).unwrap()
    };
    let document = shared("Server", 1);
    let mut ours = Sidecar::start("primary", &document);
    let before = busy(&mut ours);
    assert!(before[1] >= 19, "{before:?}");
    let key = ours.proxy.shared_keys().into_iter();
    let key = key
        .filter(|key| key.starts_with("spillway.t."))
        .collect::<Vec<_>>();
    let [key] = key.as_slice() else {
        panic!("{key:?}")
    };
    let bytes = ours.proxy.shared(key).unwrap();
    let mut filled = bytes.clone();
    let mut all = foreign(&bytes);
    for fill in [0x00, 0x01, 0x7f, 0x80] {
        filled[2..].fill(fill);
        all.push(filled.clone());
    }
    for foreign in all {
        let mut home = Sidecar::start("primary", &document);
        home.proxy.set_shared(key, &foreign);
        home.pass(300);
        let after = busy(&mut home);
        assert!((15..=25).contains(&after[1]), "{after:?}: {foreign:.40?}");
        assert!(after[4] <= 1_000_000_000);
    }
    // A thread that starts now goes on with what is ours.
    let mut second = Sidecar::of(&ours.proxy, &document);
    second.pass(100);
    let after = told(&mut second).unwrap();
    assert!(after[0] == before[0] && after[1] >= before[1], "{after:?}");
}
