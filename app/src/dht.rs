//! Which DHT people are looked up in.

use ahoy_nat::discovery::dht::mainline::{DhtEntry, DhtEntryError};

use crate::settings::Settings;

/// Where to enter the DHT: `host:port`, several separated by commas, or `none`.
pub const VARIABLE: &str = "AHOY_DHT_BOOTSTRAP";

/// The variable cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: {0}; write host:port,host:port or none")]
pub struct VariableError(#[from] DhtEntryError);

/// Where the DHT is entered; nowhere when it is to be left alone. What was `asked` for on the command line counts, then
/// the `variable`, then the settings, else it is the public one, unless all homes are on this machine: then everybody is.
///
/// # Errors
/// When the variable cannot be read.
pub fn entries(
    asked: &[DhtEntry],
    variable: Option<&str>,
    settings: &Settings,
    all_here: bool,
) -> Result<Vec<DhtEntry>, VariableError> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    match variable {
        Some("none") => return Ok(Vec::new()),
        Some(list) if !list.is_empty() => {
            let entries = list.split(',').map(|entry| entry.trim().parse());
            return Ok(entries.collect::<Result<_, _>>()?);
        }
        Some(_) | None => {}
    }
    if !settings.dht {
        Ok(Vec::new())
    } else if !settings.dht_bootstrap.is_empty() {
        Ok(settings.dht_bootstrap.clone())
    } else if all_here {
        Ok(Vec::new())
    } else {
        Ok(DhtEntry::public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_counts_and_one_machine_needs_no_table() {
        let one = |text: &str| -> Vec<DhtEntry> { vec![text.parse().unwrap()] };
        let plain = Settings::default();
        let set = Settings {
            dht_bootstrap: one("192.0.2.3:3"),
            ..Settings::default()
        };
        let off = Settings {
            dht: false,
            ..set.clone()
        };
        let asked = one("192.0.2.1:1");
        let variable = Some("192.0.2.2:2");
        assert_eq!(
            entries(&asked, variable, &set, true),
            Ok(one("192.0.2.1:1"))
        );
        assert_eq!(entries(&[], variable, &set, true), Ok(one("192.0.2.2:2")));
        assert_eq!(entries(&[], Some("none"), &set, false), Ok(vec![]));
        assert_eq!(entries(&[], Some(""), &set, true), Ok(one("192.0.2.3:3")));
        assert_eq!(entries(&[], None, &off, false), Ok(vec![]));
        assert_eq!(entries(&[], None, &plain, true), Ok(vec![]));
        assert_eq!(entries(&[], None, &plain, false), Ok(DhtEntry::public()));
        let wrong = entries(&[], Some("x"), &plain, false).unwrap_err();
        assert!(wrong.to_string().contains("AHOY_DHT_BOOTSTRAP"), "{wrong}");
    }
}
