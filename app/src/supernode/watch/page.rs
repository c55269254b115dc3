//! The figures as a page for a person: one piece of HTML, no script, nothing fetched from anywhere, in the colours of
//! the app, light or dark as the person's system is. It loads itself anew by HTML's own means.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use super::{
    anomalies::Happening,
    figures::{Figure, Kind},
};

/// Seconds until the page loads itself anew.
const RELOAD_SECS: u32 = 5;
/// Happenings on the page; the rest are in `/status.json`.
const MAX_SHOWN: usize = 20;

/// What a person wants to know first: figure, what it is called here.
const FIRST: [(&str, &str); 8] = [
    ("ahoy_devices", "devices registered"),
    ("ahoy_connections", "connections"),
    ("ahoy_relay_allocations", "relayed ends of calls"),
    ("ahoy_relay_bytes_total", "relayed"),
    ("ahoy_deliveries_total", "calls offered"),
    ("ahoy_letters", "letters waiting"),
    ("ahoy_refused_total", "requests refused"),
    ("ahoy_memory_bytes", "memory"),
];

/// The app's colours as variables of CSS.
static COLOURS: LazyLock<String> = LazyLock::new(|| {
    let tokens: toml::Table = include_str!("../../../../assets/tokens.toml")
        .parse()
        .expect("the app itself reads this file at each start");
    let theme = |name: &str| {
        let colours = tokens.get(name).and_then(toml::Value::as_table);
        let colours = colours.into_iter().flatten();
        let colours: BTreeMap<&str, &str> = colours
            .filter_map(|(name, colour)| Some((name.as_str(), colour.as_str()?)))
            .collect();
        let mut css = String::new();
        for (name, colour) in colours {
            write!(css, "--{name}:{colour};").expect("a string takes everything");
        }
        css
    };
    let (light, dark) = (theme("light"), theme("dark"));
    format!(":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}")
});

const STYLE: &str = "\
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem 3rem;background:var(--window);color:var(--text);\
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0}
h2{font-size:1rem;margin:2rem 0 .5rem}
.soft{color:var(--text_soft);margin:.1rem 0;overflow-wrap:anywhere}
.state{color:var(--ok);font-weight:600}
.ending{color:var(--danger_text);font-weight:600}
ul.first{list-style:none;margin:1.25rem 0 0;padding:0;display:grid;gap:.75rem;\
grid-template-columns:repeat(auto-fill,minmax(13rem,1fr))}
ul.first li{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:.75rem 1rem}
ul.first b{display:block;font-size:1.5rem;line-height:1.3;font-variant-numeric:tabular-nums}
ul.first span{color:var(--text_soft)}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line);border-radius:.75rem;\
overflow:hidden}
th,td{padding:.35rem 1rem;text-align:left;border-top:1px solid var(--line);vertical-align:top;font-weight:400}
tr:first-child>*{border-top:0}
td:last-child{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.part th{padding-left:2.25rem;color:var(--text_soft)}
tr.none>*{color:var(--text_soft)}
.calm{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:.75rem 1rem;margin:0}
a{color:var(--accent)}
@media(prefers-color-scheme:dark){a{color:inherit}}
";

/// What `text` means in HTML is itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A number with thin gaps between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$}\u{202f}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1}\u{202f}TiB")
}

/// Days, hours, minutes or seconds, the two largest of them.
fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let minutes = seconds / 60 % 60;
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// A value as its figure means it: names end in their unit.
fn shown(name: &str, value: u64) -> String {
    let stem = name.strip_suffix("_total").unwrap_or(name);
    if stem.ends_with("_bytes") {
        bytes(value)
    } else if stem.ends_with("_seconds") {
        duration(value)
    } else {
        thousands(value)
    }
}

/// The whole page about the supernode called `node`, as it was at `now_millis`. The newest happenings come first.
#[must_use]
pub fn page<'a>(
    node: &str,
    now_millis: u64,
    figures: &[Figure],
    happenings: impl Iterator<Item = &'a Happening>,
) -> String {
    let find = |name: &str| figures.iter().find(|figure| figure.name == name);
    let value = |name: &str| find(name).map_or(0, Figure::sum);
    let (state, class) = if value("ahoy_draining") > 0 {
        ("ending soon", "ending")
    } else {
        ("running", "state")
    };
    let (node, colours) = (escaped(node), &*COLOURS);
    let uptime = duration(value("ahoy_uptime_seconds"));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{RELOAD_SECS}\">\
         <title>ahoy supernode</title>\n<style>{colours}\n{STYLE}</style></head>\n<body><header>\
         <h1>ahoy supernode</h1>\n<p class=\"soft\">{node}</p>\n\
         <p class=\"soft\"><span class=\"{class}\">{state}</span> for {uptime}</p></header>\n<main>"
    );
    page.push_str("<ul class=\"first\">\n");
    for (name, called) in FIRST {
        if let Some(figure) = find(name) {
            let value = shown(name, figure.sum());
            line(
                &mut page,
                format_args!("<li><b>{value}</b><span>{called}</span></li>"),
            );
        }
    }
    page.push_str("</ul>\n<h2>Out of the ordinary</h2>\n");
    let mut told = happenings.take(MAX_SHOWN).peekable();
    if told.peek().is_none() {
        page.push_str("<p class=\"calm\">Nothing since the start.</p>\n");
    } else {
        page.push_str("<table>\n");
        for happening in told {
            let ago = duration(now_millis.saturating_sub(happening.at_millis) / 1000);
            let text = escaped(&happening.text);
            line(
                &mut page,
                format_args!("<tr><th scope=\"row\">{text}</th><td>{ago} ago</td></tr>"),
            );
        }
        page.push_str("</table>\n");
    }
    page.push_str("<h2>Everything</h2>\n<table>\n");
    for figure in figures {
        row(&mut page, figure);
    }
    page.push_str(
        "</table>\n</main><footer><p class=\"soft\">For Prometheus: <a href=\"/metrics\">/metrics</a>. \
         For programs: <a href=\"/status.json\">/status.json</a>.</p></footer></body></html>\n",
    );
    page
}

fn line(page: &mut String, what: std::fmt::Arguments<'_>) {
    page.write_fmt(what).expect("a string takes everything");
    page.push('\n');
}

fn row(page: &mut String, figure: &Figure) {
    let sum = figure.sum();
    let (help, value) = (escaped(figure.help), shown(figure.name, sum));
    let none = match figure.kind {
        Kind::Counter if sum == 0 => " class=\"none\"",
        Kind::Counter | Kind::Gauge => "",
    };
    line(
        page,
        format_args!("<tr{none}><th scope=\"row\">{help}</th><td>{value}</td></tr>"),
    );
    // Of reasons and kinds only those that there are.
    for sample in figure.samples.iter().filter(|sample| sample.value > 0) {
        if let Some((_label, of)) = sample.label {
            let of = escaped(&of.replace('_', " "));
            let value = shown(figure.name, sample.value);
            line(
                page,
                format_args!("<tr class=\"part\"><th scope=\"row\">{of}</th><td>{value}</td></tr>"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supernode::watch::{anomalies::Anomaly, figures::Sample};

    fn gauge(name: &'static str, value: u64) -> Figure {
        Figure {
            name,
            help: "Some <b>bytes</b>",
            kind: Kind::Gauge,
            samples: vec![Sample { label: None, value }],
        }
    }

    #[test]
    fn what_is_written_is_never_read_as_html() {
        let happening = Happening {
            at_millis: 0,
            kind: Anomaly::NoRoom,
            text: "<script>alert('x')</script> & \"more\"".into(),
        };
        let figures = [gauge("ahoy_memory_bytes", 5 << 20)];
        let page = page("<i>", 90_000, &figures, [&happening].into_iter());
        assert!(!page.contains("<script") && !page.contains("<i>") && !page.contains("<b>bytes"));
        assert!(
            page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;more&quot;")
        );
        assert!(page.contains("1 min 30 s ago"));
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let page = page("node", 0, &[], std::iter::empty());
        for fetched in ["http:", "https:", "//", "src=", "@import", "url("] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        assert!(page.contains("prefers-color-scheme:dark") && page.contains("--window:#0E1217"));
    }

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        for (name, value, expected) in [
            ("ahoy_devices", 1_234_567, "1\u{202f}234\u{202f}567"),
            ("ahoy_devices", 999, "999"),
            ("ahoy_relay_bytes_total", 0, "0\u{202f}B"),
            ("ahoy_relay_bytes_total", 1536, "1.5\u{202f}KiB"),
            ("ahoy_memory_bytes", 300 << 20, "300\u{202f}MiB"),
            ("ahoy_memory_bytes", u64::MAX, "16777216.0\u{202f}TiB"),
            ("ahoy_uptime_seconds", 59, "59 s"),
            ("ahoy_uptime_seconds", 3700, "1 h 1 min"),
            ("ahoy_uptime_seconds", 200_000, "2 d 7 h"),
        ] {
            assert_eq!(shown(name, value), expected);
        }
    }
}
