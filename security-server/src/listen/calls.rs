//! The calls of one connection: how many run, and how many were reset before they were answered. Who only holds a place, or only
//! resets what it asks, is told to go (GOAWAY); who does not, or resets on, is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::quota::Bucket;

/// What the calls of a connection share.
pub(super) struct Calls {
    begun: AtomicU64,
    ended: AtomicU64,
    resets: Mutex<(Bucket, f64)>,
    too_many: CancellationToken,
    far_too_many: CancellationToken,
}

/// One call, until its answer was read or it was reset.
pub(crate) struct OneCall {
    of: Arc<Calls>,
    answered: bool,
}

impl Calls {
    /// None yet.
    pub(super) fn within(limits: &Limits) -> Arc<Self> {
        let (burst, per_second) = limits.resets();
        Arc::new(Self {
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            resets: Mutex::new((Bucket::new(burst, per_second), burst)),
            too_many: CancellationToken::new(),
            far_too_many: CancellationToken::new(),
        })
    }

    /// One more.
    pub(super) fn begin(self: &Arc<Self>) -> OneCall {
        self.begun.fetch_add(1, Ordering::Relaxed);
        OneCall { of: Arc::clone(self), answered: false }
    }

    /// Waits until no call was there for so long, or for up to twice as long: it is looked twice.
    pub(super) async fn until_idle(&self, time: Duration) {
        loop {
            if self.none_ran_for(time).await {
                return;
            }
        }
    }

    /// Waits until more were reset than may be.
    pub(super) async fn until_too_many_resets(&self) {
        self.too_many.cancelled().await;
    }

    /// Waits until it has no right to last words any more: it was told to go, and resets as many again, or holds its place for so
    /// long without a call.
    pub(super) async fn until_given_up(&self, time: Duration) {
        tokio::select! {
            () = self.far_too_many.cancelled() => {}
            () = async {
                loop {
                    // What ended a moment ago may still be on its way.
                    if self.none_ran_for(time).await {
                        return;
                    }
                }
            } => {}
        }
    }

    /// Waits so long, and says whether no call began, ran or ended meanwhile.
    async fn none_ran_for(&self, time: Duration) -> bool {
        let count = || (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
        let before = count();
        tokio::time::sleep(time).await;
        before == count() && before.0 == before.1
    }

    fn note_reset(&self) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, patience) = &mut *resets;
        if !bucket.take() {
            self.too_many.cancel();
            *patience -= 1.0;
            if *patience <= 0.0 {
                self.far_too_many.cancel();
            }
        }
    }
}

impl OneCall {
    /// Its answer has begun.
    pub(super) fn answered(mut self) -> Self {
        self.answered = true;
        self
    }
}

impl Drop for OneCall {
    fn drop(&mut self) {
        self.of.ended.fetch_add(1, Ordering::Relaxed);
        if !self.answered {
            self.of.note_reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::client::conn::http2::SendRequest;
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::body::{Outgoing, outgoing};
    use crate::listen::{http1_or_2, speak};

    fn limits() -> Limits {
        Limits { idle_seconds: 60, resets_per_second: 1, ..Limits::default() }
    }

    type Requests = SendRequest<Empty<Bytes>>;

    /// A connection before a door where `/never` is not answered, `/on` begins an answer that never ends, and all else ends well.
    async fn connection() -> (Requests, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let served = tokio::spawn(speak(
            Some(limits().idle()),
            limits(),
            http1_or_2(&limits()),
            far,
            CancellationToken::new(),
            answered,
        ));
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let (requests, running) = builder.handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(running);
        (requests, served)
    }

    async fn answered(request: Request<Incoming>) -> Response<Outgoing> {
        if request.uri().path() == "/never" {
            pending::<()>().await;
        }
        let (sender, body) = outgoing(None);
        if request.uri().path() == "/on" {
            tokio::spawn(async move {
                let _sender = sender;
                pending::<()>().await;
            });
        } else {
            let _ = sender.finish(None);
        }
        Response::new(body)
    }

    fn get(path: &str) -> Request<Empty<Bytes>> {
        Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_told_to_go_and_one_with_a_call_is_kept() {
        let (mut requests, served) = connection().await;
        requests.send_request(get("/")).await.unwrap();
        let began = Instant::now();
        served.await.unwrap();
        assert!(began.elapsed().as_secs() >= 60, "it is kept as long as it may be: {:?}", began.elapsed());
        assert!(began.elapsed().as_secs() <= 180, "{:?}", began.elapsed());
        assert!(requests.ready().await.is_err());

        let (mut requests, served) = connection().await;
        let running = requests.send_request(get("/on")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!served.is_finished(), "a call runs on it");
        requests.send_request(get("/")).await.unwrap();
        drop(running);
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_resets_as_many_as_may_be_goes_on_and_who_resets_one_more_is_told_to_go() {
        let (mut requests, served) = connection().await;
        let reset = |requests: &mut Requests| {
            let mut call = Box::pin(requests.send_request(get("/never")));
            async move {
                // It is on its way when the door has nothing else to do.
                assert!(tokio::time::timeout(Duration::from_millis(1), &mut call).await.is_err());
            }
        };
        for _ in 0..10 {
            reset(&mut requests).await;
        }
        assert_eq!(requests.send_request(get("/")).await.unwrap().status(), 200);
        reset(&mut requests).await;
        served.await.unwrap();
        assert!(requests.ready().await.is_err());
    }

    #[test]
    fn who_was_told_to_go_and_resets_as_many_again_is_gone() {
        let calls = Calls::within(&limits());
        for _ in 0..10 {
            drop(calls.begin());
        }
        assert!(!calls.too_many.is_cancelled());
        for _ in 0..9 {
            drop(calls.begin());
        }
        assert!(calls.too_many.is_cancelled() && !calls.far_too_many.is_cancelled());
        drop(calls.begin());
        drop(calls.begin());
        assert!(calls.far_too_many.is_cancelled());
        // What was answered is no reset.
        let calls = Calls::within(&limits());
        for _ in 0..100 {
            drop(calls.begin().answered());
        }
        assert!(
            !calls.too_many.is_cancelled()
                && calls.begun.load(Ordering::Relaxed) == calls.ended.load(Ordering::Relaxed)
        );
    }
}
