//! The one place that talks to the host.
//!
//! The functions are declared here, in their byte variants, because the wrappers of the
//! `proxy-wasm` crate panic on statuses that they do not expect and on values that are not UTF-8,
//! and a panic costs the whole VM. Here every status that is not Ok is an error or an absence.
//!
//! Buffers that the host hands over were allocated by the crate's `malloc` (a boxed slice), so
//! they are taken over and freed as such.

use core::ptr::{null, null_mut};

/// Host functions of the ABI 0.2.1, and the clock of WASI, which Envoy serves to every module.
mod abi {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, data: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            kind: u32,
            start: usize,
            most: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            map: u32,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, by: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    }
}

/// A status of the host that is not Ok, as the number that it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u32);

type Result<T> = core::result::Result<T, Status>;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;

/// A header map of a stream.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    Request = 0,
    Response = 2,
}

/// What a metric is.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    Counter = 0,
    Gauge = 1,
}

/// Paths of properties, parts ended by zero bytes.
pub(crate) mod path {
    pub(crate) const ENVOY_CLUSTER: &[u8] = b"xds\0cluster_name";
    pub(crate) const NODE_ID: &[u8] = b"xds\0node\0id";
    pub(crate) const OWN_CLUSTER: &[u8] = b"xds\0node\0metadata\0CLUSTER_ID";
    pub(crate) const LABELS: &[u8] = b"xds\0node\0metadata\0LABELS\0";
    pub(crate) const PLUGIN_NAME: &[u8] = b"plugin_name";
    pub(crate) const PLUGIN_ROOT_ID: &[u8] = b"plugin_root_id";
    /// Lands as filter state `wasm.spillway.reason`.
    pub(crate) const REASON: &[u8] = b"spillway.reason";
}

fn check(status: u32) -> Result<()> {
    if status == OK {
        Ok(())
    } else {
        Err(Status(status))
    }
}

/// Calls `get` with places for a buffer and takes the buffer over. `None`: not found, or empty.
fn take(get: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Option<Box<[u8]>>> {
    let mut data: *mut u8 = null_mut();
    let mut size: usize = 0;
    let status = get(&raw mut data, &raw mut size);
    // Taken over before the status is looked at: what was allocated is freed in any case.
    let value = if data.is_null() || size == 0 {
        None
    } else {
        // SAFETY: the host got `data` from our allocator, with exactly `size` bytes, and forgot it.
        Some(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(data, size)) })
    };
    match status {
        OK => Ok(value),
        NOT_FOUND => Ok(None),
        status => Err(Status(status)),
    }
}

/// A property of the node or the stream; `None` where it is absent.
pub(crate) fn property(path: &[u8]) -> Result<Option<Box<[u8]>>> {
    // SAFETY: the host reads `path` and writes the two places during the call.
    take(|data, size| unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Sets filter state `wasm.PATH`.
pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Result<()> {
    // SAFETY: the host reads both slices during the call.
    check(unsafe {
        abi::proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len())
    })
}

/// The plugin's configuration, of `size` bytes.
pub(crate) fn plugin_configuration(size: usize) -> Result<Option<Box<[u8]>>> {
    const PLUGIN_CONFIGURATION: u32 = 7;
    // SAFETY: the host writes the two places during the call.
    take(|data, got| unsafe {
        abi::proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, got)
    })
}

/// All headers, as [`crate::pairs::each`] reads them.
pub(crate) fn headers(map: Map) -> Result<Option<Box<[u8]>>> {
    // SAFETY: the host writes the two places during the call.
    take(|data, size| unsafe { abi::proxy_get_header_map_pairs(map as u32, data, size) })
}

/// Sets a header, or overwrites it.
pub(crate) fn set_header(map: Map, name: &[u8], value: &[u8]) -> Result<()> {
    // SAFETY: the host reads both slices during the call.
    check(unsafe {
        abi::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Takes a header off, with all its values.
pub(crate) fn remove_header(map: Map, name: &[u8]) -> Result<()> {
    // SAFETY: the host reads the slice during the call.
    check(unsafe { abi::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Answers the request without the application. `headers`: as [`crate::pairs::encode`] writes.
pub(crate) fn respond(status: u32, details: &str, headers: &[u8], grpc_status: i32) -> Result<()> {
    // SAFETY: the host reads the slices during the call.
    check(unsafe {
        abi::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            null(),
            0,
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

/// A shared value with the number that [`set_shared`] compares.
pub(crate) fn shared(key: &[u8]) -> Result<Option<(Box<[u8]>, u32)>> {
    let mut cas = 0;
    // SAFETY: the host reads `key` and writes the three places during the call.
    let value = take(|data, size| unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas)
    })?;
    Ok(value.map(|value| (value, cas)))
}

/// Stores a shared value, unless another thread changed it since `cas` was read; 0 overwrites.
pub(crate) fn set_shared(key: &[u8], value: &[u8], cas: u32) -> Result<()> {
    // SAFETY: the host reads both slices during the call.
    check(unsafe {
        abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    })
}

/// Defines a metric, or finds it by its name.
pub(crate) fn define_metric(kind: Metric, name: &str) -> Result<u32> {
    let mut id = 0;
    // SAFETY: the host reads `name` and writes `id` during the call.
    let status =
        unsafe { abi::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
    check(status).map(|()| id)
}

/// Adds to a counter.
pub(crate) fn increment_metric(id: u32, by: u64) -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { abi::proxy_increment_metric(id, i64::try_from(by).unwrap_or(i64::MAX)) })
}

/// Sets a gauge.
pub(crate) fn record_metric(id: u32, value: u64) -> Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { abi::proxy_record_metric(id, value) })
}

/// Asks for a tick each `period` ms.
pub(crate) fn set_tick_period(period: u32) -> Result<()> {
    // SAFETY: takes a number only.
    check(unsafe { abi::proxy_set_tick_period_milliseconds(period) })
}

/// The monotonic clock, ns; one for all threads of an Envoy. Never goes back.
pub(crate) fn monotonic_now() -> Result<u64> {
    clock(1)
}

/// The wall clock, ns since 1970 UTC.
pub(crate) fn wall_now() -> Result<u64> {
    clock(0)
}

fn clock(id: u32) -> Result<u64> {
    let mut time = 0;
    // SAFETY: the host writes `time` during the call.
    check(unsafe { abi::clock_time_get(id, 1, &raw mut time) }).map(|()| time)
}

/// Writes a warning to Envoy's log.
pub(crate) fn warn(line: &str) {
    const WARN: u32 = 3;
    // SAFETY: the host reads the slice during the call. A log that fails has nowhere to be told.
    let _ = unsafe { abi::proxy_log(WARN, line.as_ptr(), line.len()) };
}
