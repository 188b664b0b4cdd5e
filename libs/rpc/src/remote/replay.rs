//! A request body that can be sent again: what was read of it is kept, up to a limit.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::{Status, body::Body};

use super::trimmed::Trimmed;

/// Keeps a body while it is sent. The bytes themselves are shared, not copied.
pub(crate) struct Replay {
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    source: Trimmed,
    read: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// What may still be kept.
    room: usize,
    overflowed: bool,
    /// Only the newest view may read on.
    view: u64,
}

impl Replay {
    /// `limit`: bytes that are kept; a longer body is sent once.
    pub(crate) fn new(source: Body, limit: usize) -> Self {
        let kept = Kept {
            source: Trimmed::new(source),
            read: Vec::new(),
            trailers: None,
            ended: false,
            room: limit,
            overflowed: false,
            view: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// The body from its start; nothing if too much was read of it to start again. Ends earlier views.
    pub(crate) fn body(&self) -> Option<Body> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.overflowed {
            return None;
        }
        kept.view += 1;
        let view = View {
            kept: self.kept.clone(),
            view: kept.view,
            next: 0,
        };
        drop(kept);
        Some(Body::new(view))
    }

    /// Whether [`Replay::body`] would give one.
    pub(crate) fn can_repeat(&self) -> bool {
        !self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .overflowed
    }
}

struct View {
    kept: Arc<Mutex<Kept>>,
    view: u64,
    next: usize,
}

impl http_body::Body for View {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut kept = this.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.view != this.view {
            return Poll::Ready(Some(Err(Status::cancelled(
                "the request is sent again elsewhere",
            ))));
        }
        if let Some(bytes) = kept.read.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if kept.ended {
            let trailers = if this.next == kept.read.len() {
                kept.trailers.clone()
            } else {
                None
            };
            this.next = kept.read.len() + 1;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match Pin::new(&mut kept.source).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(None) => {
                kept.ended = true;
                return Poll::Ready(None);
            }
            other => return other,
        };
        if let Some(bytes) = frame.data_ref() {
            let bytes = bytes.clone();
            kept.ended = kept.source.is_end_stream();
            if kept.keep(bytes) {
                this.next += 1;
            } else {
                this.next = 0;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
            kept.ended = true;
            this.next = kept.read.len() + 1;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.ended && self.next >= kept.read.len() && kept.trailers.is_none()
    }
}

impl Kept {
    /// Whether the bytes were kept; when the room is used up everything is let go.
    fn keep(&mut self, bytes: Bytes) -> bool {
        if self.overflowed || bytes.len() > self.room {
            self.overflowed = true;
            self.read = Vec::new();
            return false;
        }
        self.room -= bytes.len();
        self.read.push(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn source(parts: &[&'static str]) -> Body {
        let frames: Vec<Result<_, Status>> = parts
            .iter()
            .map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))))
            .collect();
        Body::new(http_body_util::StreamBody::new(tokio_stream::iter(frames)))
    }

    async fn text(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_sent_again_from_its_start() {
        let replay = Replay::new(source(&["ab", "cd", "e"]), 100);
        let mut first = replay.body().unwrap();
        first.frame().await.unwrap().unwrap();
        assert_eq!(text(replay.body().unwrap()).await, "abcde");
        assert!(
            first.frame().await.unwrap().is_err(),
            "an earlier view reads nothing more"
        );
        assert_eq!(text(replay.body().unwrap()).await, "abcde");
    }

    #[tokio::test]
    async fn a_long_body_is_sent_once() {
        let replay = Replay::new(source(&["ab", "cd", "e"]), 3);
        assert_eq!(text(replay.body().unwrap()).await, "abcde");
        assert!(!replay.can_repeat());
        assert!(replay.body().is_none());
    }
}
