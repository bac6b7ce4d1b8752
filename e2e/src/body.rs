//! Bodies of requests and responses.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// Any body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A body that is there at once, with a content-length.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body of frames that come one by one, without a content-length.
pub(crate) fn frames(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(frames.map(Ok::<_, Infallible>)).boxed_unsync()
}

/// So many chunks of this size, with a pause before each but the first.
#[must_use]
pub fn chunked(chunks: usize, size: usize, gap: Duration) -> Body {
    let chunk = Bytes::from(vec![b'x'; size]);
    frames(stream::iter(0..chunks).then(move |number| {
        let chunk = chunk.clone();
        async move {
            if number > 0 && !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
            Frame::data(chunk)
        }
    }))
}
