//! Networks as they are found, each written in the grammar of traces.

use clap::ValueEnum;

use super::script::{Statement, known};

/// Networks as they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LinkProfile {
    /// A good line: 20 ms each way.
    #[default]
    Clean,
    /// A busy household's Wi-Fi.
    Wifi,
    /// A telephone in a moving train.
    Lte,
    /// From one continent to another.
    International,
    /// One packet in five lost, three in a row.
    Burst20,
    /// A thin uplink before a queue of a second.
    Bufferbloat,
    /// 2 Mbit/s, after 10 s 400 kbit/s, after 20 s 2 Mbit/s again.
    CapacityDrop,
    /// By a satellite that stands still.
    Satellite,
}

impl LinkProfile {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Clean,
        Self::Wifi,
        Self::Lte,
        Self::International,
        Self::Burst20,
        Self::Bufferbloat,
        Self::CapacityDrop,
        Self::Satellite,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Wifi => "wifi",
            Self::Lte => "lte",
            Self::International => "international",
            Self::Burst20 => "burst20",
            Self::Bufferbloat => "bufferbloat",
            Self::CapacityDrop => "capacity-drop",
            Self::Satellite => "satellite",
        }
    }

    /// What the profile is, as a trace.
    #[must_use]
    pub fn trace(self) -> &'static str {
        match self {
            Self::Clean => "0 delay=20",
            Self::Wifi => "0 delay=10 jitter=30 loss=1 burst=2 dup=0.1",
            Self::Lte => "0 delay=40 jitter=40 loss=2 burst=4 rate=4M queue=300",
            Self::International => "0 delay=125 jitter=50 loss=3 burst=3 reorder=1 dup=0.1",
            Self::Burst20 => "0 delay=20 loss=20 burst=3",
            Self::Bufferbloat => "0 delay=20 rate=128k queue=1000",
            Self::CapacityDrop => "0 delay=20 rate=2M queue=300\n10 rate=400k\n20 rate=2M",
            Self::Satellite => "0 delay=300 jitter=20 loss=0.5",
        }
    }

    pub(super) fn statements(self) -> Vec<Statement> {
        known(self.trace())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_a_trace_under_its_own_name() {
        for profile in LinkProfile::ALL {
            assert!(!profile.statements().is_empty(), "{profile:?}");
            let named = profile.to_possible_value().unwrap();
            assert_eq!(named.get_name(), profile.as_str());
        }
        assert_eq!(LinkProfile::value_variants().len(), LinkProfile::ALL.len());
    }
}
