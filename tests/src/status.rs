//! The names of the proxy-wasm ABI 0.2.1: its functions and its statuses.

use std::fmt;

/// The answer of a host function, as the number that crosses the boundary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u32);

impl Status {
    /// Done.
    pub const OK: Status = Status(0);
    /// No such property, key, metric, header map entry or foreign function.
    pub const NOT_FOUND: Status = Status(1);
    /// Not here, or not like this.
    pub const BAD_ARGUMENT: Status = Status(2);
    /// The value exists and cannot be written as bytes.
    pub const SERIALIZATION_FAILURE: Status = Status(3);
    /// Bytes that the host could not read.
    pub const PARSE_FAILURE: Status = Status(4);
    /// Queues only.
    pub const EMPTY: Status = Status(7);
    /// Somebody else wrote the entry first.
    pub const CAS_MISMATCH: Status = Status(8);

    /// Every status that the ABI or a host of it has ever named, the ones in between, and numbers that none
    /// has: what a filter must bear from each function.
    #[must_use]
    pub fn every_error() -> Vec<Status> {
        let mut all: Vec<Status> = (1..=13).map(Status).collect();
        all.extend([99, 255, 256, 0x7fff_ffff, 0x8000_0000, u32::MAX].map(Status));
        all
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "Ok"),
            1 => write!(f, "NotFound"),
            2 => write!(f, "BadArgument"),
            3 => write!(f, "SerializationFailure"),
            4 => write!(f, "ParseFailure"),
            6 => write!(f, "InvalidMemoryAccess"),
            7 => write!(f, "Empty"),
            8 => write!(f, "CasMismatch"),
            10 => write!(f, "InternalFailure"),
            12 => write!(f, "Unimplemented"),
            other => write!(f, "status {other}"),
        }
    }
}

macro_rules! host_functions {
    ($($variant:ident = $module:literal $name:literal: $doc:literal,)*) => {
        /// A function that this host serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum HostFunction {
            $(#[doc = $doc] $variant,)*
        }

        impl HostFunction {
            /// All of them, in the order of the table.
            pub const ALL: &'static [HostFunction] = &[$(HostFunction::$variant,)*];

            /// The module of the import.
            #[must_use]
            pub fn module(self) -> &'static str {
                match self { $(HostFunction::$variant => $module,)* }
            }

            /// The name of the import.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(HostFunction::$variant => $name,)* }
            }
        }
    };
}

host_functions! {
    Log = "env" "proxy_log": "A line for the proxy's log.",
    GetProperty = "env" "proxy_get_property": "An attribute of the stream or of the node.",
    SetProperty = "env" "proxy_set_property": "Filter state of the stream, for the access log.",
    GetHeaderMapPairs = "env" "proxy_get_header_map_pairs": "All headers at once.",
    GetHeaderMapValue = "env" "proxy_get_header_map_value": "The first value of one header.",
    ReplaceHeaderMapValue = "env" "proxy_replace_header_map_value": "One value instead of all of that name.",
    AddHeaderMapValue = "env" "proxy_add_header_map_value": "One value beside those of that name.",
    RemoveHeaderMapValue = "env" "proxy_remove_header_map_value": "All values of that name, away.",
    SendLocalResponse = "env" "proxy_send_local_response": "An answer instead of the upstream's.",
    GetSharedData = "env" "proxy_get_shared_data": "An entry that all VMs of the process see.",
    SetSharedData = "env" "proxy_set_shared_data": "Compare and swap, or overwrite.",
    DefineMetric = "env" "proxy_define_metric": "A counter, gauge or histogram by its name.",
    IncrementMetric = "env" "proxy_increment_metric": "Adds to a counter or gauge.",
    RecordMetric = "env" "proxy_record_metric": "Sets a gauge, adds to a counter, feeds a histogram.",
    GetBufferBytes = "env" "proxy_get_buffer_bytes": "The configuration of the plugin or of the VM.",
    SetTickPeriod = "env" "proxy_set_tick_period_milliseconds": "How often proxy_on_tick comes.",
    GetCurrentTime = "env" "proxy_get_current_time_nanoseconds": "The wall clock.",
    CallForeignFunction = "env" "proxy_call_foreign_function": "Envoy's own additions, by name.",
    SetEffectiveContext = "env" "proxy_set_effective_context": "On whose behalf the next calls are made.",
    ClockTimeGet = "wasi_snapshot_preview1" "clock_time_get": "The wall clock (0) or the monotonic one (1).",
}
