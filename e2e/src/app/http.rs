//! The server, and plain HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{ARRIVED, Behaviour, InFlight, SERVED_BY, Served, State, grpc, origin, ws};
use crate::body::{self, Body};
use crate::client::{Call, HttpClient};
use crate::locks::locked;

/// Serves connections until it is aborted, and with it every connection.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Without it small answers wait; with an error the connection is already gone.
                let _ = stream.set_nodelay(true);
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    let service = service_fn(|request| handle(Arc::clone(&state), request));
                    // How a connection ends is the peer's affair.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn handle(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let at = Instant::now();
    locked(&state.arrivals).push(at);
    let in_flight = InFlight::enter(&state);
    let behaviour = state.behaviour();
    let served = Served {
        at,
        method: request.method().clone(),
        path: request
            .uri()
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: request.headers().clone(),
        body_bytes: 0,
        aborted: false,
        trailers: HeaderMap::new(),
    };

    if ws::is_upgrade(&request) {
        let mut response = ws::accept(request, in_flight);
        add_headers(&mut response, &state, &behaviour, &served);
        state.record(served);
        return Ok(response);
    }
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|kind| kind.as_bytes().to_vec());
    if kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let mut response = grpc::serve(request, Arc::clone(&behaviour), in_flight);
        add_headers(&mut response, &state, &behaviour, &served);
        state.record(served);
        return Ok(response);
    }

    let served = if behaviour.read_body {
        read(request.into_body(), served).await
    } else {
        served
    };
    let head = served.method == Method::HEAD;
    state.record(served.clone());
    let relayed = match &behaviour.relay {
        Some(target) => HttpClient::new(target)
            .call(&Call::get(&served.path))
            .await
            .ok(),
        None => None,
    };
    if !behaviour.service_time.is_zero() {
        let turn = match &state.workers {
            Some(workers) => workers.acquire().await.ok(),
            None => None,
        };
        tokio::time::sleep(behaviour.service_time).await;
        drop(turn);
    }
    let body = match behaviour.response_bytes {
        Some(bytes) => Bytes::from(vec![b'y'; bytes]),
        None => Bytes::from(state.cluster.clone()),
    };
    let mut response = if head {
        // hyper leaves a body out by itself with HTTP/1.1 only.
        let mut response = Response::new(body::full(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        response
    } else {
        Response::new(body::full(body))
    };
    let status = StatusCode::from_u16(behaviour.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    add_headers(&mut response, &state, &behaviour, &served);
    if let Some(relayed) = relayed {
        for (name, value) in &relayed.headers {
            // These two describe the other body.
            if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    Ok(response)
}

/// Counts the body as it arrives, so that a large one is never held.
async fn read(mut body: Incoming, mut served: Served) -> Served {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => served.body_bytes += data.len(),
                Err(frame) => served
                    .trailers
                    .extend(frame.into_trailers().unwrap_or_default()),
            },
            Err(_) => {
                served.aborted = true;
                break;
            }
        }
    }
    served
}

fn add_headers(
    response: &mut Response<Body>,
    state: &State,
    behaviour: &Behaviour,
    request: &Served,
) {
    let mut add = |name: &str, value: &[u8]| {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
        let value = hyper::header::HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    };
    add(SERVED_BY, state.cluster.as_bytes());
    let arrived = request.at.saturating_duration_since(origin());
    add(ARRIVED, arrived.as_nanos().to_string().as_bytes());
    for (name, value) in &behaviour.headers {
        add(name, value.as_bytes());
    }
    for name in &behaviour.pass_on {
        if let Some(value) = request.headers.get(name) {
            add(name, value.as_bytes());
        }
    }
}
