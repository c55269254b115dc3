//! As much of HTTP/1.1 (RFC 9112) as showing figures takes, sans-IO: one request in, one response out, and the
//! connection ends.
//!
//! Whoever reaches the port may be anybody, a web page in somebody's browser included: a request is bounded, has no
//! body, and where the port is this machine's alone it must name this machine, so that no page of the web reads the
//! figures by a name of its own that leads here (DNS rebinding).

use std::{fmt::Write as _, net::IpAddr};

/// Longest head of a request: a browser sends a kilobyte.
pub const MAX_REQUEST_BYTES: usize = 8 << 10;
/// Most header fields in it.
const MAX_FIELDS: usize = 64;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `/`: the page for a person.
    Page,
    /// `/metrics`: Prometheus' text format.
    Metrics,
    /// `/status.json`: the same for programs.
    Json,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With what was asked for; with the head of it alone (`HEAD`).
    Show(Asked, bool),
    /// With a reason why not.
    Refuse(Fault),
}

/// Why a request is not answered as hoped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no HTTP/1.1.
    #[error("400 Bad Request")]
    Malformed,
    /// It names another host than this machine.
    #[error("403 Forbidden")]
    ForeignHost,
    /// There is nothing of that name.
    #[error("404 Not Found")]
    NotFound,
    /// Nothing can be changed here.
    #[error("405 Method Not Allowed")]
    Method,
    /// It has a body.
    #[error("413 Content Too Large")]
    Body,
    /// It is too long.
    #[error("431 Request Header Fields Too Large")]
    TooLong,
}

/// Reads a request from its first byte; `None` while it is not whole. `local_only`: only this machine reaches the
/// port.
#[must_use]
pub fn read(bytes: &[u8], local_only: bool) -> Option<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_body)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST_BYTES => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Answer::Refuse(Fault::TooLong));
        }
        Err(_malformed) => return Some(Answer::Refuse(Fault::Malformed)),
    }
    Some(judge(&request, local_only).unwrap_or_else(Answer::Refuse))
}

fn judge(request: &httparse::Request<'_, '_>, local_only: bool) -> Result<Answer, Fault> {
    let fields = |name: &'static str| {
        let named = request.headers.iter();
        named.filter(move |field| field.name.eq_ignore_ascii_case(name))
    };
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        Some(_) | None => return Err(Fault::Method),
    };
    // RFC 9112 section 6.3: without either of these there is no body.
    let length = fields("content-length").any(|field| field.value != b"0");
    if length || fields("transfer-encoding").next().is_some() {
        return Err(Fault::Body);
    }
    // RFC 9112 section 3.2: exactly one.
    let mut hosts = fields("host");
    let host = hosts.next().ok_or(Fault::Malformed)?;
    if hosts.next().is_some() {
        return Err(Fault::Malformed);
    }
    if local_only && !is_this_machine(host.value) {
        return Err(Fault::ForeignHost);
    }
    let target = request.path.ok_or(Fault::Malformed)?;
    let path = target.split_once('?').map_or(target, |(path, _query)| path);
    let asked = match path {
        "/" => Asked::Page,
        "/metrics" => Asked::Metrics,
        "/status.json" => Asked::Json,
        _ => return Err(Fault::NotFound),
    };
    Ok(Answer::Show(asked, head_only))
}

/// An address, which no name server gives away, or the name that means this machine (RFC 6761 section 6.3).
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        // In an IPv6 address without a port the last colon is inside the brackets.
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || bare.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// A whole response.
#[must_use]
pub fn response(status: &str, kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    let mut text = String::new();
    // The page has its style within and nothing else to load, so the browser may fetch nothing.
    write!(
        text,
        "HTTP/1.1 {status}\r\n\
         Content-Type: {kind}\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\r\n\
         Referrer-Policy: no-referrer\r\n\
         X-Content-Type-Options: nosniff\r\n\r\n",
        body.len()
    )
    .expect("a string takes everything");
    if !head_only {
        text.push_str(body);
    }
    text.into_bytes()
}

/// The response to a request that is not answered.
#[must_use]
pub fn refusal(fault: Fault) -> Vec<u8> {
    let status = fault.to_string();
    let body = format!("{status}\n");
    response(&status, "text/plain; charset=utf-8", &body, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> Option<Answer> {
        read(request.as_bytes(), true)
    }

    fn refused(request: &str) -> Fault {
        match ask(request) {
            Some(Answer::Refuse(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_page_is_found_by_its_path() {
        let host = "HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n";
        for (path, asked) in [
            ("/", Asked::Page),
            ("/metrics", Asked::Metrics),
            ("/status.json?now", Asked::Json),
        ] {
            let request = format!("GET {path} {host}");
            assert_eq!(ask(&request), Some(Answer::Show(asked, false)));
        }
        let head = format!("HEAD /metrics {host}");
        assert_eq!(ask(&head), Some(Answer::Show(Asked::Metrics, true)));
        assert_eq!(refused(&format!("GET /etc/passwd {host}")), Fault::NotFound);
        assert_eq!(refused(&format!("POST / {host}")), Fault::Method);
    }

    #[test]
    fn it_waits_for_the_end_of_a_head_and_no_longer_than_its_bound() {
        let whole = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(ask(&whole[..end]), None, "{end}");
        }
        assert!(ask(whole).is_some());
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_REQUEST_BYTES));
        assert_eq!(refused(&long), Fault::TooLong);
        let many = "a: b\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(refused(&many), Fault::TooLong);
        assert_eq!(refused("\0\0\0\0"), Fault::Malformed);
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Fault::Malformed);
        let body = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(refused(body), Fault::Body);
    }

    #[test]
    fn a_web_page_cannot_read_it_by_a_name_that_leads_here() {
        let asking = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for host in ["localhost:9000", "127.0.0.1", "[::1]", "[::1]:9000"] {
            assert!(matches!(ask(&asking(host)), Some(Answer::Show(..))));
        }
        for host in [
            "evil.example",
            "evil.example:9000",
            "localhost.evil.example",
        ] {
            assert_eq!(refused(&asking(host)), Fault::ForeignHost);
            // A port that others reach has names that nobody here knows.
            let open = read(asking(host).as_bytes(), false);
            assert!(matches!(open, Some(Answer::Show(..))));
        }
        let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
        assert_eq!(refused(two), Fault::Malformed);
    }
}
