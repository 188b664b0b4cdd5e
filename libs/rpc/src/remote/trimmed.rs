//! A request body as it is best sent: without empty pieces, and with its end known as soon as can be.
//!
//! A body that came over HTTP/2 often ends with an empty piece. Sent on as a piece of its own that is not the last, it
//! is one of the hundred that a peer takes over the life of a connection, before it takes the connection for an attack
//! and ends it, with all calls that run over it. Source: h2, `MAX_RECV_EMPTY_DATA_FRAMES`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

type Piece = Result<Frame<Bytes>, Status>;

/// The body. Looks one piece ahead if that takes no waiting, so that its last bytes and its end are one frame.
pub(crate) struct Trimmed {
    source: Body,
    ahead: Option<Piece>,
    ended: bool,
}

impl Trimmed {
    pub(crate) fn new(source: Body) -> Self {
        Self {
            source,
            ahead: None,
            ended: false,
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let piece = ready!(Pin::new(&mut self.source).poll_frame(context));
            let empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            match piece {
                Some(Ok(frame)) if empty(&frame) => {}
                Some(piece) => return Poll::Ready(Some(piece)),
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl http_body::Body for Trimmed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let piece = match self.ahead.take() {
            Some(piece) => Some(piece),
            None => ready!(self.next(context)),
        };
        if matches!(&piece, Some(Ok(frame)) if frame.is_data())
            && let Poll::Ready(ahead) = self.next(context)
        {
            self.ahead = ahead;
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && (self.ended || self.source.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    fn data(text: &'static str) -> Piece {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn trimmed(pieces: Vec<Piece>) -> Trimmed {
        let pieces = http_body_util::StreamBody::new(tokio_stream::iter(pieces));
        Trimmed::new(Body::new(pieces))
    }

    /// The pieces, each with whether it is known to be the last.
    async fn read(mut body: Trimmed) -> Vec<(String, bool)> {
        let mut read = Vec::new();
        while let Some(piece) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let told = match piece {
                Ok(frame) => frame.into_data().map_or("trailers".to_owned(), |data| {
                    String::from_utf8_lossy(&data).into_owned()
                }),
                Err(status) => status.message().to_owned(),
            };
            read.push((told, body.is_end_stream()));
        }
        read
    }

    #[tokio::test]
    async fn empty_pieces_are_left_out_and_the_last_piece_is_known() {
        let told = |pieces: &[(&str, bool)]| -> Vec<(String, bool)> {
            let owned = |(text, last): &(&str, bool)| ((*text).to_owned(), *last);
            pieces.iter().map(owned).collect()
        };
        let pieces = vec![data(""), data("a"), data(""), data("b"), data("")];
        assert_eq!(
            read(trimmed(pieces)).await,
            told(&[("a", false), ("b", true)])
        );
        assert_eq!(read(trimmed(vec![data("")])).await, told(&[]));
        let trailers = Ok(Frame::trailers(http::HeaderMap::new()));
        assert_eq!(
            read(trimmed(vec![data("a"), trailers])).await,
            told(&[("a", false), ("trailers", false)])
        );
        let broken = Err(Status::aborted("it broke"));
        assert_eq!(
            read(trimmed(vec![data("a"), broken])).await,
            told(&[("a", false), ("it broke", false)])
        );
    }

    #[tokio::test]
    async fn a_piece_does_not_wait_for_the_next() {
        let (send, pieces) = mpsc::channel(1);
        let pieces = http_body_util::StreamBody::new(ReceiverStream::new(pieces));
        let mut body = Trimmed::new(Body::new(pieces));
        send.send(data("a")).await.unwrap();
        let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(first.is_some_and(|piece| piece.is_ok()) && !body.is_end_stream());
        drop(send);
        let end = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(end.is_none() && body.is_end_stream());
    }
}
