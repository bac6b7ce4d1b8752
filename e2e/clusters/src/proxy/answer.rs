//! Requests.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Version};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use kube::client::Body;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::Shared;
use crate::identity::User;

type AnswerBody = UnsyncBoxBody<Bytes, kube::Error>;

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// Waits while the proxy hangs; for ever when it was dropped meanwhile.
pub(super) async fn unless_it_hangs(hangs: &mut watch::Receiver<bool>) {
    if hangs.wait_for(|hangs| !hangs).await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(super) async fn answer(
    shared: &Shared,
    user: Option<&User>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<AnswerBody>> {
    let mut hangs = shared.hangs.subscribe();
    let (mut parts, body) = request.into_parts();
    // Of the connection to the API server, which kube's own client makes.
    parts.version = Version::HTTP_11;
    let failed = shared.faults.arrived(&parts);
    unless_it_hangs(&mut hangs).await;
    if let Some(status) = failed {
        // Read to its end, so that the connection can be used again.
        body.collect().await?;
        return error(status);
    }
    let client = match user {
        Some(user) => {
            parts
                .headers
                .insert(IMPERSONATE_USER, HeaderValue::from_str(&user.name)?);
            if let Some(group) = &user.group {
                parts
                    .headers
                    .insert(IMPERSONATE_GROUP, HeaderValue::from_str(group)?);
            }
            &shared.admin
        }
        None => &shared.anonymous,
    };
    let body = body.collect().await?.to_bytes();
    let version = (parts.uri.path() == "/version")
        .then(|| shared.version.lock().ok()?.clone())
        .flatten();
    let request = Request::from_parts(parts, Body::from(body.to_vec()));
    let response = client.send(request).await?;
    if let Some(version) = version {
        return pretended(response, &version).await;
    }
    Ok(response.map(|body| while_it_does_not_hang(body, hangs)))
}

/// Passes a body on, piece by piece: a watch hangs in the middle.
fn while_it_does_not_hang(body: Body, hangs: watch::Receiver<bool>) -> AnswerBody {
    let frames = stream::unfold((body, hangs), |(mut body, mut hangs)| async move {
        let frame = body.frame().await?;
        unless_it_hangs(&mut hangs).await;
        Some((frame, (body, hangs)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What an API server says of its version, but for the version.
async fn pretended(
    response: Response<Body>,
    version: &str,
) -> anyhow::Result<Response<AnswerBody>> {
    let body = response.into_body().collect().await?.to_bytes();
    let mut told: Map<String, Value> = serde_json::from_slice(&body)?;
    told.insert("gitVersion".to_owned(), version.into());
    let mut response = Response::new(Body::from(serde_json::to_vec(&told)?).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// An error as an API server words it.
fn error(code: StatusCode) -> anyhow::Result<Response<AnswerBody>> {
    let reason = match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Expired",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "",
    };
    let later = code == StatusCode::TOO_MANY_REQUESTS;
    let status = Status {
        status: Some("Failure".to_owned()),
        message: Some(format!("the fault proxy answers {code}")),
        reason: Some(reason.to_owned()),
        code: Some(code.as_u16().into()),
        details: later.then(|| StatusDetails {
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        }),
        ..Status::default()
    };
    let json = Body::from(serde_json::to_vec(&status)?);
    let mut response = Response::new(json.boxed_unsync());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if later {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}
