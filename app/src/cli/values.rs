//! Words of the command line to values, with sentences for those that are none.

use std::time::Duration;

use super::Target;
use crate::{
    link::{Link, LinkError},
    people::Whom,
};

/// Longest time anybody may ask for: a week.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;
/// Longest delay of a simulated link, in milliseconds.
const MAX_MILLIS: f64 = 60_000.0;
/// Highest rate: past any device this runs on.
const MAX_RATE_BPS: f64 = 1e12;

/// A positive number of seconds, such as `10`, `0.5` or `10s`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let value = number_in(number, f64::MIN_POSITIVE, MAX_SECONDS);
    let value = value.ok_or("expected seconds above 0 and up to a week, such as 10 or 0.5")?;
    Ok(Duration::from_secs_f64(value))
}

/// A time in milliseconds, such as `40`, `40ms` or `1.5s`.
pub(super) fn millis(text: &str) -> Result<Duration, String> {
    let (number, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1.0),
        (None, Some(number)) => (number, 1000.0),
        (None, None) => (text, 1.0),
    };
    let value = number_in(number, 0.0, MAX_MILLIS / factor);
    let value = value.ok_or("expected milliseconds up to a minute, such as 40, 40ms or 1.5s")?;
    Ok(Duration::from_secs_f64(value * factor / 1000.0))
}

/// Bits per second, such as `32000`, `32k` or `1.5M`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'G')) => (&text[..at], 1e9),
        Some(_) | None => (text, 1.0),
    };
    let value = number_in(number, 0.0, MAX_RATE_BPS / factor);
    let value = value.ok_or("expected bits per second, such as 32000, 32k or 1.5M")?;
    Ok((value * factor).round() as u64)
}

/// A percentage from 0 to 100 with or without its sign, such as `10`, `0.5%`; as a fraction.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let value = number_in(number, 0.0, 100.0).ok_or("expected a percentage, such as 10 or 0.5%")?;
    Ok(value / 100.0)
}

/// A mean number of packets, at least 1.
pub(super) fn burst(text: &str) -> Result<f64, String> {
    let value = number_in(text, 1.0, 1e6);
    Ok(value.ok_or("expected how many packets a burst loses on average, 1 or more")?)
}

/// Highest bitrate of sound: its longest packets, of 60 ms, still fit one media datagram. Opus is transparent for
/// speech far below.
const MAX_AUDIO_BPS: u32 = 128_000;

/// Bits per second of sound, from the lowest that Opus makes (RFC 7587 section 6.1).
pub(super) fn audio_bitrate(text: &str) -> Result<u32, String> {
    let value = rate(text)?;
    u32::try_from(value)
        .ok()
        .filter(|bps| (6_000..=MAX_AUDIO_BPS).contains(bps))
        .ok_or_else(|| String::from("expected 6k to 128k bits per second; 32k is usual for speech"))
}

/// Bits per second of pictures: from what is hardly one to more than any is worth.
pub(super) fn video_bitrate(text: &str) -> Result<u32, String> {
    let value = rate(text)?;
    u32::try_from(value)
        .ok()
        .filter(|bps| (40_000..=50_000_000).contains(bps))
        .ok_or_else(|| String::from("expected 40k to 50M bits per second, such as 600k"))
}

/// Longest side of a picture, in pixels.
const MAX_SIDE: u32 = 4096;

/// Width and height of a picture, such as `640x360`: even numbers.
pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| {
        let side: u32 = text.parse().ok()?;
        ((64..=MAX_SIDE).contains(&side) && side.is_multiple_of(2)).then_some(side)
    };
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .filter(|(width, height)| width * height <= 3840 * 2160)
        .ok_or_else(|| {
            String::from("expected a width and a height in even numbers from 64, such as 640x360")
        })
}

/// Milliseconds of an Opus frame.
pub(super) fn ptime(text: &str) -> Result<u16, String> {
    let number = text.strip_suffix("ms").unwrap_or(text);
    match number {
        "10" => Ok(10),
        "20" => Ok(20),
        "40" => Ok(40),
        "60" => Ok(60),
        _ => Err(String::from(
            "expected 10, 20, 40 or 60 milliseconds; 20 is usual",
        )),
    }
}

/// A link of either kind, where a command could stand too.
pub(super) fn any_link(text: &str) -> Result<Link, String> {
    text.parse().map_err(|error: LinkError| {
        if error == LinkError::NotALink {
            String::from("neither a command nor a link that begins with ahoy: or ahoy-node:")
        } else {
            error.to_string()
        }
    })
}

/// A contact's name or a person's link. What begins like a link is one, or is wrong.
pub(super) fn target(text: &str) -> Result<Target, String> {
    Ok(match Whom::parse(text)? {
        Whom::Link(link) => Target::Link(link),
        Whom::Name(name) => Target::Name(name),
    })
}

fn number_in(text: &str, low: f64, high: f64) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (low..=high).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_become_values() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(millis("40"), Ok(Duration::from_millis(40)));
        assert_eq!(millis("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(rate("1.5M"), Ok(1_500_000));
        assert_eq!(rate("400k"), Ok(400_000));
        assert_eq!(percent("10"), percent("10%"));
        assert_eq!(percent("0.5%"), Ok(0.005));
        assert_eq!(audio_bitrate("32k"), Ok(32_000));
        assert_eq!(audio_bitrate("128k"), Ok(128_000));
        assert_eq!(video_bitrate("600k"), Ok(600_000));
        assert_eq!(ptime("20ms"), Ok(20));
        assert_eq!(burst("8"), Ok(8.0));
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "ten"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for text in ["", "-1", "NaN", "61s", "ms", "s"] {
            assert!(millis(text).is_err(), "{text}");
        }
        for text in ["101", "-1", "%", "NaN%"] {
            assert!(percent(text).is_err(), "{text}");
        }
        for text in ["5k", "129k", "1G", "ä"] {
            assert!(audio_bitrate(text).is_err(), "{text}");
        }
        for text in ["39k", "51M", "much"] {
            assert!(video_bitrate(text).is_err(), "{text}");
        }
        assert!(ptime("30").is_err());
        assert!(burst("0.5").is_err());
        assert!(any_link("http://example.org").is_err());
    }

    proptest! {
        #[test]
        fn no_word_makes_them_panic(text: String) {
            prop_assert!(!seconds(&text).is_ok_and(|it| it.is_zero()));
            prop_assert!(!percent(&text).is_ok_and(|it| !(0.0..=1.0).contains(&it)));
            let read = [millis(&text).is_ok(), rate(&text).is_ok(), ptime(&text).is_ok()];
            prop_assert!(!text.is_empty() || read == [false; 3]);
        }
    }
}
