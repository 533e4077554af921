//! What the requests of all methods are made of, as far as it can be repeated: what decoding makes of them is counted by
//! this before it is done. Generated from `proto/` by the build script.

/// A kind of message.
pub(crate) struct Shape {
    /// Its fields that are repeated, or that have such fields within them.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Bytes of memory that one more of it takes beside its content; 0 where it is not repeated.
    pub(crate) bytes: usize,
    /// Several may come as one.
    pub(crate) packed: bool,
    /// What it is made of, where that can have something repeated.
    pub(crate) of: Option<&'static Shape>,
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// Of the request of a method, by its path; none for one that is not of our services.
pub(crate) fn of(path: &str) -> Option<&'static Shape> {
    let at = METHODS.binary_search_by_key(&path, |(path, _)| *path).ok()?;
    METHODS.get(at).map(|(_, shape)| *shape)
}
