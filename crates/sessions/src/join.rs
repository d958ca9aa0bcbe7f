//! Waiting for several things at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Waits for all of some futures; the results are in their order.
pub(crate) async fn join_all<'a, T>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'a>,
) -> Vec<T> {
    type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
    let mut running: Vec<Result<T, Running<'a, T>>> =
        futures.into_iter().map(|future| Err(Box::pin(future) as Running<'a, T>)).collect();
    poll_fn(|context| {
        let mut are_done = true;
        for one in &mut running {
            if let Err(future) = one {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *one = Ok(output),
                    Poll::Pending => are_done = false,
                }
            }
        }
        if are_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_when_the_slowest_is_done() {
        let begun = Instant::now();
        let wait = |millis| async move {
            sleep(Duration::from_millis(millis)).await;
            millis
        };
        assert_eq!(join_all([30, 10, 20].map(wait)).await, [30, 10, 20]);
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert!(join_all(Vec::<std::future::Ready<()>>::new()).await.is_empty());
    }
}
