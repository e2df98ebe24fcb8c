//! Work that begins where its caller is and goes on when the caller has gone.
//!
//! What is made of several runs must not stop half-way because a client closed its connection. A task of its own for each
//! such call would cost a change of threads; so the call is polled in place, and only a call that is dropped before it has
//! ended moves into a task.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that is run to its end even when it is dropped.
pub(super) struct Detached<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Detached<T> {
    /// `future`, which goes on by itself when this is dropped.
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.0.as_mut().expect("not polled after it has ended");
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        // Outside a runtime the process is ending, and nothing can go on.
        if let (Some(future), Ok(handle)) = (self.0.take(), Handle::try_current()) {
            handle.spawn(async move { drop(future.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_dropped_half_way_goes_on() {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        let mut detached = Detached::new(async move {
            wait.await.expect("sent");
            done.send(7).expect("awaited");
        });
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut detached).poll(&mut context).is_pending());
        drop(detached);
        go.send(()).expect("it still waits");
        assert_eq!(ended.await, Ok(7));
    }
}
