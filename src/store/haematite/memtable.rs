//! Changes that are not in the tree yet.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::value::Value;

pub(super) type MemTable = BTreeMap<Bytes, Option<Value>>;
