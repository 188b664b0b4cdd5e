//! Work that is begun by what is expected to be answered, while the answer is asked for.

use std::future::Future;
use std::pin::pin;

use futures::future::{Either, select};

/// How work that was begun ahead came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Ahead<T, A> {
    /// As expected: what the work gave.
    Expected(T),
    /// Otherwise: what was answered. The work was dropped and has to be done by that.
    Other(A),
}

/// Does `work` while `ask` is answered. It is dropped the moment an answer comes that is not `expected`, or none, so
/// that nobody waits for what will not be used. `work` must leave nothing behind.
///
/// Error: that of the question.
pub async fn ahead<T, A, E>(
    ask: impl Future<Output = Result<A, E>>,
    work: impl Future<Output = T>,
    expected: impl FnOnce(&A) -> bool,
) -> Result<Ahead<T, A>, E> {
    let ask = pin!(ask);
    let work = pin!(work);
    match select(ask, work).await {
        Either::Left((answered, work)) => {
            let answer = answered?;
            if expected(&answer) {
                return Ok(Ahead::Expected(work.await));
            }
            Ok(Ahead::Other(answer))
        }
        Either::Right((done, ask)) => {
            let answer = ask.await?;
            match expected(&answer) {
                true => Ok(Ahead::Expected(done)),
                false => Ok(Ahead::Other(answer)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_turns_out_otherwise_is_not_waited_for() {
        let never = pending::<()>();
        let other = ahead(ready(Ok::<_, Infallible>(2)), never, |answer| *answer == 1).await;
        assert_eq!(other, Ok(Ahead::Other(2)));
        let refused = ahead(ready(Err::<u8, _>("no")), pending::<()>(), |_| true).await;
        assert_eq!(refused, Err("no"));
    }

    #[tokio::test]
    async fn what_is_done_first_counts_only_if_it_was_right() {
        let later = |answer| async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(answer)
        };
        let right = ahead(later(1), ready("done"), |answer| *answer == 1).await;
        assert_eq!(right, Ok(Ahead::Expected("done")));
        let wrong = ahead(later(2), ready("done"), |answer| *answer == 1).await;
        assert_eq!(wrong, Ok(Ahead::Other(2)));
    }

    #[tokio::test]
    async fn work_goes_on_once_the_answer_is_right() {
        let work = async {
            tokio::task::yield_now().await;
            "done"
        };
        let right = ahead(ready(Ok::<_, Infallible>(1)), work, |answer| *answer == 1).await;
        assert_eq!(right, Ok(Ahead::Expected("done")));
    }
}
