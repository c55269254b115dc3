//! What was looked at, how it stands, what that means and what to do.

use serde::Serialize;

/// Where a finding belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Group {
    You,
    Sound,
    Pictures,
    Network,
    Supernodes,
}

impl Group {
    pub(super) const ALL: [Self; 5] = [
        Self::You,
        Self::Sound,
        Self::Pictures,
        Self::Network,
        Self::Supernodes,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::You => "You",
            Self::Sound => "Sound",
            Self::Pictures => "Pictures",
            Self::Network => "Network",
            Self::Supernodes => "Supernodes",
        }
    }
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// As it should be.
    Ok,
    /// Calls work; it could be better.
    Note,
    /// Keeps calls from working.
    Fail,
    /// Could not be found out.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) group: Group,
    what: String,
    pub(super) standing: Standing,
    pub(super) found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) meaning: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn new(
        standing: Standing,
        group: Group,
        what: impl Into<String>,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            group,
            what: what.into(),
            standing,
            found: found.into(),
            meaning: meaning.into(),
            advice: None,
        }
    }

    pub(super) fn ok(
        group: Group,
        what: impl Into<String>,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self::new(Standing::Ok, group, what, found, meaning)
    }

    pub(super) fn note(
        group: Group,
        what: impl Into<String>,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self::new(Standing::Note, group, what, found, meaning)
    }

    pub(super) fn unknown(
        group: Group,
        what: impl Into<String>,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self::new(Standing::Unknown, group, what, found, meaning)
    }

    pub(super) fn fail(
        group: Group,
        what: impl Into<String>,
        found: impl Into<String>,
        meaning: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(Standing::Fail, group, what, found, meaning).advise(advice)
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn is_fail(&self) -> bool {
        self.standing == Standing::Fail
    }
}
