//! What is watched in a member.

use kube::api::ApiResource;
use spillway_api::istio;
use spillway_plan::output::{MANAGED_BY, SPILLWAY};

/// A kind of object that a plan looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces: their labels tell whether sidecars are injected. Metadata only.
    Namespace,
    /// Services.
    Service,
    /// EndpointSlices, of which only a count is kept.
    EndpointSlice,
    /// DestinationRules, the users' and ours.
    DestinationRule,
    /// VirtualServices, the users' and ours.
    VirtualService,
    /// WasmPlugins of ours.
    WasmPlugin,
    /// Istio's Gateways.
    Gateway,
    /// ServiceEntries.
    ServiceEntry,
    /// Gateway API's HTTPRoutes.
    HttpRoute,
}

impl Kind {
    /// What is watched in every namespace that matters.
    pub const NAMESPACED: [Self; 8] = [
        Self::Service,
        Self::EndpointSlice,
        Self::DestinationRule,
        Self::VirtualService,
        Self::WasmPlugin,
        Self::Gateway,
        Self::ServiceEntry,
        Self::HttpRoute,
    ];

    /// The kind of ours of this name.
    #[must_use]
    pub fn of_ours(kind: istio::Kind) -> Option<Self> {
        [
            Self::DestinationRule,
            Self::VirtualService,
            Self::WasmPlugin,
        ]
        .into_iter()
        .find(|known| known.names().2 == kind.kind)
    }

    /// Whether objects of ours are of this kind.
    #[must_use]
    pub const fn is_written(self) -> bool {
        matches!(
            self,
            Self::DestinationRule | Self::VirtualService | Self::WasmPlugin
        )
    }

    /// Whether a mesh does well without it: Istio's own kinds are installed with Istio.
    #[must_use]
    pub(crate) const fn is_optional(self) -> bool {
        matches!(self, Self::HttpRoute)
    }

    /// Group, version, kind and plural.
    const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        const NETWORKING: &str = "networking.istio.io";
        match self {
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::DestinationRule => (NETWORKING, "v1", "DestinationRule", "destinationrules"),
            Self::VirtualService => (NETWORKING, "v1", "VirtualService", "virtualservices"),
            Self::WasmPlugin => (
                "extensions.istio.io",
                "v1alpha1",
                "WasmPlugin",
                "wasmplugins",
            ),
            Self::Gateway => (NETWORKING, "v1", "Gateway", "gateways"),
            Self::ServiceEntry => (NETWORKING, "v1", "ServiceEntry", "serviceentries"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
        }
    }

    /// How an API server calls it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// Which of its objects are watched.
    pub(crate) fn selector(self) -> Option<String> {
        (self == Self::WasmPlugin).then(|| format!("{MANAGED_BY}={SPILLWAY}"))
    }

    /// As in a log line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.names().2
    }
}
