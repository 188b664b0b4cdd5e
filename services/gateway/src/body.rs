//! Bodies that come in: read within a time, at a rate, up to a size.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use commonplace_rpc::{Code, Failure};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::Options;

/// How often the rate is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// Unit of the memory for bodies.
const KIB: usize = 1_024;
/// How soon a body that found no room may come again.
const ROOM_AGAIN: Duration = Duration::from_millis(500);

/// What all bodies share.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    patience: Patience,
    limit: usize,
    room: Arc<Semaphore>,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    whole: Duration,
    bytes_per_window: u64,
}

/// A body in memory, with its share of the memory for bodies.
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    pub(crate) room: Vec<OwnedSemaphorePermit>,
}

impl Intake {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            patience: Patience {
                whole: Duration::from_secs(options.body_seconds),
                bytes_per_window: options.min_body_bytes_per_ten_seconds,
            },
            limit: options.max_json_bytes,
            room: Arc::new(Semaphore::new(
                options.max_json_bytes_in_flight.div_ceil(KIB),
            )),
        }
    }

    /// The body piece by piece.
    pub(crate) fn pieces(&self, body: Body) -> Pieces {
        let now = Instant::now();
        Pieces {
            body,
            patience: self.patience,
            end: now + self.patience.whole,
            window_end: now + WINDOW,
            in_window: 0,
        }
    }

    /// The whole body. Errors: it is too large, too slow, breaks off, or there is no room for it now.
    pub(crate) async fn whole(&self, body: Body) -> Result<Whole, Failure> {
        let announced = http_body::Body::size_hint(&body).lower();
        if announced > self.limit as u64 {
            return Err(self.too_large());
        }
        let mut pieces = self.pieces(body);
        let mut whole = Whole {
            bytes: Vec::new(),
            room: Vec::new(),
        };
        let mut reserved = 0;
        while let Some(piece) = pieces.next().await? {
            let length = whole.bytes.len() + piece.len();
            if length > self.limit {
                return Err(self.too_large());
            }
            // Room is taken as bytes arrive, so that announcing much and sending little keeps nobody out.
            let wanted = length.div_ceil(KIB) - reserved;
            if wanted > 0 {
                whole.room.push(self.room_for(wanted)?);
                reserved += wanted;
            }
            whole.bytes.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    fn room_for(&self, kib: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let taken = self.room.clone().try_acquire_many_owned(permits);
        taken.map_err(|_| {
            Failure::new(Code::ResourceExhausted, "BODIES_BUSY")
                .retry_after(ROOM_AGAIN)
                .message("too many large bodies at once; try again shortly")
        })
    }

    fn too_large(&self) -> Failure {
        let limit = self.limit;
        Failure::new(Code::ResourceExhausted, "BODY_TOO_LARGE")
            .field("body", &format!("expected at most {limit} bytes"))
            .metadata("limit_bytes", limit)
            .message(format!(
                "the body is larger than {limit} bytes; send it in parts or raise `gateway.max_json_bytes`"
            ))
    }
}

/// The pieces of a body, as long as they come fast enough.
pub(crate) struct Pieces {
    body: Body,
    patience: Patience,
    end: Instant,
    window_end: Instant,
    in_window: u64,
}

impl Pieces {
    /// The next piece; nothing at the end. Errors: too slow, or the body broke off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let until = self.end.min(self.window_end);
            let Ok(frame) = tokio::time::timeout_at(until, self.body.frame()).await else {
                self.next_window()?;
                continue;
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(broken_off()),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.in_window += piece.len() as u64;
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    fn next_window(&mut self) -> Result<(), Failure> {
        let least = self.patience.bytes_per_window;
        if Instant::now() >= self.end {
            let seconds = self.patience.whole.as_secs();
            return Err(too_slow(format!(
                "the body took longer than {seconds} s to arrive; send it in parts or raise `gateway.body_seconds`"
            )));
        }
        if self.in_window < least {
            return Err(too_slow(format!(
                "the body came slower than {least} bytes in ten seconds; send it again"
            )));
        }
        (self.window_end, self.in_window) = (Instant::now() + WINDOW, 0);
        Ok(())
    }
}

fn too_slow(text: String) -> Failure {
    Failure::new(Code::DeadlineExceeded, "BODY_TOO_SLOW").message(text)
}

fn broken_off() -> Failure {
    Failure::new(Code::InvalidArgument, "BODY_BROKEN_OFF")
        .field("body", "expected it to go on to its announced end")
        .message("the body broke off; send it again as a whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(options: Options) -> Intake {
        Intake::new(&options)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let still = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let failure = intake(Options::default()).whole(still).await.err().unwrap();
        assert_eq!(failure.reason, "BODY_TOO_SLOW");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_fast_enough_still_has_an_end() {
        let trickle = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 200])), ()))
        });
        let started = Instant::now();
        let intake = intake(Options::default());
        let whole = intake.whole(Body::from_stream(trickle));
        let failure = whole.await.err().unwrap();
        assert!(failure.message.contains("60 s"), "{}", failure.message);
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test]
    async fn room_is_taken_as_bytes_arrive_and_given_back() {
        let options = Options {
            max_json_bytes_in_flight: 8 << 10,
            ..Options::default()
        };
        let intake = intake(options);
        let first = intake.whole(Body::from(vec![b' '; 6 << 10])).await.unwrap();
        let refused = intake.whole(Body::from(vec![b' '; 3 << 10])).await;
        let failure = refused.err().unwrap();
        assert_eq!(
            (failure.reason.as_str(), failure.code),
            ("BODIES_BUSY", Code::ResourceExhausted)
        );
        assert!(failure.retry_after.is_some());
        drop(first);
        assert!(intake.whole(Body::from(vec![b' '; 8 << 10])).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let options = Options {
            max_json_bytes: 10,
            ..Options::default()
        };
        let failure = intake(options).whole(Body::from("12345678901")).await;
        assert_eq!(failure.err().unwrap().reason, "BODY_TOO_LARGE");
    }
}
