//! The scenes: on which side of the mesh, and what the requests meet there.

use anyhow::{Context, Result, ensure};

use crate::traffic::{Answer, Connections};
use crate::variant::{Job, Variant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// The caller's side, below the limit; answers tell the load, as they do from 80 % on.
    CallerHome,
    /// The same; answers tell nothing.
    CallerHomeQuiet,
    /// The server's side, below the limit.
    ServerBelow,
    /// The server's side above the limit: every second request is bounced.
    ServerBounce,
}

/// The headers of a request with cookies, tracing and a token, as they come from an application.
const HEADERS: &str = "host: worker-service.default.svc.cluster.local\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    accept: application/json, text/plain, */*\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    accept-language: en-GB,en;q=0.9,de;q=0.8\r\n\
    authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImtleS0xIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiMTIzNDU2Nzg5MCIsImF1ZCI6WyJvcmRlcnMiLCJzaG9wIl0sInNjb3BlIjoicmVhZCB3cml0ZSIsImlhdCI6MTc5NTI1MjgwMCwiZXhwIjoxNzk1MjU2NDAwfQ.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU\r\n\
    cookie: session=7c1d4a8e2b; theme=dark; consent=all\r\n\
    referer: https://shop.example/orders\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    x-request-id: 9f0b6a5e-6c1e-4d2e-8d3b-2f6f0e9d7a11\r\n\
    x-api-version: 2026-11-01\r\n\
    x-tenant: north\r\n";

impl Scene {
    pub(crate) const ALL: [Self; 4] = [
        Self::CallerHome,
        Self::CallerHomeQuiet,
        Self::ServerBelow,
        Self::ServerBounce,
    ];

    /// As it stands in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CallerHome => "caller-home",
            Self::CallerHomeQuiet => "caller-home-quiet",
            Self::ServerBelow => "server-below",
            Self::ServerBounce => "server-bounce",
        }
    }

    /// The scene of this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|scene| scene.name() == name);
        found.with_context(|| format!("no scene {name}"))
    }

    fn path(self) -> &'static str {
        match self {
            Self::CallerHome => "/load/orders?state=open",
            _ => "/orders?state=open",
        }
    }

    /// The requests, which are sent by turns.
    pub(crate) fn requests(self) -> Vec<Vec<u8>> {
        let flags: &[&str] = match self {
            Self::ServerBounce => &["b", ""],
            _ => &["b"],
        };
        let requests = flags.iter().map(|flags| self.request(self.path(), flags));
        requests.collect()
    }

    fn request(self, path: &str, flags: &str) -> Vec<u8> {
        let between = match self {
            Self::CallerHome | Self::CallerHomeQuiet => String::new(),
            Self::ServerBelow => between_sidecars("below", flags),
            Self::ServerBounce => between_sidecars("bounce", flags),
        };
        format!("GET {path} HTTP/1.1\r\n{HEADERS}{between}\r\n").into_bytes()
    }

    /// The least and the most that may be refused of so many requests.
    pub(crate) fn refused(self, requests: usize) -> (usize, usize) {
        match self {
            // Envoy's own filter refuses by chance.
            Self::ServerBounce => (requests * 4 / 10, requests * 6 / 10),
            _ => (0, 0),
        }
    }

    /// Sees that the variant does what it is measured for.
    ///
    /// # Errors
    /// When a header is missing that should be there, or was left that should not.
    pub(crate) async fn check(
        self,
        variant: &Variant,
        connections: &mut Connections,
    ) -> Result<()> {
        let answer = connections.ask(&self.request("/seen", "")).await?;
        let name = variant.name();
        let seen = |text: &str| answer.body.to_ascii_lowercase().contains(text);
        let told = |text: &str| answer.head.to_ascii_lowercase().contains(text);
        let right = match (variant.job(), self) {
            (Job::Other, _) => true,
            (Job::Same, Self::CallerHome | Self::CallerHomeQuiet) => {
                seen("x-spillway: primary;mesh-token-1;primary;below;1;b")
                    && !told("x-spillway-load")
            }
            (Job::Same, Self::ServerBelow | Self::ServerBounce) => {
                seen("x-spillway-prefix: home-")
                    && !seen("x-spillway:")
                    && told("x-spillway-prefix: home-")
                    && !told("x-spillway-load: primary;900;1")
            }
        };
        let Answer { head, body } = &answer;
        ensure!(
            right,
            "{name} does not do its job in {self:?}: {head}{body}"
        );
        Ok(())
    }
}

/// What the caller's sidecar adds.
fn between_sidecars(policy: &str, flags: &str) -> String {
    format!(
        "x-forwarded-proto: http\r\n\
         x-envoy-attempt-count: 1\r\n\
         x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/worker;Hash=4f1c0d8b5e2a7c96d3b1a0f9e8d7c6b5a49382716f5e4d3c2b1a09f8e7d6c5b4;Subject=\"\";URI=spiffe://cluster.local/ns/shop/sa/shop\r\n\
         x-spillway: primary;mesh-token-1;primary;{policy};1;{flags}\r\n"
    )
}
