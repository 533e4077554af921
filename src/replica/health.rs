//! Whether the store takes what is applied.

/// Whether the store takes commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    #[default]
    Working,
    /// The newest commit failed and is being tried again, or waits and nothing goes on; the store's own words.
    Failing(String),
    /// The store has ended by itself and will take none in this process.
    Ended(String),
}

impl StoreHealth {
    /// Why commits get nowhere; none while they do.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Working => None,
            Self::Failing(reason) | Self::Ended(reason) => Some(reason),
        }
    }
}
