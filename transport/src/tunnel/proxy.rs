//! Asking a proxy to connect: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, 1929).
//!
//! The proxy looks names up, not we: behind some of them there is no name service. No state machine here reads further
//! than the proxy's answer may be long, and none repeats what a proxy says without cleaning it.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{fmt, net::IpAddr, str::FromStr};

use zeroize::Zeroizing;

use crate::identity::{Host, HostError};

/// Longest answer of an HTTP proxy, in bytes. What is sent after it belongs to the tunnel.
const MAX_HTTP_ANSWER: usize = 8 * 1024;
/// Longest user name and password (RFC 1929 section 2), in bytes.
const MAX_CREDENTIAL: usize = 255;
/// Longest part of a proxy's own words that is repeated, in characters.
const MAX_QUOTED: usize = 80;
/// Where a proxy address names no port, as curl takes it.
const DEFAULT_PORT: u16 = 1080;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`: CONNECT.
    Http,
    /// `socks5://` and `socks5h://`: names are resolved at the proxy either way.
    Socks5,
}

/// A proxy, and how to be let in there: `http://user:password@host:port` or `socks5://host:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    host: Host,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// Why a text names no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseProxyError {
    /// No `://`, or one that is not known.
    #[error("a proxy is written http://host:port or socks5://host:port")]
    Scheme,
    /// TLS to the proxy.
    #[error(
        "a proxy that is itself reached by TLS (https://) is not supported; most of these listen for http:// too"
    )]
    Tls,
    /// SOCKS4.
    #[error("SOCKS version 4 is not supported; write socks5:// if the proxy knows it")]
    Socks4,
    /// Not a host.
    #[error("the proxy's host: {0}")]
    Host(#[from] HostError),
    /// Not a port.
    #[error("the proxy's port is not a number from 1 to 65535")]
    Port,
    /// `%` without two hex digits, or not text.
    #[error("user name or password of the proxy: write special characters as % and two hex digits")]
    Encoding,
    /// Longer than SOCKS5 and most others take, or an empty name.
    #[error("user name and password of the proxy have 1 to {MAX_CREDENTIAL} characters")]
    Login,
}

/// Why a proxy did not connect us, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It wants to know who we are.
    #[error(
        "the proxy wants a user name and password: give them as in http://user:password@host:port"
    )]
    LoginNeeded,
    /// It does not like who we are.
    #[error("the proxy refuses the user name or password")]
    LoginRefused,
    /// It does not connect to there.
    #[error("the proxy does not allow the connection ({0})")]
    Forbidden(String),
    /// It cannot connect.
    #[error("the proxy cannot reach the supernode ({0})")]
    Unreachable(String),
    /// It speaks something else.
    #[error("what answers there is no {0} proxy")]
    NotAProxy(&'static str),
    /// It ended the connection before it answered.
    #[error("the proxy ended the connection without an answer")]
    Ended,
}

impl FromStr for Proxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ParseProxyError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "socks5" | "socks5h" => Scheme::Socks5,
            "https" => return Err(ParseProxyError::Tls),
            "socks4" | "socks4a" => return Err(ParseProxyError::Socks4),
            _unknown => return Err(ParseProxyError::Scheme),
        };
        // As browsers write it.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(read_login(login)?), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':') {
            // In an IPv6 address without a port the last colon is inside the brackets.
            Some((host, port)) if !port.contains(']') => {
                let number = port.parse().ok().filter(|number| *number > 0);
                (host, number.ok_or(ParseProxyError::Port)?)
            }
            Some(_) | None => (place, DEFAULT_PORT),
        };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase().parse()?,
            port,
            login,
        })
    }
}

fn read_login(text: &str) -> Result<Login, ParseProxyError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let login = Login {
        user: unescape(user)?,
        password: Zeroizing::new(unescape(password)?),
    };
    if login.user.is_empty()
        || login.user.len() > MAX_CREDENTIAL
        || login.password.len() > MAX_CREDENTIAL
    {
        return Err(ParseProxyError::Login);
    }
    Ok(login)
}

/// Percent-decoding (RFC 3986 section 2.1).
fn unescape(text: &str) -> Result<String, ParseProxyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ParseProxyError::Encoding);
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or(0));
    }
    String::from_utf8(bytes).map_err(|_not_text| ParseProxyError::Encoding)
}

/// The reverse, for settings files.
fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            write!(f, "{}", char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Proxy {
    /// Everything, the password too: for settings files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Http => "http://",
            Scheme::Socks5 => "socks5://",
        })?;
        if let Some(login) = &self.login {
            escape(&login.user, f)?;
            f.write_str(":")?;
            escape(&login.password, f)?;
            f.write_str("@")?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("scheme", &self.scheme)
            .field("place", &self.place())
            .field("login", &self.login.is_some())
            .finish()
    }
}

impl Proxy {
    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, for a person.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Begins to ask for a connection to `host`.
    #[must_use]
    pub fn ask(&self, host: &Host, port: u16) -> Asking {
        let state = match self.scheme {
            Scheme::Http => State::Http {
                request: http_request(self.login.as_ref(), host, port),
                answer: Vec::new(),
                with_login: self.login.is_some(),
            },
            Scheme::Socks5 => State::Socks(Socks {
                login: self.login.clone(),
                request: socks_request(host, port),
                stage: SocksStage::Method,
                buffer: Vec::new(),
            }),
        };
        Asking { state }
    }
}

/// What to do next with a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this, then read.
    Send(Vec<u8>),
    /// Read on.
    Wait,
    /// Connected.
    Done {
        /// What came behind the proxy's answer: the first bytes of the other end.
        early: Vec<u8>,
    },
}

/// One conversation with a proxy: [`begin`](Self::begin), then [`input`](Self::input) until it is done.
#[derive(Debug)]
pub struct Asking {
    state: State,
}

#[derive(Debug)]
enum State {
    Http {
        request: Vec<u8>,
        answer: Vec<u8>,
        with_login: bool,
    },
    Socks(Socks),
}

impl Asking {
    /// What to send first.
    pub fn begin(&mut self) -> Step {
        Step::Send(match &mut self.state {
            State::Http { request, .. } => std::mem::take(request),
            State::Socks(socks) => socks.methods(),
        })
    }

    /// The proxy has sent `bytes`; none at all when it ended the connection.
    ///
    /// # Errors
    /// When it does not connect us.
    pub fn input(&mut self, bytes: &[u8]) -> Result<Step, ProxyError> {
        match &mut self.state {
            State::Http {
                answer, with_login, ..
            } => {
                if bytes.is_empty() {
                    return Err(match answer.is_empty() {
                        true => ProxyError::Ended,
                        false => ProxyError::NotAProxy("HTTP"),
                    });
                }
                answer.extend_from_slice(bytes);
                http_answer(answer, *with_login)
            }
            State::Socks(socks) => {
                if bytes.is_empty() {
                    return Err(ProxyError::Ended);
                }
                socks.buffer.extend_from_slice(bytes);
                socks.advance()
            }
        }
    }
}

fn http_request(login: Option<&Login>, host: &Host, port: u16) -> Vec<u8> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(Login { user, password }) = login {
        let plain = Zeroizing::new(format!("{user}:{}", **password));
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&base64(plain.as_bytes()));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * n) & 0x3f).unwrap_or(0);
            let is_padding = n > u32::try_from(group.len()).unwrap_or(0);
            out.push(match ALPHABET.get(digit) {
                Some(digit) if !is_padding => char::from(*digit),
                Some(_) | None => '=',
            });
        }
    }
    out
}

fn http_answer(answer: &mut Vec<u8>, with_login: bool) -> Result<Step, ProxyError> {
    const NOT_HTTP: ProxyError = ProxyError::NotAProxy("HTTP");
    let start = b"HTTP/1.";
    let begins = answer.iter().zip(start).all(|(a, b)| a == b);
    if !begins {
        return Err(NOT_HTTP);
    }
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        if answer.len() > MAX_HTTP_ANSWER {
            return Err(NOT_HTTP);
        }
        return Ok(Step::Wait);
    };
    let early = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(answer);
    // HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 section 4).
    let line = head.lines().next().unwrap_or_default();
    let status = line.get(8..).unwrap_or_default().trim_start();
    let code: u16 = status
        .get(..3)
        .and_then(|code| code.parse().ok())
        .ok_or(NOT_HTTP)?;
    match code {
        200..=299 => Ok(Step::Done { early }),
        407 if with_login => Err(ProxyError::LoginRefused),
        407 => Err(ProxyError::LoginNeeded),
        401 | 403 | 405 | 501 => Err(ProxyError::Forbidden(quoted(status))),
        _other => Err(ProxyError::Unreachable(quoted(status))),
    }
}

/// A proxy's own words, cleaned.
fn quoted(words: &str) -> String {
    words
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .take(MAX_QUOTED)
        .collect::<String>()
        .trim()
        .to_owned()
}

const SOCKS_VERSION: u8 = 5;
const METHOD_NONE: u8 = 0;
const METHOD_LOGIN: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const LOGIN_VERSION: u8 = 1;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

#[derive(Debug)]
struct Socks {
    login: Option<Login>,
    request: Vec<u8>,
    stage: SocksStage,
    buffer: Vec<u8>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

#[derive(Debug, Clone, Copy)]
enum SocksStage {
    Method,
    Login,
    Reply,
}

fn socks_request(host: &Host, port: u16) -> Vec<u8> {
    let mut request = vec![SOCKS_VERSION, COMMAND_CONNECT, 0];
    match host {
        Host::Ip(IpAddr::V4(v4)) => {
            request.push(ADDRESS_V4);
            request.extend_from_slice(&v4.octets());
        }
        Host::Ip(IpAddr::V6(v6)) => {
            request.push(ADDRESS_V6);
            request.extend_from_slice(&v6.octets());
        }
        Host::Name(name) => {
            request.push(ADDRESS_NAME);
            push_short(&mut request, name);
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    request
}

/// One byte of length, then the text; none here is longer than 255 bytes.
fn push_short(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(text.bytes().take(usize::from(length)));
}

impl Socks {
    fn methods(&self) -> Vec<u8> {
        match self.login {
            None => vec![SOCKS_VERSION, 1, METHOD_NONE],
            Some(_) => vec![SOCKS_VERSION, 2, METHOD_NONE, METHOD_LOGIN],
        }
    }

    fn advance(&mut self) -> Result<Step, ProxyError> {
        const NOT_SOCKS: ProxyError = ProxyError::NotAProxy("SOCKS5");
        match (self.stage, self.buffer.as_slice()) {
            (SocksStage::Method, [SOCKS_VERSION]) | (SocksStage::Login, [_]) => Ok(Step::Wait),
            (SocksStage::Method, [SOCKS_VERSION, method, ..]) => {
                let (method, login) = (*method, self.login.take());
                self.buffer.drain(..2);
                match (method, login) {
                    (METHOD_NONE, _not_needed) => {
                        self.stage = SocksStage::Reply;
                        Ok(Step::Send(std::mem::take(&mut self.request)))
                    }
                    (METHOD_LOGIN, Some(login)) => {
                        self.stage = SocksStage::Login;
                        let mut message = vec![LOGIN_VERSION];
                        push_short(&mut message, &login.user);
                        push_short(&mut message, &login.password);
                        Ok(Step::Send(message))
                    }
                    (METHOD_LOGIN | METHOD_REFUSED, None) => Err(ProxyError::LoginNeeded),
                    (METHOD_REFUSED, Some(_)) => Err(ProxyError::LoginRefused),
                    (_unasked, _) => Err(NOT_SOCKS),
                }
            }
            (SocksStage::Method, _) => Err(NOT_SOCKS),
            (SocksStage::Login, [_version, 0, ..]) => {
                self.buffer.drain(..2);
                self.stage = SocksStage::Reply;
                Ok(Step::Send(std::mem::take(&mut self.request)))
            }
            (SocksStage::Login, _) => Err(ProxyError::LoginRefused),
            (SocksStage::Reply, [SOCKS_VERSION, 0, _reserved, kind, rest @ ..]) => {
                // The bound address, which says nothing to us.
                let address = match (*kind, rest.first()) {
                    (ADDRESS_V4, _) => 4,
                    (ADDRESS_V6, _) => 16,
                    (ADDRESS_NAME, Some(length)) => 1 + usize::from(*length),
                    (ADDRESS_NAME, None) => return Ok(Step::Wait),
                    (_unknown, _) => return Err(NOT_SOCKS),
                };
                match rest.get(address + 2..) {
                    None => Ok(Step::Wait),
                    Some(early) => Ok(Step::Done {
                        early: early.to_vec(),
                    }),
                }
            }
            (SocksStage::Reply, [SOCKS_VERSION, code, ..]) if *code != 0 => Err(refusal(*code)),
            (SocksStage::Reply, [SOCKS_VERSION, ..] | []) => Ok(Step::Wait),
            (SocksStage::Reply, _) => Err(NOT_SOCKS),
        }
    }
}

/// RFC 1928 section 6.
fn refusal(code: u8) -> ProxyError {
    let unreachable = |text: &str| ProxyError::Unreachable(text.to_owned());
    match code {
        2 => ProxyError::Forbidden("not allowed by its rules".to_owned()),
        3 => unreachable("network unreachable"),
        4 => unreachable("host unreachable or unknown"),
        5 => unreachable("connection refused"),
        6 => unreachable("no answer in time"),
        7 => ProxyError::Forbidden("it does not connect by TCP".to_owned()),
        8 => ProxyError::Forbidden("it does not know this kind of address".to_owned()),
        other => ProxyError::Unreachable(format!("SOCKS error {other}")),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Host {
        text.parse().unwrap()
    }

    /// The whole conversation, the proxy's words one byte at a time, and what we sent.
    fn talk(asking: &mut Asking, answers: &[&[u8]]) -> (Result<Step, ProxyError>, Vec<Vec<u8>>) {
        let mut sent = Vec::new();
        let mut step = Ok(asking.begin());
        for answer in answers {
            if let Ok(Step::Send(bytes)) = &step {
                sent.push(bytes.clone());
            }
            for byte in answer.chunks(1) {
                step = asking.input(byte);
                match &step {
                    Err(_) | Ok(Step::Done { .. }) => return (step, sent),
                    Ok(Step::Wait | Step::Send(_)) => {}
                }
            }
        }
        (step, sent)
    }

    #[test]
    fn proxies_are_read_as_people_write_them() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080"),
            ("socks5h://10.0.0.1:9050", "socks5://10.0.0.1:9050"),
            ("http://bo:p%40ss@a.b:1", "http://bo:p%40ss@a.b:1"),
            ("http://bo:p@ss@a.b:1", "http://bo:p%40ss@a.b:1"),
        ] {
            assert_eq!(proxy(text).to_string(), shown);
            assert_eq!(proxy(shown), proxy(text));
        }
        use ParseProxyError as E;
        for (text, error) in [
            ("proxy.example:3128", E::Scheme),
            ("ftp://a:1", E::Scheme),
            ("https://a:1", E::Tls),
            ("socks4://a:1", E::Socks4),
            ("http://a:0", E::Port),
            ("http://a:x", E::Port),
            ("http://:1", E::Host(HostError::Empty)),
            ("http://%4@a:1", E::Encoding),
            ("http://@a:1", E::Login),
        ] {
            assert_eq!(text.parse::<Proxy>(), Err(error), "{text}");
        }
        let shown = format!("{:?}", proxy("http://bo:secret@a.b:1"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn http_connect_gives_what_follows_the_answer_to_the_tunnel() {
        let mut asking =
            proxy("http://Aladdin:open%20sesame@a.b:1").ask(&name("node.example"), 443);
        let answer = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";
        let (step, sent) = talk(&mut asking, &[answer]);
        assert_eq!(step, Ok(Step::Done { early: vec![] }));
        // RFC 7617 section 2 has this very login.
        let expected = "CONNECT node.example:443 HTTP/1.1\r\nHost: node.example:443\r\n\
            Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&sent[0]), expected);
        let mut asking = proxy("http://a.b:1").ask(&name("[2001:db8::1]"), 443);
        assert!(
            matches!(asking.begin(), Step::Send(sent) if sent.starts_with(b"CONNECT [2001:db8::1]:443 "))
        );
        let whole = asking.input(b"HTTP/1.0 200\r\n\r\nahoy");
        assert_eq!(
            whole,
            Ok(Step::Done {
                early: b"ahoy".to_vec()
            })
        );
    }

    #[test]
    fn http_refusals_say_what_to_do() {
        let ask = |login: &str, answer: &str| {
            let mut asking = proxy(&format!("http://{login}a.b:1")).ask(&name("c.d"), 443);
            talk(&mut asking, &[answer.as_bytes()]).0.unwrap_err()
        };
        let needed = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        assert_eq!(ask("", needed), ProxyError::LoginNeeded);
        assert_eq!(ask("x:y@", needed), ProxyError::LoginRefused);
        let text = ask("", "HTTP/1.1 403 For\x1b[2Jbidden\r\n\r\n").to_string();
        assert_eq!(
            text,
            "the proxy does not allow the connection (403 For [2Jbidden)"
        );
        let text = ask("", "HTTP/1.1 502 Bad Gateway\r\n\r\n").to_string();
        assert!(text.contains("cannot reach"), "{text}");
        for answer in ["SSH-2.0-x\r\n", "HTTP/1.1 hello\r\n\r\n"] {
            assert_eq!(ask("", answer), ProxyError::NotAProxy("HTTP"));
        }
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "a".repeat(2 * MAX_HTTP_ANSWER));
        assert_eq!(ask("", &endless), ProxyError::NotAProxy("HTTP"));
        let mut asking = proxy("http://a.b:1").ask(&name("c.d"), 443);
        assert_eq!(asking.input(b""), Err(ProxyError::Ended));
    }

    #[test]
    fn socks_with_and_without_a_password() {
        let mut asking = proxy("socks5://a.b:1").ask(&name("c.d"), 443);
        let reply = b"\x05\0\0\x01\x7f\0\0\x01\0\x09";
        let (step, sent) = talk(&mut asking, &[b"\x05\0", reply]);
        assert_eq!(step, Ok(Step::Done { early: vec![] }));
        assert_eq!(sent, [&b"\x05\x01\0"[..], b"\x05\x01\0\x03\x03c.d\x01\xbb"]);

        let mut asking = proxy("socks5://bo:pw@a.b:1").ask(&name("192.0.2.1"), 443);
        let reply = b"\x05\0\0\x03\x01x\0\x09";
        let (step, sent) = talk(&mut asking, &[b"\x05\x02", b"\x01\0", reply]);
        assert_eq!(step, Ok(Step::Done { early: vec![] }));
        let expected: [&[u8]; 3] = [
            b"\x05\x02\0\x02",
            b"\x01\x02bo\x02pw",
            b"\x05\x01\0\x01\xc0\0\x02\x01\x01\xbb",
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn socks_refusals_say_what_to_do() {
        let ask = |login: &str, answers: &[&[u8]]| {
            let mut asking = proxy(&format!("socks5://{login}a.b:1")).ask(&name("c.d"), 443);
            talk(&mut asking, answers).0.unwrap_err()
        };
        assert_eq!(ask("", &[b"\x05\xff"]), ProxyError::LoginNeeded);
        assert_eq!(ask("x:y@", &[b"\x05\xff"]), ProxyError::LoginRefused);
        assert_eq!(
            ask("x:y@", &[b"\x05\x02", b"\x01\x01"]),
            ProxyError::LoginRefused
        );
        assert_eq!(ask("", &[b"HTTP"]), ProxyError::NotAProxy("SOCKS5"));
        assert!(matches!(
            ask("", &[b"\x05\0", b"\x05\x02"]),
            ProxyError::Forbidden(_)
        ));
        assert!(matches!(
            ask("", &[b"\x05\0", b"\x05\x05"]),
            ProxyError::Unreachable(_)
        ));
    }

    proptest! {
        #[test]
        fn whatever_a_proxy_says_it_is_bounded_and_never_panics(
            answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
            start in prop::sample::select(vec!["", "HTTP/1.1 2", "HTTP/1.1 407 ", "\x05\0", "\x05\x02\x01\0"]),
            text in prop::sample::select(vec!["http://a:1", "socks5://u:p@a:1", "socks5://a:1"]),
        ) {
            let mut asking = proxy(text).ask(&name("c.d"), 443);
            asking.begin();
            let mut all = vec![start.as_bytes().to_vec()];
            all.extend(answers);
            for answer in all {
                match asking.input(&answer) {
                    Ok(Step::Done { .. }) | Err(_) => break,
                    Ok(Step::Wait | Step::Send(_)) => {}
                }
                let held = match &asking.state {
                    State::Http { answer, .. } => answer.len(),
                    State::Socks(socks) => socks.buffer.len(),
                };
                prop_assert!(held <= MAX_HTTP_ANSWER + 600);
            }
        }

        #[test]
        fn base64_has_its_length_and_alphabet(bytes: Vec<u8>) {
            let text = base64(&bytes);
            prop_assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
            let padding = (3 - bytes.len() % 3) % 3;
            prop_assert_eq!(text.chars().filter(|c| *c == '=').count(), padding);
        }

        #[test]
        fn no_text_makes_reading_a_proxy_panic(text: String, scheme in "(http|socks5)://.{0,40}") {
            for text in [text, scheme] {
                if let Ok(read) = text.parse::<Proxy>() {
                    prop_assert_eq!(read.to_string().parse::<Proxy>(), Ok(read));
                }
            }
        }
    }
}
