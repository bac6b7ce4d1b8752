//! A host that fails: every function, with every status and with answers that are none, on every path. The
//! filter never traps, loses no request, and works again when the host does.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spillway_tests::{
    Clock, Fault, HostFunction, Outcome, Proxy, Request, Response, Result, Status, Vm, traffic,
};

use crate::sidecar::{
    HOME, client, document, filter, inbound, load, outbound, policy, server, stranger,
};
use crate::switch_service::shared;

const SPILLED: &str = "burst;mesh-token-1;primary;worker;2;b";

/// A way through the filter: a configuration, and what passes.
struct Path {
    name: &'static str,
    cluster: &'static str,
    document: String,
    requests: Vec<Request>,
    response: Response,
}

impl Path {
    fn is_caller(&self) -> bool {
        self.document.contains("\"Client\"")
    }

    /// Some requests, some ticks, and the end.
    fn drive(&self, vm: &mut Vm, document: &str) -> Result<Vec<Outcome>> {
        let plugin = vm.configure(document)?;
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            for request in &self.requests {
                outcomes.push(vm.exchange(plugin, request, &self.response)?.0);
            }
            vm.tick(plugin)?;
        }
        vm.retire(plugin)?;
        Ok(outcomes)
    }
}

fn paths() -> Vec<Path> {
    let caller = |name, document, response| Path {
        name,
        cluster: "primary",
        document,
        requests: vec![
            outbound(),
            traffic::outbound("other.default.svc.cluster.local", 80),
            outbound(),
        ],
        response,
    };
    let server_of = |name, cluster, document, requests| Path {
        name,
        cluster,
        document,
        requests,
        response: traffic::response(200),
    };
    let of = |side, change: fn(&mut Value)| policy(side, change);
    let switch = |p: &mut Value| {
        p["mode"] = json!("Switch");
        p["switch"] = json!({"enter": "15/s", "leave": "10/s"});
    };
    let many = |hop: &str| vec![inbound(hop); 6];
    vec![
        caller("caller at home", client(), traffic::response(200)),
        caller("caller that spills", client(), load("primary", 50_000, 1)),
        caller("caller of a failing rung", client(), traffic::response(503)),
        caller(
            "caller in shadow",
            of("Client", |p| p["enforcement"] = json!("Shadow")),
            load("primary", 50_000, 1),
        ),
        caller(
            "caller that switches",
            of("Client", switch),
            traffic::response(200),
        ),
        caller("caller that shares a switch", shared("Client", 2), news()),
        caller(
            "caller with a maximum and an override",
            of("Client", |p| {
                p["overflow"] =
                    json!([{"cluster": "burst", "maxRate": "1/h"}, {"cluster": "third"}]);
                p["override"] = json!({"force": "Overflow", "untilUnixSeconds": 4_000_000_000_u64});
            }),
            traffic::response(200),
        ),
        server_of("server at home", "primary", server(), many(HOME)),
        server_of("server of overflow", "burst", server(), many(SPILLED)),
        server_of(
            "server of strangers",
            "primary",
            server(),
            vec![stranger(); 6],
        ),
        server_of(
            "server in shadow",
            "burst",
            of("Server", |p| p["enforcement"] = json!("Shadow")),
            many(SPILLED),
        ),
        server_of(
            "server that sheds",
            "primary",
            of("Server", |p| p["onExhausted"] = json!("Shed")),
            many("primary;mesh-token-1;primary;worker;1;h"),
        ),
        server_of(
            "server with a concurrency",
            "primary",
            of(
                "Server",
                |p| {
                    p["capacity"] = json!({"primary": {"total": {"concurrency": 2, "rate": "5/s"}}})
                },
            ),
            many(HOME),
        ),
        server_of(
            "server of callers that share a switch",
            "primary",
            shared("Server", 2),
            many("primary;mesh-token-1;primary;worker;1;;1"),
        ),
        server_of(
            "server without policies",
            "primary",
            document("Server", |d| d["policies"] = json!([])),
            many(HOME),
        ),
    ]
}

/// Of an endpoint where all have switched.
fn news() -> Response {
    let mut answer = load("primary", 0, 1);
    answer.headers = answer
        .headers
        .set("x-spillway-load", "primary;0;1;5;70;9000;20000;1");
    answer
}

fn faults() -> Vec<Fault> {
    let mut faults: Vec<Fault> = Status::every_error()
        .into_iter()
        .map(Fault::Status)
        .collect();
    let ones = vec![0xff; 64];
    let mut many_pairs = vec![0xff, 0xff, 0xff, 0x0f];
    many_pairs.extend_from_slice(&[1; 40]);
    faults.extend([
        Fault::Silent,
        Fault::AllocatedEmpty,
        Fault::Value(Vec::new()),
        Fault::Value(vec![0]),
        Fault::Value(vec![0; 64]),
        Fault::Value(ones),
        Fault::Value(many_pairs),
        Fault::Value("outbound|80||\u{fffd}|\0".as_bytes().to_vec()),
    ]);
    faults
}

/// What must hold whatever the host does; the reason why not.
fn check(path: &Path, function: HostFunction, outcomes: &[Outcome]) -> Result<(), String> {
    for outcome in outcomes {
        match outcome {
            Outcome::Answered(answer) if path.is_caller() => {
                return Err(format!("the caller's side answered {}", answer.status));
            }
            Outcome::Answered(answer) => {
                let why = ["x-spillway-bounce", "x-spillway-shed"];
                if answer.status != 429 || !why.iter().any(|name| answer.headers.has(name)) {
                    return Err(format!("answered {} without a reason", answer.status));
                }
            }
            // What is not shown cannot be taken off, and what the host does not take off stays.
            Outcome::Forwarded(headers) => {
                let blind = [
                    HostFunction::GetHeaderMapPairs,
                    HostFunction::RemoveHeaderMapValue,
                    HostFunction::GetBufferBytes,
                ];
                if !path.is_caller() && !blind.contains(&function) && headers.has("x-spillway") {
                    return Err("the application sees the mesh token".into());
                }
            }
        }
    }
    Ok(())
}

/// The host does this from the start on (`early`), or once the plugin is configured; then it works again.
fn try_one(path: &Path, function: HostFunction, fault: &Fault, early: bool) -> Result<(), String> {
    let proxy = Proxy::new(&Clock::default(), path.cluster, &[("app", "worker")]);
    let trapped = |error: spillway_tests::Error| format!("{error:?}");
    let mut vm = Vm::start(filter(), &proxy).map_err(trapped)?;
    if !early {
        path.drive(&mut vm, &path.document).map_err(trapped)?;
    }
    proxy.faults().always(function, fault.clone());
    // A bad document on top, so that the last good one has to hold; without properties its plugin is unknown.
    let bad = !early && function != HostFunction::GetProperty;
    let document = if bad { "{}" } else { path.document.as_str() };
    let outcomes = path.drive(&mut vm, document).map_err(trapped)?;
    check(path, function, &outcomes)?;
    proxy.faults().clear();
    proxy.clock().advance(std::time::Duration::from_secs(60));
    let outcomes = path.drive(&mut vm, &path.document).map_err(trapped)?;
    check(path, HostFunction::Log, &outcomes)?;
    match (&outcomes[0], path.is_caller()) {
        (Outcome::Forwarded(headers), true) if !headers.has("x-spillway") => {
            Err("the caller's side is dead".into())
        }
        (Outcome::Answered(_), _) => Err("the gate is stuck".into()),
        _ => Ok(()),
    }
}

#[test]
fn no_fault_of_any_function_on_any_path_does_harm() {
    let mut tried = 0;
    let mut harm: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &paths() {
        for function in HostFunction::ALL {
            for fault in &faults() {
                let lies = *function == HostFunction::SendLocalResponse
                    && !matches!(fault, Fault::Status(_));
                if lies {
                    continue; // It says that it has answered, so nothing is left to do.
                }
                for early in [true, false] {
                    tried += 1;
                    if let Err(reason) = try_one(path, *function, fault, early) {
                        let when = if early { "from the start" } else { "later" };
                        let what = format!("{}, {} {when}: {reason}", path.name, function.name());
                        harm.entry(what).or_default().push(format!("{fault:?}"));
                    }
                }
            }
        }
    }
    let harm: Vec<String> = harm
        .iter()
        .map(|(what, faults)| {
            format!(
                "{what}
    {}",
                faults.join(", ")
            )
        })
        .collect();
    assert!(
        harm.is_empty(),
        "of {tried}:
{}",
        harm.join(
            "
"
        )
    );
}

/// The very call that fails is one among others that work.
#[test]
fn no_single_failing_call_does_harm() {
    let mut harm = Vec::new();
    for path in &paths() {
        for function in HostFunction::ALL {
            for works in 0..6 {
                let proxy = Proxy::new(&Clock::default(), path.cluster, &[("app", "worker")]);
                let mut vm = Vm::start(filter(), &proxy).unwrap();
                proxy
                    .faults()
                    .after(*function, works, Fault::Status(Status(10)));
                let result = path
                    .drive(&mut vm, &path.document)
                    .map_err(|e| format!("{e:?}"));
                if let Err(reason) = result.and_then(|outcomes| check(path, *function, &outcomes)) {
                    harm.push(format!(
                        "{}, {} after {works} that work: {reason}",
                        path.name,
                        function.name()
                    ));
                }
            }
        }
    }
    assert!(harm.is_empty(), "{}", harm.join("\n"));
}

#[test]
fn no_property_that_is_missing_or_unreadable_does_harm() {
    let properties: &[&[&str]] = &[
        &["xds", "cluster_name"],
        &["xds", "node", "metadata", "CLUSTER_ID"],
        &["xds", "node", "metadata", "LABELS", "app"],
        &["plugin_name"],
        &["plugin_root_id"],
    ];
    for path in &paths() {
        for property in properties {
            for fault in &faults() {
                let proxy = Proxy::new(&Clock::default(), path.cluster, &[("app", "worker")]);
                let mut vm = Vm::start(filter(), &proxy).unwrap();
                proxy.faults().property(property, fault.clone());
                let outcomes = path.drive(&mut vm, &path.document);
                let outcomes = outcomes
                    .unwrap_or_else(|e| panic!("{}, {property:?} {fault:?}: {e:?}", path.name));
                check(path, HostFunction::GetProperty, &outcomes).unwrap();
            }
        }
    }
}
