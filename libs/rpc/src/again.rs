//! Answers that go on: whether they still may is asked again at every message.
//!
//! A call is decided on when it begins. A stream may outlast the credential or the grant that it began by, so each
//! of its messages is decided on as a call would be; what is taken back holds for streams as fast as for calls. An
//! answer that says nothing for a while tells nothing meanwhile.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use tonic::body::Body;

use crate::Failure;
use crate::serve::trailers;

type Asking = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Asks whether the caller may still be answered.
#[derive(Clone)]
pub struct Again(Arc<dyn Fn() -> Asking + Send + Sync>);

impl Again {
    /// `ask`: decides as at the beginning of the call; an error ends the answer.
    pub fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    /// The same, and whoever is told hears why an answer ended.
    pub fn telling(self, tell: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        let tell = Arc::new(tell);
        Self::new(move || {
            let (asking, tell) = ((self.0)(), tell.clone());
            async move { asking.await.inspect_err(|failure| tell(failure)) }
        })
    }

    /// The answer, asked about at every message.
    pub fn guard(self, answer: Response<Body>) -> Response<Body> {
        answer.map(|body| {
            Body::new(Guarded {
                body,
                again: self,
                held: None,
                ended: false,
            })
        })
    }
}

impl fmt::Debug for Again {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Again")
    }
}

/// A streamed answer. A message is held back until it is known that its caller may have it.
struct Guarded {
    body: Body,
    again: Again,
    held: Option<(Frame<Bytes>, Asking)>,
    ended: bool,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.held.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) if frame.is_data() => {
                    let asking = (self.again.0)();
                    self.held = Some((frame, asking));
                }
                other => return Poll::Ready(other),
            }
        }
        let Some((frame, mut asking)) = self.held.take() else {
            return Poll::Ready(None);
        };
        match asking.as_mut().poll(context) {
            Poll::Pending => {
                self.held = Some((frame, asking));
                Poll::Pending
            }
            Poll::Ready(Ok(())) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Err(failure)) => {
                self.ended = true;
                self.body = Body::empty();
                Poll::Ready(Some(Ok(Frame::trailers(trailers(failure)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.held.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::Code;

    #[tokio::test]
    async fn an_answer_ends_before_the_message_that_its_caller_may_no_longer_have() {
        let message = || Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(b"m")));
        let messages = futures::stream::repeat_with(message);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let again = Again::new(move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move {
                // As if it had to be asked for elsewhere.
                tokio::task::yield_now().await;
                match number {
                    0..3 => Ok(()),
                    _ => Err(Failure::new(Code::PermissionDenied, "ACCESS_DENIED")),
                }
            }
        });
        let told = Arc::new(AtomicUsize::new(0));
        let tells = told.clone();
        let again = again.telling(move |failure| {
            assert_eq!(failure.reason, "ACCESS_DENIED");
            tells.fetch_add(1, Ordering::SeqCst);
        });
        let answer = again.guard(Response::new(Body::new(StreamBody::new(messages))));
        let read = answer.into_body().collect().await.unwrap();
        assert_eq!(read.trailers().unwrap()["grpc-status"], "7");
        assert_eq!(read.to_bytes(), "mmm");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }
}
