//! What brokers say to each other as bytes: protobuf messages (`proto/peer/v1`), so that nodes of different versions
//! understand each other while a cluster is upgraded. The types of the broker and the machine may change as they like; what
//! they are on the wire is said here and in the modules below, field by field, and the compiler sees to it that none is left
//! out.
//!
//! A request is read to the last field or refused. One that says something which this version does not know is
//! [`Misread::Unknown`], whose sender is told so: nothing is done of it, since what is not known may be what matters.

mod channels;
mod claims;
mod consumers;
mod errors;
mod machine;
mod messages;
mod security;

#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{Request, Response};
use crate::{
    budget::made_of,
    codec,
    model::{ChannelId, ConsumerId, Digest, Frame, KeyHash, Limits, NamespaceId, TokenId},
    proto::peer,
};

/// Bytes that are no message of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::broker) enum Misread {
    /// A newer version may know it.
    #[error("{0}, which this version does not know")]
    Unknown(String),
    /// Nobody says such a thing.
    #[error("{0}")]
    Malformed(String),
}

impl Misread {
    fn unknown(what: &str) -> Self {
        Self::Unknown(format!("a kind of `{what}`"))
    }

    #[allow(clippy::needless_pass_by_value, reason = "it stands where a function of an error is wanted")]
    pub(super) fn malformed(error: impl ToString) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A value that brokers say to each other.
pub(super) trait Wire: Sized {
    /// What stands for it on the wire.
    type Message;

    fn to_wire(&self) -> Self::Message;

    fn from_wire(message: Self::Message) -> Result<Self, Misread>;
}

/// A value of several kinds, of which each is a field of a `oneof`.
trait Kinds: Sized {
    type Kind;

    /// None of what is said otherwise.
    fn kind(&self) -> Option<Self::Kind>;

    fn of_kind(kind: Self::Kind) -> Result<Self, Misread>;
}

/// A message that has to be there.
fn required<T: Wire>(message: Option<T::Message>, what: &str) -> Result<T, Misread> {
    T::from_wire(message.ok_or_else(|| Misread::Malformed(format!("`{what}` is missing")))?)
}

/// Types whose fields are called the same on the wire. Behind the semicolon: fields that are messages.
macro_rules! records {
    ($($model:ident = $wire:ident { $($field:ident),* $(; $($inner:ident),+)? })*) => {$(
        impl Wire for $model {
            type Message = peer::$wire;

            fn to_wire(&self) -> peer::$wire {
                let Self { $($field,)* $($($inner,)+)? } = self;
                peer::$wire { $($field: $field.to_wire(),)* $($($inner: Some($inner.to_wire()),)+)? }
            }

            fn from_wire(message: peer::$wire) -> Result<Self, Misread> {
                let peer::$wire { $($field,)* $($($inner,)+)? } = message;
                Ok(Self {
                    $($field: Wire::from_wire($field)?,)*
                    $($($inner: required($inner, stringify!($inner))?,)+)?
                })
            }
        }
    )*};
}

/// Types without fields that are enumerations on the wire.
macro_rules! choices {
    ($($model:ident { $($variant:ident),+ $(,)? })*) => {$(
        impl Wire for $model {
            type Message = i32;

            fn to_wire(&self) -> i32 {
                match self { $(Self::$variant => peer::$model::$variant,)+ }.into()
            }

            fn from_wire(number: i32) -> Result<Self, Misread> {
                match peer::$model::try_from(number) {
                    $(Ok(peer::$model::$variant) => Ok(Self::$variant),)+
                    Ok(_) => Err(Misread::Malformed(concat!("`", stringify!($model), "` is missing").into())),
                    Err(_) => Err(Misread::unknown(stringify!($model))),
                }
            }
        }
    )*};
}

/// Types of several kinds: those with nothing in them, those with one thing, those with a list, and those with fields, as in
/// [`records`]. `apart` are those that are said otherwise.
macro_rules! kinds {
    ($model:ident in $module:ident {
        $(unit [$($unit:ident),+ $(,)?])?
        $(one [$($one:ident),+ $(,)?])?
        $(list [$($list:ident = $listed:ident.$items:ident),+ $(,)?])?
        $(with [$($with:ident = $wire:ident { $($field:ident),* $(; $($inner:ident),+)? }),+ $(,)?])?
        $(apart [$($apart:pat),+ $(,)?])?
    }) => {
        impl Kinds for $model {
            type Kind = peer::$module::Kind;

            fn kind(&self) -> Option<Self::Kind> {
                use peer::$module::Kind;
                Some(match self {
                    $($(Self::$unit => Kind::$unit(peer::Nothing {}),)+)?
                    $($(Self::$one(one) => Kind::$one(one.to_wire()),)+)?
                    $($(Self::$list(list) => Kind::$list(peer::$listed { $items: list.to_wire() }),)+)?
                    $($(Self::$with { $($field,)* $($($inner,)+)? } => Kind::$with(peer::$wire {
                        $($field: $field.to_wire(),)*
                        $($($inner: Some($inner.to_wire()),)+)?
                    }),)+)?
                    $($($apart => return None,)+)?
                })
            }

            fn of_kind(kind: Self::Kind) -> Result<Self, Misread> {
                use peer::$module::Kind;
                Ok(match kind {
                    $($(Kind::$unit(peer::Nothing {}) => Self::$unit,)+)?
                    $($(Kind::$one(one) => Self::$one(Wire::from_wire(one)?),)+)?
                    $($(Kind::$list(peer::$listed { $items }) => Self::$list(Wire::from_wire($items)?),)+)?
                    $($(Kind::$with(peer::$wire { $($field,)* $($($inner,)+)? }) => Self::$with {
                        $($field: Wire::from_wire($field)?,)*
                        $($($inner: required($inner, stringify!($inner))?,)+)?
                    },)+)?
                })
            }
        }
    };
}

/// Types of several kinds that are nothing more on the wire.
macro_rules! only_kinds {
    ($($model:ident),+ $(,)?) => {$(
        impl Wire for $model {
            type Message = peer::$model;

            fn to_wire(&self) -> peer::$model {
                peer::$model { kind: self.kind() }
            }

            fn from_wire(message: peer::$model) -> Result<Self, Misread> {
                Self::of_kind(message.kind.ok_or_else(|| Misread::unknown(stringify!($model)))?)
            }
        }
    )+};
}

/// Types that are the same on the wire.
macro_rules! as_they_are {
    ($($plain:ty),+) => {$(
        impl Wire for $plain {
            type Message = Self;

            fn to_wire(&self) -> Self {
                Clone::clone(self)
            }

            fn from_wire(message: Self) -> Result<Self, Misread> {
                Ok(message)
            }
        }
    )+};
}

/// Types that are numbers.
macro_rules! as_numbers {
    ($($id:ident),+) => {$(
        impl Wire for $id {
            type Message = u64;

            fn to_wire(&self) -> u64 {
                self.0
            }

            fn from_wire(number: u64) -> Result<Self, Misread> {
                Ok(Self(number))
            }
        }
    )+};
}

/// Types that are texts of a kind.
macro_rules! as_texts {
    ($($name:ident),+) => {$(
        impl Wire for $name {
            type Message = String;

            fn to_wire(&self) -> String {
                self.to_string()
            }

            fn from_wire(text: String) -> Result<Self, Misread> {
                Self::try_from(text).map_err(Misread::malformed)
            }
        }
    )+};
}

use {as_texts, choices, kinds, only_kinds, records};

as_they_are!(bool, u32, u64, String, Bytes);
as_numbers!(ChannelId, ConsumerId, NamespaceId, TokenId);

impl<T: Wire> Wire for Vec<T> {
    type Message = Vec<T::Message>;

    fn to_wire(&self) -> Self::Message {
        self.iter().map(T::to_wire).collect()
    }

    fn from_wire(messages: Self::Message) -> Result<Self, Misread> {
        messages.into_iter().map(T::from_wire).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    type Message = Option<T::Message>;

    fn to_wire(&self) -> Self::Message {
        self.as_ref().map(T::to_wire)
    }

    fn from_wire(message: Self::Message) -> Result<Self, Misread> {
        message.map(T::from_wire).transpose()
    }
}

impl<T: Wire> Wire for Box<T> {
    type Message = T::Message;

    fn to_wire(&self) -> Self::Message {
        T::to_wire(self)
    }

    fn from_wire(message: Self::Message) -> Result<Self, Misread> {
        T::from_wire(message).map(Self::new)
    }
}

impl Wire for Arc<str> {
    type Message = String;

    fn to_wire(&self) -> String {
        self.as_ref().to_owned()
    }

    fn from_wire(text: String) -> Result<Self, Misread> {
        Ok(text.into())
    }
}

/// As it was encoded by the publisher.
impl Wire for Frame {
    type Message = Bytes;

    fn to_wire(&self) -> Bytes {
        self.bytes()
    }

    fn from_wire(bytes: Bytes) -> Result<Self, Misread> {
        Self::parse(bytes).map_err(Misread::malformed)
    }
}

impl Wire for u128 {
    type Message = peer::Bits128;

    fn to_wire(&self) -> peer::Bits128 {
        let low = u64::try_from(self & u128::from(u64::MAX)).unwrap_or_default();
        let high = u64::try_from(self >> 64).unwrap_or_default();
        peer::Bits128 { low, high }
    }

    fn from_wire(message: peer::Bits128) -> Result<Self, Misread> {
        Ok(Self::from(message.high) << 64 | Self::from(message.low))
    }
}

impl Wire for KeyHash {
    type Message = peer::Bits128;

    fn to_wire(&self) -> peer::Bits128 {
        u128::from(*self).to_wire()
    }

    fn from_wire(message: peer::Bits128) -> Result<Self, Misread> {
        u128::from_wire(message).map(Self::from)
    }
}

impl Wire for Digest {
    type Message = u64;

    fn to_wire(&self) -> u64 {
        u64::from(*self)
    }

    fn from_wire(number: u64) -> Result<Self, Misread> {
        Ok(Self::from(number))
    }
}

impl Wire for Range<u64> {
    type Message = peer::Range;

    fn to_wire(&self) -> peer::Range {
        peer::Range { start: self.start, end: self.end }
    }

    fn from_wire(message: peer::Range) -> Result<Self, Misread> {
        Ok(message.start..message.end)
    }
}

pub(super) fn encode_request(request: &Request) -> Bytes {
    request.to_wire().encode_to_vec().into()
}

pub(super) fn encode_response(response: &Response) -> Bytes {
    response.to_wire().encode_to_vec().into()
}

/// A request, all of it.
///
/// # Errors
/// `Unknown` where it may be one of a newer version.
pub(super) fn decode_request(bytes: Bytes) -> Result<Request, Misread> {
    let length = bytes.len();
    let message: peer::Request = decode(bytes, ".liminal.peer.v1.Request")?;
    // What is not known was left out.
    if message.encoded_len() != length {
        return Err(Misread::Unknown("a field or a kind".into()));
    }
    let request = Request::from_wire(message)?;
    if let Request::Operate(operation) = &request {
        codec::check_operation(operation).map_err(Misread::malformed)?;
    }
    Ok(request)
}

/// An answer, as far as it is known.
///
/// # Errors
/// When it says nothing that is known.
pub(super) fn decode_response(bytes: Bytes) -> Result<Response, Misread> {
    Response::from_wire(decode(bytes, ".liminal.peer.v1.Response")?)
}

/// `name` is that of the message, by which is counted what decoding makes of it.
fn decode<M: Message + Default>(bytes: Bytes, name: &str) -> Result<M, Misread> {
    let (made, limit) = (made_of(name, &bytes), Limits::PEER_MESSAGE_BYTES);
    if made > limit {
        return Err(Misread::Malformed(format!("it becomes {made} bytes; the limit is {limit}")));
    }
    M::decode(bytes).map_err(Misread::malformed)
}
