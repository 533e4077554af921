//! Messages as programs make and get them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::mirror;

mirror! {
    /// A message.
    ///
    /// ```
    /// use std::time::Duration;
    /// use liminal_client::Message;
    ///
    /// let message = Message::new(r#"{"id":7}"#)
    ///     .with_key("order-7")
    ///     .with_header("region", "eu")
    ///     .with_ttl(Duration::from_secs(60));
    /// assert_eq!(message.header("region"), Some("eu"));
    /// ```
    #[derive(Default)]
    Message = Message {
        /// Any bytes; JSON where the channel has a schema.
        payload: Bytes = payload as same,
        /// The idempotency key.
        key: Option<String> = key as same,
        /// Carried through.
        headers: Vec<Header> = headers as list,
        /// Carried through.
        causal_context: Option<CausalContext> = causal_context as optional,
        /// Carried through.
        trace_context: Option<TraceContext> = trace_context as optional,
        /// How long after it was sequenced it may be handed to anyone; for ever unless set.
        ttl: Option<Duration> = ttl_ms as some_duration,
        /// When it gets its place in the channel and becomes visible; at once unless set.
        deliver_at: Option<SystemTime> = deliver_at_ms as some_time,
    }

    /// A header of a message.
    #[derive(Default)]
    Header = Header {
        /// Its name, in which case makes no difference.
        name: String = name as same,
        /// What it says.
        value: String = value as same,
    }

    /// What a message answers or follows.
    #[derive(Default)]
    CausalContext = CausalContext {
        /// The id of that; free form.
        parent_id: String = parent_id as same,
        /// A place in a vector clock.
        vector_clock_entry: Option<VectorClockEntry> = vector_clock_entry as optional,
    }

    /// A place in a vector clock.
    #[derive(Default)]
    VectorClockEntry = VectorClockEntry {
        /// Whose.
        node: String = node as same,
        /// How much that one has seen.
        counter: u64 = counter as same,
    }

    /// The trace that a message belongs to, as W3C Trace Context says it.
    #[derive(Default)]
    TraceContext = TraceContext {
        /// As the header of that name.
        traceparent: String = traceparent as same,
        /// As the header of that name.
        tracestate: String = tracestate as same,
    }
}

impl Message {
    /// A message without a key.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// With an idempotency key: however often it is sent, it is stored once, and later ones are duplicates whatever their
    /// headers, time to live and delay are. An empty key is refused by the server: leave it out for a message without.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Handed to nobody once this time has passed since it was sequenced.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Visible from this time on.
    #[must_use]
    pub fn with_deliver_at(self, time: SystemTime) -> Self {
        Self { deliver_at: Some(time), ..self }
    }

    /// In a trace.
    #[must_use]
    pub fn with_trace(self, trace: TraceContext) -> Self {
        Self { trace_context: Some(trace), ..self }
    }

    /// What the first header of a name says.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(&header.value)
    }

    /// The idempotency key; the empty text where there is none.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }
}

impl TraceContext {
    /// Of the two headers.
    pub fn new(traceparent: impl Into<String>, tracestate: impl Into<String>) -> Self {
        Self { traceparent: traceparent.into(), tracestate: tracestate.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use liminal_wire::v1;

    use super::*;

    #[test]
    fn a_message_comes_back_from_the_wire_as_it_was() {
        let message = Message::new("x")
            .with_key("k")
            .with_header("a", "b")
            .with_ttl(Duration::from_micros(10))
            .with_deliver_at(UNIX_EPOCH + Duration::from_millis(5))
            .with_trace(TraceContext::new("00-1", ""));
        let wire = v1::Message::from(message.clone());
        assert_eq!((wire.ttl_ms, wire.deliver_at_ms), (1, 5), "a time to live is never rounded away");
        let back = Message::from(wire);
        assert_eq!(Message { ttl: message.ttl, ..back }, message);
        assert_eq!(v1::Message::from(Message::new("x")), v1::Message { payload: "x".into(), ..v1::Message::default() });
    }
}
