//! Any bytes, any JSON, any change to a valid document: an error or a form that is right, and
//! never a panic.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use spillway_core::config::{Config, EnvoyCluster};
use spillway_core::header::Hop;

use crate::shared::golden::{documented, documented_value, set};

fn json_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "version",
        "side",
        "tokens",
        "clusters",
        "policies",
        "id",
        "name",
        "host",
        "ports",
        "home",
        "overflow",
        "cluster",
        "maxRate",
        "mode",
        "Switch",
        "switch",
        "capacity",
        "perEndpoint",
        "total",
        "rate",
        "15/s",
        "0/s",
        "Client",
        "primary",
        "",
        "\u{0}",
        "é;\r\n",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 6, move |inner| {
        let key = prop_oneof![word.clone().prop_map(str::to_owned), "\\PC{0,4}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The documented example with more in it, so that every kind of field can be changed.
fn rich() -> Value {
    let mut document = documented_value();
    document["clusters"]["cloud"] = json!({"prefix": "c."});
    let more = json!({
        "id": "two", "name": "ns/two", "mode": "Switch",
        "switch": {"enter": "15/s", "leave": "10/s"},
        "destinations": [{"host": "two.svc"}],
        "overflow": [{"cluster": "burst"}, {"cluster": "cloud", "maxRate": "900/m"}],
        "capacity": {
            "primary": {"perEndpoint": {"rate": "50/s", "concurrency": 9}, "endpoints": 3},
            "burst": {"total": {"concurrency": 10}}
        }
    });
    if let Value::Array(policies) = &mut document["policies"] {
        policies.push(more);
    }
    document
}

/// Every place of a document, as a JSON pointer.
fn places(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_owned());
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                places(item, &format!("{path}/{i}"), into);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(item, &format!("{path}/{key}"), into);
            }
        }
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Change {
    Replace(prop::sample::Index, Value),
    Remove(prop::sample::Index),
    Add(prop::sample::Index, String, Value),
    Copy(prop::sample::Index, prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<prop::sample::Index>;
    let change = prop_oneof![
        (at(), json_value()).prop_map(|(at, value)| Change::Replace(at, value)),
        at().prop_map(Change::Remove),
        (at(), "[a-z]{1,9}", json_value()).prop_map(|(at, key, value)| Change::Add(at, key, value)),
        (at(), at()).prop_map(|(from, to)| Change::Copy(from, to)),
    ];
    prop::collection::vec(change, 0..6)
}

fn change(document: &mut Value, change: Change) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let place = |at: prop::sample::Index| all[at.index(all.len())].as_str();
    match change {
        Change::Replace(at, value) => *document.pointer_mut(place(at)).unwrap() = value,
        Change::Copy(from, to) => {
            let value = document.pointer(place(from)).unwrap().clone();
            *document.pointer_mut(place(to)).unwrap() = value;
        }
        Change::Remove(at) => {
            if !place(at).is_empty() {
                set(document, place(at), None);
            }
        }
        Change::Add(at, key, value) => match document.pointer_mut(place(at)).unwrap() {
            Value::Object(map) => {
                map.insert(key, value);
            }
            Value::Array(list) => list.push(value),
            _ => {}
        },
    }
}

/// What a parsed configuration promises to those who use it.
fn check(config: &Config) {
    for policy in &config.policies {
        assert!(policy.rungs.iter().all(|rung| rung.cluster != policy.home));
        for start in policy
            .rungs
            .iter()
            .map(|rung| &rung.hop)
            .chain([&policy.home_hop])
        {
            let value = [start.as_slice(), b"1;b"].concat();
            let hop = Hop::parse(&value).expect("prepared values can be read");
            assert_eq!(
                (hop.home, hop.policy),
                (policy.home.as_str(), policy.id.as_str())
            );
            let found = config.policy_for_hop(&hop).unwrap();
            assert_eq!(config.policies[found].id, policy.id);
        }
        if let Some(capacity) = policy.capacity {
            assert!(capacity.rate.is_some() || capacity.concurrency.is_some());
            assert!(capacity.rate.is_none_or(|rate| rate.interval > 0));
        }
    }
}

fn parse(document: &[u8]) {
    for own in ["primary", "burst", "elsewhere"] {
        match Config::parse(document, own) {
            Ok(config) => check(&config),
            Err(errors) => {
                assert!(!errors.0.is_empty());
                assert!(errors.0.iter().all(|e| !e.message.is_empty()));
                let _ = errors.to_string();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
    }

    #[test]
    fn any_json(value in json_value()) {
        parse(value.to_string().as_bytes());
    }

    #[test]
    fn a_valid_document_changed(changes in changes()) {
        let mut document = rich();
        let untouched = changes.is_empty();
        for one in changes {
            change(&mut document, one);
        }
        let text = document.to_string();
        parse(text.as_bytes());
        prop_assert!(!untouched || Config::parse(text.as_bytes(), "primary").is_ok());
    }

    #[test]
    fn a_valid_document_with_bytes_changed(
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut document = documented().as_bytes().to_vec();
        for (at, byte) in bytes {
            let at = at.index(document.len());
            document[at] = byte;
        }
        if let Some(cut) = cut {
            document.truncate(cut.index(document.len()));
        }
        parse(&document);
    }

    #[test]
    fn any_name_of_a_cluster(name in "\\PC{0,40}|(in|out)bound\\|[0-9]{0,7}\\|[a-z]{0,5}\\|[a-z.]{0,9}") {
        let config = Config::parse(documented().as_bytes(), "primary").unwrap();
        let _ = EnvoyCluster::parse(&name);
        prop_assert_eq!(config.policy_for_cluster(&name), None);
    }
}
