//! What the window says, in the language of whoever reads it.
//!
//! Each message is a function, which `app/build.rs` makes of `assets/words`: the compiler knows that it is there in all
//! languages and what it takes. A message is written anew for each frame in which it is seen, as any label is; one without
//! arguments costs a comparison.
//!
//! The language belongs to the thread, as do the frames that it draws. Whoever speaks elsewhere (a notification) is told the
//! language and says so by [`with`].

use std::{cell::Cell, env, fmt::Display};

use chrono::{DateTime, Datelike as _, Month, TimeZone, Timelike as _, Weekday};

use crate::settings::LanguageChoice;

include!(concat!(env!("OUT_DIR"), "/words.rs"));

/// A language that the window speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Language {
    /// Complete by definition, and spoken where the system's is none of the others.
    #[default]
    English,
    /// Says du.
    German,
    /// Says tú.
    Spanish,
}

/// A message without arguments.
pub(super) type Word = fn() -> &'static str;

thread_local! {
    static SPOKEN: Cell<Language> = const { Cell::new(Language::English) };
}

/// What this thread speaks.
pub(super) fn language() -> Language {
    SPOKEN.get()
}

/// What this thread speaks from now on.
pub(super) fn speak(language: Language) {
    SPOKEN.set(language);
}

/// Does `work` in another language.
pub(super) fn with<T>(language: Language, work: impl FnOnce() -> T) -> T {
    let before = SPOKEN.replace(language);
    let done = work();
    SPOKEN.set(before);
    done
}

impl Language {
    /// As the person chose.
    pub(super) fn of(choice: LanguageChoice) -> Self {
        match choice {
            LanguageChoice::System => Self::of_system(|name| env::var(name).ok()),
            LanguageChoice::En => Self::English,
            LanguageChoice::De => Self::German,
            LanguageChoice::Es => Self::Spanish,
        }
    }

    /// As the system says, by the first of its variables that says anything (POSIX, section 8.2).
    fn of_system(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut said = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().map(variable);
        let locale = said.find_map(|said| said.filter(|said| !said.is_empty()));
        let locale = locale.unwrap_or_default();
        match locale.split(['_', '.', '@', '-']).next() {
            Some("de") => Self::German,
            Some("es") => Self::Spanish,
            Some(_) | None => Self::English,
        }
    }
}

/// The plural categories of CLDR that our languages have for whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plural {
    One,
    Many,
    Other,
}

/// By CLDR's rules for cardinal numbers without a fraction.
fn plural(language: Language, number: u64) -> Plural {
    const MILLION: u64 = 1_000_000;
    match (language, number) {
        (Language::English | Language::German | Language::Spanish, 1) => Plural::One,
        (Language::Spanish, millions) if millions > 0 && millions % MILLION == 0 => Plural::Many,
        (Language::English | Language::German | Language::Spanish, _) => Plural::Other,
    }
}

/// A whole number as `language` writes it: Spanish sets no point before the fifth digit.
fn number(language: Language, number: u64) -> String {
    let (separator, least) = match language {
        Language::English => (',', 4),
        Language::German => ('.', 4),
        Language::Spanish => ('.', 5),
    };
    let digits = number.to_string();
    let count = digits.len();
    if count < least {
        return digits;
    }
    let mut text = String::with_capacity(count + count / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (count - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

/// A whole number.
pub(super) fn count(value: u64) -> String {
    number(language(), value)
}

/// A number with so many digits behind the point, or the comma.
pub(super) fn decimal(value: impl Into<f64>, digits: usize) -> String {
    let text = format!("{:.digits$}", value.into());
    match language() {
        Language::English => text,
        Language::German | Language::Spanish => text.replace('.', ","),
    }
}

/// How much a file is.
pub(super) fn size(amount: u64) -> String {
    match crate::files::in_unit(amount) {
        (_, 0) => bytes(count(amount)),
        (value, 1) => kilobytes(decimal(value, 1)),
        (value, 2) => megabytes(decimal(value, 1)),
        (value, _) => gigabytes(decimal(value, 1)),
    }
}

/// A day of the week.
pub(super) fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => monday(),
        Weekday::Tue => tuesday(),
        Weekday::Wed => wednesday(),
        Weekday::Thu => thursday(),
        Weekday::Fri => friday(),
        Weekday::Sat => saturday(),
        Weekday::Sun => sunday(),
    }
}

fn month(at: &impl chrono::Datelike) -> &'static str {
    let month = u8::try_from(at.month()).ok();
    match month.and_then(|month| Month::try_from(month).ok()) {
        Some(Month::January) | None => january(),
        Some(Month::February) => february(),
        Some(Month::March) => march(),
        Some(Month::April) => april(),
        Some(Month::May) => may(),
        Some(Month::June) => june(),
        Some(Month::July) => july(),
        Some(Month::August) => august(),
        Some(Month::September) => september(),
        Some(Month::October) => october(),
        Some(Month::November) => november(),
        Some(Month::December) => december(),
    }
}

/// A day with its year.
pub(super) fn day_of<Zone: TimeZone>(at: &DateTime<Zone>) -> String {
    date(at.day(), month(at), at.year())
}

/// A time of a day, by 24 hours in all our languages.
pub(super) fn time_of<Zone: TimeZone>(at: &DateTime<Zone>) -> String {
    format!("{:02}:{:02}", at.hour(), at.minute())
}

/// A moment of this year.
pub(super) fn moment_of<Zone: TimeZone>(at: &DateTime<Zone>) -> String {
    moment(day_and_month(at.day(), month(at)), time_of(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Language; 3] = [Language::English, Language::German, Language::Spanish];

    #[test]
    fn the_system_says_which_language_by_its_first_variable_that_says_anything() {
        let said = |variables: &[(&str, &str)]| {
            Language::of_system(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(said(&[("LANG", "de_AT.UTF-8")]), Language::German);
        assert_eq!(said(&[("LANG", "es")]), Language::Spanish);
        let before = [("LC_ALL", ""), ("LC_MESSAGES", "es_MX"), ("LANG", "de_DE")];
        assert_eq!(said(&before), Language::Spanish);
        assert_eq!(
            said(&[("LC_ALL", "C"), ("LANG", "de_DE")]),
            Language::English
        );
        for other in ["fr_FR.UTF-8", "C.UTF-8", "POSIX", "desert", ""] {
            assert_eq!(said(&[("LANG", other)]), Language::English, "{other}");
        }
        assert_eq!(said(&[]), Language::English);
    }

    #[test]
    fn numbers_are_written_and_counted_as_each_language_does() {
        let told = |value: u64| ALL.map(|language| with(language, || count(value)));
        assert_eq!(told(999), ["999", "999", "999"]);
        assert_eq!(told(1234), ["1,234", "1.234", "1234"]);
        assert_eq!(told(1_234_567), ["1,234,567", "1.234.567", "1.234.567"]);
        let told = ALL.map(|language| with(language, || decimal(12.34, 1)));
        assert_eq!(told, ["12.3", "12,3", "12,3"]);
        let told = ALL.map(|language| with(language, || size(12_000_000)));
        assert_eq!(told, ["12.0 MB", "12,0 MB", "12,0 MB"]);
        let reached = |up, all| ALL.map(|language| with(language, || reachable(all, up)));
        assert_eq!(
            reached(1, 1),
            [
                "Reachable through 1 supernode",
                "Erreichbar über 1 Supernode",
                "Localizable por 1 supernodo"
            ]
        );
        assert!(reached(2, 3).iter().all(|told| told.contains('3')));
        for (number, expected) in [(0, Plural::Other), (1, Plural::One), (2, Plural::Other)] {
            assert!(ALL.iter().all(|own| plural(*own, number) == expected));
        }
        assert_eq!(plural(Language::Spanish, 2_000_000), Plural::Many);
        assert_eq!(plural(Language::German, 2_000_000), Plural::Other);
    }

    #[test]
    fn a_day_is_written_as_each_language_does() {
        let at = chrono::Utc.with_ymd_and_hms(2026, 3, 9, 8, 5, 0).unwrap();
        let told = ALL.map(|language| with(language, || day_of(&at)));
        assert_eq!(told, ["9 March 2026", "9. März 2026", "9 de marzo de 2026"]);
        let told = ALL.map(|language| with(language, || weekday(at.weekday())));
        assert_eq!(told, ["Monday", "Montag", "Lunes"]);
        let told = ALL.map(|language| with(language, || moment_of(&at)));
        assert_eq!(
            told,
            ["9 March, 08:05", "9. März, 08:05", "9 de marzo, 08:05"]
        );
    }

    #[test]
    fn a_language_is_spoken_until_its_work_is_done() {
        assert_eq!(cancel(), "Cancel");
        assert_eq!(with(Language::German, cancel), "Abbrechen");
        assert_eq!(cancel(), "Cancel");
        speak(Language::Spanish);
        assert_eq!(cancel(), "Cancelar");
        let other = std::thread::Builder::new().name("ahoy-words".into());
        assert_eq!(other.spawn(cancel).unwrap().join().unwrap(), "Cancel");
    }
}
