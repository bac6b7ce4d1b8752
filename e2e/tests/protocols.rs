//! What is not a plain request passes unharmed, with the filter on both sides, below the service's
//! limit and above it.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Method, Request};
use spillway_e2e::app::grpc::{self, GrpcCall};
use spillway_e2e::app::{Behaviour, Served, ws};
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::mesh::{HOURLY, Mesh};
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::{Protocol, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "worker-service.default.svc.cluster.local";
const LARGE: usize = 8 << 20;

fn policies(rate: &str) -> Policies {
    let policy = Policy::worker("primary", &["burst"]).total_rate("primary", rate, 1);
    Policies::for_clusters(["primary", "burst"]).policy(policy)
}

/// Below the limit, or far above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Below,
    Above,
}

async fn mesh(at: At, protocol: Protocol) -> Result<Mesh> {
    let rate = match at {
        At::Below => "100000/s",
        At::Above => HOURLY,
    };
    let mesh = Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(Service::worker().with(|service| service.protocol = protocol))
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller("shop", "primary")
        .filter(artefacts::filter()?)
        .policies(policies(rate))
        .start()
        .await?;
    if at == At::Above {
        mesh.fill("primary").await?;
    }
    Ok(mesh)
}

fn served(mesh: &Mesh) -> Vec<Served> {
    let all = ["primary", "burst"]
        .into_iter()
        .flat_map(|cluster| mesh.endpoints(cluster));
    all.flat_map(|endpoint| endpoint.app.served()).collect()
}

/// The one request that was served since this was last asked.
fn only(mesh: &Mesh) -> Result<Served> {
    let mut all = served(mesh);
    assert_eq!(all.len(), 1, "{all:?}");
    mesh.forget();
    all.pop().context("it was served")
}

async fn plain_requests(mesh: &Mesh, client: &HttpClient, at: At) -> Result<()> {
    let answer = client.call(&Call::get("/get")).await?;
    assert_eq!(answer.status.as_u16(), 200);
    let expected = if at == At::Below { "primary" } else { "burst" };
    assert_eq!(answer.body, expected.as_bytes());
    only(mesh)?;

    let head = Call {
        method: Method::HEAD,
        ..Call::get("/head")
    };
    let answer = client.call(&head).await?;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    let length = expected.len().to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
    assert_eq!(only(mesh)?.method, Method::HEAD);

    for cluster in ["primary", "burst"] {
        for endpoint in mesh.endpoints(cluster) {
            endpoint.app.behave(Behaviour {
                response_bytes: Some(LARGE),
                ..Behaviour::default()
            });
        }
    }
    let answer = client.call(&Call::get("/large")).await?;
    assert_eq!(answer.body.len(), LARGE);
    assert!(answer.body.iter().all(|byte| *byte == b'y'));
    only(mesh)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_http_versions_passes() -> Result<()> {
    for at in [At::Below, At::Above] {
        for upstream in [Protocol::Http1, Protocol::Http2] {
            let mesh = mesh(at, upstream).await?;
            for http2 in [false, true] {
                for cluster in ["primary", "burst"] {
                    for endpoint in mesh.endpoints(cluster) {
                        endpoint.app.behave(Behaviour::default());
                    }
                }
                let client = HttpClient::new(&Target {
                    http2,
                    ..mesh.target("shop")?
                });
                plain_requests(&mesh, &client, at).await.with_context(|| {
                    format!("{at:?}, {upstream:?}, HTTP/2 from the caller: {http2}")
                })?;
            }
        }
    }
    Ok(())
}

/// A client that sends its body only when it is asked for it.
async fn expecting(mesh: &Mesh) -> Result<()> {
    let mut stream = TcpStream::connect(mesh.target("shop")?.address).await?;
    let head = format!(
        "POST /expect HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await?;
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&[b'x'; 1000]).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_to_be_asked_for_passes() -> Result<()> {
    for at in [At::Below, At::Above] {
        let mesh = mesh(at, Protocol::Http1).await?;
        expecting(&mesh).await.with_context(|| format!("{at:?}"))?;
        let served = only(&mesh)?;
        assert_eq!(served.body_bytes, 1000, "{at:?}");
        let attempts = if at == At::Above { "3" } else { "1" };
        assert_eq!(served.header("x-envoy-attempt-count"), Some(attempts));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() -> Result<()> {
    for at in [At::Below, At::Above] {
        let mesh = mesh(at, Protocol::Http2).await?;
        let client = mesh.client("shop")?;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "17".parse()?);
        let frames = [
            Frame::data(Bytes::from_static(b"body")),
            Frame::trailers(trailers),
        ];
        let body = StreamBody::new(stream::iter(frames.map(Ok))).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{HOST}/trailers"))
            .header("te", "trailers")
            .body(body)?;
        assert_eq!(client.send(request).await?.status().as_u16(), 200);
        let one = only(&mesh)?;
        assert_eq!(one.body_bytes, 4);
        assert_eq!(one.trailers.get("x-checksum").context("trailers")?, "17");

        let answer = client.call(&Call::grpc_unary(10)).await?;
        assert_eq!(
            answer.trailers.get("grpc-status").context("trailers")?,
            "0",
            "{at:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_outlives_changes_of_the_configuration() -> Result<()> {
    for at in [At::Below, At::Above] {
        let mut mesh = mesh(at, Protocol::Http2).await?;
        let mut call = GrpcCall::open(&mesh.client("shop")?, grpc::BIDI, &[])?;
        call.send(b"before").await?;
        assert_eq!(call.receive().await?.as_deref(), Some(&b"before"[..]));
        for rate in ["5/s", "7/s"] {
            let generation = mesh.apply(&policies(rate)).await?;
            mesh.wait_generation(generation).await?;
            call.send(rate.as_bytes()).await?;
            assert_eq!(call.receive().await?.as_deref(), Some(rate.as_bytes()));
        }
        mesh.swap_filter(&artefacts::filter()?).await?;
        mesh.wait_plugins().await?;
        call.send(b"after").await?;
        assert_eq!(call.receive().await?.as_deref(), Some(&b"after"[..]));
        assert_eq!(call.end().await?.status, 0);
        only(&mesh)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_pass_and_are_never_bounced() -> Result<()> {
    for at in [At::Below, At::Above] {
        let mesh = mesh(at, Protocol::Http1).await?;
        let target = mesh.target("shop")?;
        let (mut socket, handshake) = ws::connect(&target, "/socket", &[]).await?;
        for message in ["one", "two"] {
            socket.send(message.into()).await?;
            let answer = tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
            assert_eq!(answer.context("open")??.to_text()?, message);
        }
        // No answer has told the caller of the load yet, so it came home, full or not.
        let one = only(&mesh)?;
        assert_eq!(one.header("x-envoy-attempt-count"), Some("1"), "{at:?}");
        assert_eq!(handshake.headers()["x-served-by"], "primary", "{at:?}");
        socket.close(None).await?;
    }
    Ok(())
}
