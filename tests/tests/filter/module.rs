//! What the module asks of its host, and how large it is.

use crate::sidecar::filter;

/// What the filter calls. A new line here is a decision: each function is one more thing that a host can refuse,
/// and most of them are a crossing a request.
const CALLED: [&str; 15] = [
    "env.proxy_define_metric",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_header_map_pairs",
    "env.proxy_get_property",
    "env.proxy_get_shared_data",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_send_local_response",
    "env.proxy_set_property",
    "env.proxy_set_shared_data",
    "env.proxy_set_tick_period_milliseconds",
    "wasi_snapshot_preview1.clock_time_get",
];

/// What the dispatcher of the `proxy-wasm` crate and the default methods of its traits import on top, and the filter
/// never calls. Every host of the ABI has them.
const LINKED: [&str; 20] = [
    "env.proxy_add_header_map_value",
    "env.proxy_call_foreign_function",
    "env.proxy_close_stream",
    "env.proxy_continue_stream",
    "env.proxy_dequeue_shared_queue",
    "env.proxy_done",
    "env.proxy_enqueue_shared_queue",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_header_map_value",
    "env.proxy_get_status",
    "env.proxy_grpc_call",
    "env.proxy_grpc_cancel",
    "env.proxy_grpc_close",
    "env.proxy_grpc_send",
    "env.proxy_grpc_stream",
    "env.proxy_http_call",
    "env.proxy_register_shared_queue",
    "env.proxy_resolve_shared_queue",
    "env.proxy_set_buffer_bytes",
    "env.proxy_set_header_map_pairs",
];

#[test]
fn it_imports_what_is_listed_and_nothing_else() {
    let imports: Vec<String> = filter()
        .imports()
        .into_iter()
        .map(|(module, name)| format!("{module}.{name}"))
        .collect();
    let mut listed = [CALLED.as_slice(), LINKED.as_slice()].concat();
    listed.sort_unstable();
    assert_eq!(imports, listed);
}

/// Each VM of each Envoy compiles it, and every control plane serves it.
#[test]
fn it_is_at_most_200_kib() {
    let size = filter().size();
    assert!(size <= 200 * 1024, "{size} bytes");
}

/// V8 compiles each function in one piece of memory, and the allocator of Envoy keeps what the largest needed: three
/// four times as large, which inlining had made, cost each sidecar 5 MB. Counted in what this host compiles it to.
#[test]
fn its_largest_function_is_small() {
    let largest = filter().largest_function();
    assert!(largest <= 32 * 1024, "{largest} bytes");
}
