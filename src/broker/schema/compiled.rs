//! Compiled schemas, which are large beside their texts: those that were used lately are kept.

use std::{collections::HashMap, sync::Arc};

use super::checker::CompiledSchema;
use crate::model::Limits;

/// By their id, which is never reused.
#[derive(Default)]
pub(in crate::broker) struct Compiled {
    by_id: HashMap<u64, Arc<CompiledSchema>>,
    /// Of the texts.
    bytes: usize,
}

impl Compiled {
    pub(in crate::broker) fn get(&self, id: u64) -> Option<&Arc<CompiledSchema>> {
        self.by_id.get(&id)
    }

    /// Keeps a schema whose text has so many bytes. When there are many, all go; those in use come back by themselves.
    pub(in crate::broker) fn keep(&mut self, id: u64, bytes: usize, schema: Arc<CompiledSchema>) {
        if self.by_id.contains_key(&id) {
            return; // somebody else compiled it meanwhile
        }
        if self.bytes + bytes > Limits::COMPILED_SCHEMA_BYTES {
            *self = Self::default();
        }
        self.by_id.insert(id, schema);
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_by_the_bytes_of_the_texts() {
        let schema = Arc::new(CompiledSchema::compile("true", &Limits::default()).unwrap());
        let mut compiled = Compiled::default();
        let each = Limits::COMPILED_SCHEMA_BYTES / 4;
        (0..4).for_each(|id| compiled.keep(id, each, schema.clone()));
        compiled.keep(3, each, schema.clone());
        assert!((0..4).all(|id| compiled.get(id).is_some()));
        compiled.keep(4, each, schema.clone());
        assert!(compiled.get(0).is_none() && compiled.get(4).is_some());
        compiled.keep(5, 2 * Limits::COMPILED_SCHEMA_BYTES, schema);
        assert!(compiled.get(5).is_some(), "a single larger one still is");
    }
}
