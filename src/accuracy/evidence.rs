//! Evidence for the bounds of the accuracy table.

/// How a bound was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The bound is derived step by step from the arithmetic. [`Evidence::section`] has the derivation.
    Derived,
    /// Every input of the type was compared with the correctly rounded result.
    Exhaustive,
    /// The bound is above the largest error that tests and searches found. [`Evidence::section`] describes the tests
    /// and searches.
    Measured,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Derived => "derived",
            Kind::Exhaustive => "exhaustive",
            Kind::Measured => "measured",
        })
    }
}

/// Evidence for a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// How the bound was obtained.
    pub kind: Kind,
    /// File name of the page in the repository's `docs/accuracy`.
    pub page: &'static str,
    /// Heading of the section within the page.
    pub section: &'static str,
}
