//! What a cluster says of itself and is told, as plain values: times are times, choices are enums, and nothing of how they
//! travel shows. Each stands for a message of the protocol, field by field, and converts to it and from it.

mod channel;
mod claim;
mod cluster;
mod consumer;
mod message;
mod security;

pub use channel::{
    Channel, ChannelConfig, Comparison, Compatibility, DelayedMessage, DelayedPage, Durability, HistoryReport,
    InvalidMessage, Keep, Quota, Retention, Rule, SchemaVersion, UpdateChannel, WhenFull,
};
pub use claim::{ClaimHolder, ClaimLease, ClaimNamespace, ClaimReceipt};
pub use cluster::{
    BackupHead, BackupPart, ClusterEvent, ClusterStatus, NodeHash, NodeHealth, NodeRole, NodeScrub, NodeStatus, Scrub,
    Snapshot, Verified,
};
pub use consumer::{
    ConsumeOrder, ConsumerConfig, ConsumerState, DeadLetter, DeadLetterPage, DeadLetterSelection, Redrive, Redriven,
    RefusedLetter, UpdateConsumer,
};
pub use message::{CausalContext, Header, Message, TraceContext, VectorClockEntry};
pub use security::{Allowed, Grant, NewToken, Role, RoleQuota, Token};

/// Makes a struct that stands for a message of the protocol. Each field names the field that it stands for, and how one
/// becomes the other: see [`via`].
macro_rules! mirror {
    ($(
        $(#[$meta:meta])*
        $name:ident = $wire:ident {
            $($(#[$doc:meta])+ $field:ident: $type:ty = $from:ident as $via:ident,)*
        }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq)]
            #[non_exhaustive]
            pub struct $name {
                $($(#[$doc])+ pub $field: $type,)*
            }

            impl From<liminal_wire::v1::$wire> for $name {
                fn from(wire: liminal_wire::v1::$wire) -> Self {
                    Self { $($field: $crate::types::via::$via::from(wire.$from),)* }
                }
            }

            impl From<$name> for liminal_wire::v1::$wire {
                #[allow(clippy::needless_update, reason = "some have fields that nobody shows")]
                fn from(value: $name) -> Self {
                    Self { $($from: $crate::types::via::$via::into(value.$field),)* ..Self::default() }
                }
            }
        )+
    };
}

/// Adds a method for each field, for values that callers make.
macro_rules! setters {
    ($name:ident { $($field:ident: $argument:ty,)* }) => {
        impl $name {
            /// With nothing chosen.
            pub fn new() -> Self {
                Self::default()
            }

            $(
                #[doc = concat!("Sets [`", stringify!($name), "::", stringify!($field), "`].")]
                #[must_use]
                #[allow(clippy::useless_conversion, reason = "texts and options are converted, numbers are not")]
                pub fn $field(mut self, $field: $argument) -> Self {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}

/// Makes an enum that stands for one of the protocol; the first one is what an unset value stands for.
macro_rules! choices {
    ($(
        $(#[$meta:meta])*
        $name:ident { $(#[$first_doc:meta])+ $first:ident, $($(#[$doc:meta])+ $variant:ident,)* }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum $name {
                $(#[$first_doc])+
                #[default]
                $first,
                $($(#[$doc])+ $variant,)*
            }

            impl From<i32> for $name {
                fn from(wire: i32) -> Self {
                    match liminal_wire::v1::$name::try_from(wire) {
                        $(Ok(liminal_wire::v1::$name::$variant) => Self::$variant,)*
                        _ => Self::$first,
                    }
                }
            }

            impl From<$name> for liminal_wire::v1::$name {
                fn from(value: $name) -> Self {
                    match value {
                        $name::$first => Self::$first,
                        $($name::$variant => Self::$variant,)*
                    }
                }
            }

            impl From<$name> for i32 {
                fn from(value: $name) -> Self {
                    liminal_wire::v1::$name::from(value).into()
                }
            }
        )+
    };
}

use {choices, mirror, setters};

/// How fields of the protocol become fields of values, and back.
pub(crate) mod via {
    /// The same.
    pub(crate) mod same {
        pub(crate) fn from<T>(value: T) -> T {
            value
        }

        pub(crate) fn into<T>(value: T) -> T {
            value
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) mod time {
        use std::time::SystemTime;

        pub(crate) fn from(ms: u64) -> SystemTime {
            liminal_wire::time::from_ms(ms)
        }

        pub(crate) fn into(time: SystemTime) -> u64 {
            liminal_wire::time::to_ms(time)
        }
    }

    /// Milliseconds since the Unix epoch; 0 says that there is none.
    pub(crate) mod some_time {
        use std::time::SystemTime;

        pub(crate) fn from(ms: u64) -> Option<SystemTime> {
            (ms > 0).then(|| liminal_wire::time::from_ms(ms))
        }

        pub(crate) fn into(time: Option<SystemTime>) -> u64 {
            time.map_or(0, |time| liminal_wire::time::to_ms(time).max(1))
        }
    }

    /// Milliseconds.
    pub(crate) mod duration {
        use std::time::Duration;

        pub(crate) fn from(ms: u64) -> Duration {
            Duration::from_millis(ms)
        }

        pub(crate) fn into(duration: Duration) -> u64 {
            liminal_wire::time::duration_to_ms(duration)
        }
    }

    /// Milliseconds; 0 says that nothing was chosen.
    pub(crate) mod some_duration {
        use std::time::Duration;

        pub(crate) fn from(ms: u64) -> Option<Duration> {
            (ms > 0).then(|| Duration::from_millis(ms))
        }

        pub(crate) fn into(duration: Option<Duration>) -> u64 {
            duration.map_or(0, |duration| liminal_wire::time::duration_to_ms(duration).max(1))
        }
    }

    /// Milliseconds, if they are there.
    pub(crate) mod optional_duration {
        use std::time::Duration;

        pub(crate) fn from(ms: Option<u64>) -> Option<Duration> {
            ms.map(Duration::from_millis)
        }

        pub(crate) fn into(duration: Option<Duration>) -> Option<u64> {
            duration.map(liminal_wire::time::duration_to_ms)
        }
    }

    /// A text; the empty one says that there is none.
    pub(crate) mod some_text {
        pub(crate) fn from(text: String) -> Option<String> {
            Some(text).filter(|text| !text.is_empty())
        }

        pub(crate) fn into(text: Option<String>) -> String {
            text.unwrap_or_default()
        }
    }

    /// One of an enum.
    pub(crate) mod choice {
        pub(crate) fn from<T: From<i32>>(wire: i32) -> T {
            wire.into()
        }

        pub(crate) fn into<T: Into<i32>>(value: T) -> i32 {
            value.into()
        }
    }

    /// One of an enum, if it is there.
    pub(crate) mod optional_choice {
        pub(crate) fn from<T: From<i32>>(wire: Option<i32>) -> Option<T> {
            wire.map(T::from)
        }

        pub(crate) fn into<T: Into<i32>>(value: Option<T>) -> Option<i32> {
            value.map(T::into)
        }
    }

    /// A value that is always there.
    pub(crate) mod value {
        pub(crate) fn from<W, T: From<W> + Default>(wire: Option<W>) -> T {
            wire.map(T::from).unwrap_or_default()
        }

        pub(crate) fn into<T, W: From<T>>(value: T) -> Option<W> {
            Some(value.into())
        }
    }

    /// A value that may be there.
    pub(crate) mod optional {
        pub(crate) fn from<W, T: From<W>>(wire: Option<W>) -> Option<T> {
            wire.map(T::from)
        }

        pub(crate) fn into<T, W: From<T>>(value: Option<T>) -> Option<W> {
            value.map(W::from)
        }
    }

    /// Several values.
    pub(crate) mod list {
        pub(crate) fn from<W, T: From<W>>(wire: Vec<W>) -> Vec<T> {
            wire.into_iter().map(T::from).collect()
        }

        pub(crate) fn into<T, W: From<T>>(values: Vec<T>) -> Vec<W> {
            values.into_iter().map(W::from).collect()
        }
    }
}
