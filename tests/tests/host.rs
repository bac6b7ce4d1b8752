//! The host itself: that it serves the ABI as Envoy does, and is strict where it says so. Its guests are a few
//! lines of WebAssembly text each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use spillway_tests::time::pass_time;
use spillway_tests::traffic;
use spillway_tests::{Clock, Fault, Filter, Headers, HostFunction, Proxy, Response, Status, Vm};

/// A guest with memory, an allocator that only grows, and `say`, which logs a status as one character from '0'.
fn guest(imports: &str, body: &str) -> String {
    format!(
        r#"(module
            (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
            {imports}
            (memory (export "memory") 2)
            (global $free (mut i32) (i32.const 65536))
            (data (i32.const 16) "key")
            (data (i32.const 32) "x-a")
            (data (i32.const 48) "value")
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32)
                global.get $free
                (global.set $free (i32.add (global.get $free) (local.get 0))))
            (func $say (param i32)
                (i32.store8 (i32.const 0) (i32.add (i32.const 48) (local.get 0)))
                (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))))
            {body})"#
    )
}

fn start(imports: &str, body: &str) -> (Proxy, Vm) {
    let proxy = Proxy::new(
        &Clock::default(),
        "primary",
        &[("app", "worker"), ("Tier", "1")],
    );
    let vm = second_vm(&proxy, imports, body);
    (proxy, vm)
}

fn second_vm(proxy: &Proxy, imports: &str, body: &str) -> Vm {
    Vm::start(
        &Filter::compile(guest(imports, body).as_bytes()).unwrap(),
        proxy,
    )
    .unwrap()
}

fn said(proxy: &Proxy) -> String {
    proxy
        .take_logs()
        .into_iter()
        .map(|line| line.text)
        .collect()
}

#[test]
fn what_is_not_of_the_abi_is_not_linked() {
    let imports = r#"(import "env" "fetch" (func (param i32)))
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))"#;
    let error = Filter::compile(guest(imports, "").as_bytes())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("env.fetch, wasi_snapshot_preview1.random_get"),
        "{error}"
    );
}

#[test]
fn a_function_that_no_filter_of_ours_needs_is_a_trap() {
    let imports = r#"(import "env" "proxy_done" (func $done (result i32)))"#;
    let body = r#"(func (export "proxy_on_tick") (param i32) (drop (call $done)))"#;
    let (_, mut vm) = start(imports, body);
    let plugin = vm.configure("").unwrap();
    assert!(format!("{:?}", vm.tick(plugin).unwrap_err()).contains("env::proxy_done"));
}

#[test]
fn a_module_of_another_abi_is_refused() {
    let text = guest("", "").replace("0_2_1", "0_2_0");
    let proxy = Proxy::new(&Clock::default(), "primary", &[]);
    let error = Vm::start(&Filter::compile(text.as_bytes()).unwrap(), &proxy)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("proxy_abi_version_0_2_1"), "{error}");
}

#[test]
fn a_pointer_outside_the_memory_ends_the_call_and_the_vm() {
    let body = r#"(func (export "proxy_on_tick") (param i32)
        (drop (call $log (i32.const 2) (i32.const 131070) (i32.const 3))))"#;
    let (_, mut vm) = start("", body);
    let plugin = vm.configure("").unwrap();
    let error = format!("{:?}", vm.tick(plugin).unwrap_err());
    for part in [
        "proxy_on_tick",
        "proxy_log",
        "3 bytes at 0x1fffe are outside the memory",
        "wasm backtrace",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(
        vm.tick(plugin)
            .unwrap_err()
            .to_string()
            .contains("failed before")
    );
}

#[test]
fn a_trap_and_an_endless_loop_are_reported_with_the_backtrace() {
    for (body, reason) in [("unreachable", "unreachable"), ("(loop (br 0))", "fuel")] {
        let tick = format!(
            r#"(func $deep {body}) (func (export "proxy_on_tick") (param i32) (call $deep))"#
        );
        let (_, mut vm) = start("", &tick);
        let plugin = vm.configure("").unwrap();
        let error = format!("{:?}", vm.tick(plugin).unwrap_err());
        assert!(error.contains(reason) && error.contains("deep"), "{error}");
    }
}

#[test]
fn a_configuration_that_is_refused_is_an_error() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#;
    let error = start("", body).1.configure("{}").unwrap_err().to_string();
    assert!(error.contains("answered false"), "{error}");
}

#[test]
fn the_configuration_is_read_while_it_is_given_and_not_later() {
    let imports = r#"(import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"
        (func $read (call $say (call $get (i32.const 7) (i32.const 1) (i32.const 3) (i32.const 4) (i32.const 8)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 4)) (i32.load (i32.const 8)))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $read) (local.get 1))
        (func (export "proxy_on_tick") (param i32) (i64.store (i32.const 4) (i64.const 0)) (call $read))"#;
    let (proxy, mut vm) = start(imports, body);
    let plugin = vm.configure("abcdef").unwrap();
    assert_eq!(said(&proxy), "0bcd");
    vm.tick(plugin).unwrap();
    assert_eq!(said(&proxy), "1");
}

#[test]
fn shared_data_is_one_map_for_all_vms_with_compare_and_swap() {
    let imports = r#"
        (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;
    // A tick reads; a request writes with the number that was read.
    let body = r#"
        (func (export "proxy_on_tick") (param i32)
            (call $say (call $get (i32.const 16) (i32.const 3) (i32.const 4) (i32.const 8) (i32.const 12))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $set (i32.const 16) (i32.const 3) (i32.const 48) (i32.const 5) (i32.load (i32.const 12))))
            (i32.const 0))"#;
    let (proxy, mut one) = start(imports, body);
    let mut two = second_vm(&proxy, imports, body);
    let (plugin_one, plugin_two) = (one.configure("").unwrap(), two.configure("").unwrap());
    let write = |vm: &mut Vm, plugin| {
        vm.open(plugin, &traffic::outbound("a", 80)).unwrap();
        said(&proxy)
    };

    one.tick(plugin_one).unwrap();
    assert_eq!(said(&proxy), "1", "not there yet");
    assert_eq!(write(&mut one, plugin_one), "0", "0 creates");
    one.tick(plugin_one).unwrap();
    two.tick(plugin_two).unwrap();
    assert_eq!(said(&proxy), "00");
    assert_eq!(write(&mut two, plugin_two), "0");
    assert_eq!(write(&mut one, plugin_one), "8", "the other was first");
    assert_eq!(proxy.shared("key").unwrap(), b"value");
    one.tick(plugin_one).unwrap();
    proxy.take_logs();
    proxy.faults().cas_loses(1);
    assert_eq!(write(&mut one, plugin_one), "8", "lost on purpose");
    one.tick(plugin_one).unwrap();
    proxy.take_logs();
    assert_eq!(write(&mut one, plugin_one), "0");
}

#[test]
fn headers_are_read_and_changed_only_while_they_pass() {
    let imports = r#"
        (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
        (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))"#;
    let body = r#"
        (func $set (param i32)
            (call $say (call $replace (local.get 0) (i32.const 32) (i32.const 3) (i32.const 48) (i32.const 5))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $set (i32.const 0)) (call $set (i32.const 2))
            (call $say (call $pairs (i32.const 0) (i32.const 4) (i32.const 8)))
            (call $say (i32.load (i32.load (i32.const 4))))
            (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $set (i32.const 0)) (call $set (i32.const 2))
            (call $say (call $remove (i32.const 2) (i32.const 32) (i32.const 3)))
            (i32.const 0))"#;
    let (proxy, mut vm) = start(imports, body);
    let plugin = vm.configure("").unwrap();
    let mut request = traffic::outbound("a", 80);
    request.headers = Headers::of(&[(":path", "/"), ("x-a", "1"), ("X-A", "2"), ("x-b", "3")]);
    let (stream, outcome) = vm.open(plugin, &request).unwrap();
    let expected = Headers::of(&[(":path", "/"), ("x-b", "3"), ("x-a", "value")]);
    assert_eq!(
        outcome.forwarded().unwrap(),
        expected,
        "all values of the name are replaced"
    );
    assert!(vm.route_was_chosen_anew(stream));
    assert_eq!(
        said(&proxy),
        "0203",
        "the request's, not the response's, then three pairs"
    );
    let response = Response {
        headers: Headers::of(&[("x-a", "1"), ("y", "2")]),
        ..Response::default()
    };
    assert_eq!(
        vm.respond(stream, &response).unwrap(),
        Headers::of(&[("y", "2")])
    );
    assert_eq!(said(&proxy), "200");
    vm.close(stream).unwrap();
}

#[test]
fn properties_are_those_of_the_stream_and_of_the_node() {
    let imports =
        r#"(import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))"#;
    let read = |path: &str| {
        let size = path.replace("\\00", "0").len();
        let data = format!(r#"(data (i32.const 200) "{path}")"#);
        let body = format!(
            r#"{data} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $say (call $get (i32.const 200) (i32.const {size}) (i32.const 4) (i32.const 8)))
                (drop (call $log (i32.const 2) (i32.load (i32.const 4)) (i32.load (i32.const 8))))
                (i32.const 0))"#
        );
        let (proxy, mut vm) = start(imports, &body);
        let mut node = serde_json::json!({"metadata": {"CLUSTER_ID": "primary", "NONE": null}});
        node["metadata"]["LABELS"] = serde_json::json!({"app": "worker"});
        proxy.set_node(node);
        let plugin = vm.configure("").unwrap();
        vm.open(plugin, &traffic::outbound("worker", 80)).unwrap();
        said(&proxy)
    };
    assert_eq!(read("xds\\00cluster_name"), "0outbound|80||worker");
    assert_eq!(read("xds\\00node\\00metadata\\00CLUSTER_ID"), "0primary");
    assert_eq!(read("xds\\00node\\00metadata\\00LABELS\\00app"), "0worker");
    let map = "\x01\0\0\0\x03\0\0\0\x06\0\0\0app\0worker\0";
    assert_eq!(read("xds\\00node\\00metadata\\00LABELS"), format!("0{map}"));
    assert_eq!(read("xds\\00node\\00metadata\\00NONE"), "3");
    assert_eq!(read("cluster_name"), "1");
}

#[test]
fn both_clocks_are_served_and_no_third() {
    let imports = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))"#;
    let body = r#"(func (export "proxy_on_tick") (param i32)
        (call $say (call $time (i32.const 0) (i64.const 0) (i32.const 8)))
        (call $say (i32.wrap_i64 (i64.load (i32.const 8))))
        (call $say (call $time (i32.const 1) (i64.const 0) (i32.const 8)))
        (call $say (i32.wrap_i64 (i64.load (i32.const 8))))
        (call $say (call $time (i32.const 2) (i64.const 0) (i32.const 8))))"#;
    let (proxy, mut vm) = start(imports, body);
    proxy.clock().set_wall(5);
    proxy.clock().set_monotonic(6);
    let plugin = vm.configure("").unwrap();
    vm.tick(plugin).unwrap();
    assert_eq!(said(&proxy), "0506j", "58 beyond '0' is 'j'");
}

#[test]
fn metrics_are_shared_by_name_and_no_gauge_goes_below_zero() {
    let imports = r#"
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_increment_metric" (func $add (param i32 i64) (result i32)))
        (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))"#;
    let body = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $say (call $define (i32.const 0) (i32.const 16) (i32.const 3) (i32.const 100)))
            (call $say (i32.load (i32.const 100)))
            (call $say (call $define (i32.const 1) (i32.const 48) (i32.const 5) (i32.const 104)))
            (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $add (i32.load (i32.const 100)) (i64.const 3)))
            (call $say (call $add (i32.load (i32.const 100)) (i64.const 0)))
            (call $say (call $record (i32.load (i32.const 104)) (i64.const 7)))
            (call $say (call $add (i32.const 77) (i64.const 1)))
            (i32.const 0))
        (func (export "proxy_on_tick") (param i32)
            (drop (call $add (i32.load (i32.const 104)) (i64.const -8))))"#;
    let (proxy, mut one) = start(imports, body);
    let mut two = second_vm(&proxy, imports, body);
    let plugin = one.configure("").unwrap();
    assert_eq!(said(&proxy), "000", "the first id is 0");
    let other = two.configure("").unwrap();
    one.open(plugin, &traffic::outbound("a", 80)).unwrap();
    proxy.take_logs();
    two.open(other, &traffic::outbound("a", 80)).unwrap();
    assert_eq!(
        said(&proxy),
        "0201",
        "a counter takes no 0, an unknown id is not found"
    );
    assert_eq!((proxy.metric("key"), proxy.metric("value")), (6, 7));
    assert!(format!("{:?}", one.tick(plugin).unwrap_err()).contains("cannot change by -8"));
}

#[test]
fn an_answer_of_the_filter_passes_its_response_side() {
    let imports = r#"(import "env" "proxy_send_local_response"
        (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"
        (data (i32.const 200) "\01\00\00\00\03\00\00\00\01\00\00\00x-a\001\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $answer (i32.const 429) (i32.const 16) (i32.const 3) (i32.const 48) (i32.const 5)
                (i32.const 200) (i32.const 18) (i32.const 8)))
            (i32.const 1))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $say (local.get 1))
            (i32.const 0))"#;
    let (proxy, mut vm) = start(imports, body);
    let plugin = vm.configure("").unwrap();
    let mut request = traffic::outbound("a", 80);
    let (_, outcome) = vm.open(plugin, &request).unwrap();
    let answer = outcome.answered().unwrap();
    assert_eq!(
        (answer.status, answer.grpc_status, answer.details.as_str()),
        (429, 8, "key")
    );
    assert_eq!(answer.headers.only(":status").unwrap(), "429");
    assert_eq!(answer.headers.only("x-a").unwrap(), "1");
    assert_eq!(said(&proxy), "04", "four headers pass the response side");
    request.headers = request
        .headers
        .with("content-type", "application/grpc+proto");
    let headers = vm
        .open(plugin, &request)
        .unwrap()
        .1
        .answered()
        .unwrap()
        .headers;
    assert_eq!(headers.only(":status").unwrap(), "200");
    assert_eq!(headers.only("grpc-status").unwrap(), "8");
}

#[test]
fn faults_are_done_instead_of_the_work() {
    let imports =
        r#"(import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 200) "xds\00cluster_name")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i64.store (i32.const 4) (i64.const 0))
            (call $say (call $get (i32.const 200) (i32.const 16) (i32.const 4) (i32.const 8)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 4)) (i32.load (i32.const 8))))
            (i32.const 0))"#;
    let (proxy, mut vm) = start(imports, body);
    let plugin = vm.configure("").unwrap();
    let mut read = || {
        vm.open(plugin, &traffic::outbound("a", 80)).unwrap();
        said(&proxy)
    };
    let function = HostFunction::GetProperty;
    proxy.faults().after(function, 1, Fault::Status(Status(9)));
    assert_eq!(read(), "0outbound|80||a");
    assert_eq!(read(), "9");
    assert_eq!(read(), "0outbound|80||a");
    for (fault, expected) in [
        (Fault::Value(b"else".to_vec()), "0else"),
        (Fault::Value(Vec::new()), "0"),
        (Fault::AllocatedEmpty, "0"),
        (Fault::Silent, "0"),
        (Fault::Status(Status::SERIALIZATION_FAILURE), "3"),
    ] {
        proxy.faults().always(function, fault.clone());
        assert_eq!(read(), expected, "{fault:?}");
        proxy.faults().clear();
        proxy
            .faults()
            .property(&["xds", "cluster_name"], fault.clone());
        assert_eq!(read(), expected, "{fault:?}");
        proxy.faults().clear();
    }
    let other = proxy.clone();
    proxy
        .faults()
        .before(function, move || other.set_shared("written", b"meanwhile"));
    read();
    assert_eq!(proxy.shared("written").unwrap(), b"meanwhile");
}

#[test]
fn every_vm_ticks_when_it_is_due() {
    let imports = r#"(import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))"#;
    let body = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $period (i32.const 100))) (i32.const 1))
        (func (export "proxy_on_tick") (param i32) (call $say (i32.const 1)))"#;
    let (proxy, mut one) = start(imports, body);
    let mut two = second_vm(&proxy, imports, body);
    one.configure("").unwrap();
    let old = two.configure("").unwrap();
    let before = proxy.clock().monotonic();
    pass_time(
        proxy.clock(),
        &mut [&mut one, &mut two],
        Duration::from_millis(950),
    )
    .unwrap();
    assert_eq!(said(&proxy).len(), 18);
    assert_eq!(proxy.clock().monotonic() - before, 950_000_000);
    two.retire(old).unwrap();
    pass_time(
        proxy.clock(),
        &mut [&mut one, &mut two],
        Duration::from_millis(1000),
    )
    .unwrap();
    assert_eq!(said(&proxy).len(), 10);
}

#[test]
fn cost_counts_calls_and_fuel() {
    let body = r#"(func (export "proxy_on_tick") (param i32) (call $say (i32.const 1)) (call $say (i32.const 1)))"#;
    let (_, mut vm) = start("", body);
    let plugin = vm.configure("").unwrap();
    vm.take_cost();
    vm.tick(plugin).unwrap();
    let first = vm.take_cost();
    vm.tick(plugin).unwrap();
    assert_eq!(first, vm.take_cost(), "the same work costs the same");
    assert_eq!(first.total_calls(), 2);
    assert!((10..100).contains(&first.fuel), "{}", first.fuel);
}
