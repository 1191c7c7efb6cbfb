//! The deadline of calls that name none.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tower_layer::Layer;

use crate::limits::DEFAULT_DEADLINE;

/// The header by which a gRPC client says how long it will wait.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Gives every call that names no deadline [`DEFAULT_DEADLINE`] until its answer begins. A call that names one keeps it, up to the
/// server's own bound.
#[derive(Debug, Clone, Copy)]
pub struct DefaultDeadline;

impl<S> Layer<S> for DefaultDeadline {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner }
    }
}

/// A service whose calls have deadlines.
#[derive(Debug, Clone)]
pub struct WithDeadline<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let names_one = request.headers().contains_key(GRPC_TIMEOUT);
        let answer = self.inner.call(request);
        if names_one {
            return Box::pin(answer);
        }
        Box::pin(async move {
            match tokio::time::timeout(DEFAULT_DEADLINE, answer).await {
                Ok(answer) => answer,
                Err(_elapsed) => {
                    let seconds = DEFAULT_DEADLINE.as_secs();
                    let status =
                        Status::deadline_exceeded(format!("the call names no deadline and took over {seconds} s"));
                    Ok(status.into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::time::Duration;

    /// Answers after a time.
    #[derive(Clone)]
    struct Slow(Duration);

    impl Service<Request<Body>> for Slow {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let time = self.0;
            Box::pin(async move {
                tokio::time::sleep(time).await;
                Ok(Response::new(Body::empty()))
            })
        }
    }

    async fn status_after(time: Duration, timeout: Option<&str>) -> Option<String> {
        let mut request = Request::new(Body::empty());
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert(GRPC_TIMEOUT, timeout.parse().expect("visible ASCII"));
        }
        let answer = DefaultDeadline
            .layer(Slow(time))
            .call(request)
            .await
            .expect("infallible");
        let status = answer.headers().get("grpc-status")?;
        Some(status.to_str().expect("a number").to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_deadline_gets_one_and_a_call_with_one_keeps_it() {
        let (short, long) = (DEFAULT_DEADLINE / 2, DEFAULT_DEADLINE * 2);
        assert_eq!(status_after(short, None).await, None);
        assert_eq!(status_after(long, None).await.as_deref(), Some("4"));
        assert_eq!(status_after(long, Some("500S")).await, None);
    }
}
