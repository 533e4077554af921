//! Answers that come in parts: a backup, or how far the nodes are with reading everything.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tonic::Streaming;

use crate::{error::ClientError, pool::Connected};

/// An answer in parts: a stream, which ends with the last of them or after an error.
#[must_use]
pub struct Progress<T> {
    parts: BoxStream<'static, Result<T, ClientError>>,
}

impl<T: Send + 'static> Progress<T> {
    pub(crate) fn of<W: Into<T> + Send + 'static>((answer, from): (Streaming<W>, Connected)) -> Self {
        let parts = answer.map(move |part| match part {
            Ok(part) => Ok(part.into()),
            Err(status) => Err(ClientError::from_status(from.address(), status)),
        });
        Self { parts: parts.boxed() }
    }

    /// The next part; none after the last one.
    ///
    /// # Errors
    /// When the connection is lost, or the node cannot go on.
    pub async fn part(&mut self) -> Result<Option<T>, ClientError> {
        self.parts.next().await.transpose()
    }
}

impl<T> Stream for Progress<T> {
    type Item = Result<T, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.parts.as_mut().poll_next(cx)
    }
}
