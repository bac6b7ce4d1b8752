//! Narrow slices of Istio's resources: exactly the fields that Spillway writes.
//!
//! Everything is serialized as the API server stores it: what is not set is left out, so that an
//! object that was applied compares equal to the one that is wanted.

pub mod destination_rule;
pub mod virtual_service;
pub mod wasm_plugin;

/// `apiVersion` and `kind` of a type of Istio's, with its name in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The plural, as in paths.
    pub plural: &'static str,
}

impl Kind {
    /// `extensions.istio.io/v1alpha1`, `WasmPlugin`.
    pub const WASM_PLUGIN: Self = Self {
        group: "extensions.istio.io",
        version: "v1alpha1",
        kind: "WasmPlugin",
        plural: "wasmplugins",
    };
    /// `networking.istio.io/v1`, `DestinationRule`.
    pub const DESTINATION_RULE: Self = Self {
        group: "networking.istio.io",
        version: "v1",
        kind: "DestinationRule",
        plural: "destinationrules",
    };
    /// `networking.istio.io/v1`, `VirtualService`.
    pub const VIRTUAL_SERVICE: Self = Self {
        group: "networking.istio.io",
        version: "v1",
        kind: "VirtualService",
        plural: "virtualservices",
    };
    /// What Spillway writes, in the order in which it is written; it is removed in reverse. A
    /// plugin that chose a route before the route is there would lose the request.
    pub const ALL: [Self; 3] = [
        Self::DESTINATION_RULE,
        Self::VIRTUAL_SERVICE,
        Self::WASM_PLUGIN,
    ];

    /// As in `apiVersion`.
    #[must_use]
    pub fn api_version(self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}
