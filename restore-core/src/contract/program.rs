//! Programs that a run will need.

/// A program that a run will need, and that is to be there before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// What names it: `start of [services.app]`.
    pub named_by: String,
    /// In whose context it runs; `None`: on this host, as ourselves.
    pub service: Option<String>,
    /// The program: a name or a path.
    pub program: String,
    /// What it is called with.
    pub arguments: Vec<String>,
}

impl Program {
    /// The program that a list of words names, where it names one.
    pub fn of(
        named_by: impl Into<String>,
        service: Option<&str>,
        words: &[String],
    ) -> Option<Self> {
        Some(Self {
            named_by: named_by.into(),
            service: service.map(str::to_owned),
            program: words.first()?.clone(),
            arguments: words.iter().skip(1).cloned().collect(),
        })
    }
}
