//! Links: how people and supernodes are passed on.
//!
//! ```text
//! person    = "ahoy:" key [ "?" parameter *( "&" parameter ) ]
//! parameter = "home=" address | "token=" invite | "name=" text
//! node      = "ahoy-node:" address
//! address   = key "@" host ":" port [ "?tcp=" port ]
//! key       = 52 characters of z-base-32
//! ```
//! Parameters come in this order: up to four homes, best first, then at most one token and one name. Values
//! are percent-encoded (RFC 3986 section 2.1, upper-case hex): everything but letters, digits and `-._~@:`.
//! There is one spelling for each link, so two links are equal when their texts are.
//!
//! This is version 1, which is not written. A later version will begin its parameters with `v=`, which this
//! parser answers by asking for an update.

use std::{fmt, str::FromStr};

use ahoy_transport::identity::{
    Invite, InviteError, MAX_NODE_ADDRESS_LEN, NodeAddress, NodeAddressError, NodeId, UserId,
    log::MAX_HOMES,
};

/// Longest link, in bytes. Four homes with long names, a token and a name fit.
pub const MAX_LINK_LEN: usize = 4096;
/// Longest name that a person can have, in characters.
pub const MAX_NAME_CHARS: usize = 64;
/// Longest name in a link, in bytes of UTF-8.
const MAX_NAME_BYTES: usize = 4 * MAX_NAME_CHARS;

const PERSON: &str = "ahoy:";
const NODE: &str = "ahoy-node:";
const KEY_CHARS: usize = 52;

/// What is wrong with a link, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing there.
    #[error("the link is empty")]
    Empty,
    /// Longer than any link.
    #[error("the link is longer than {MAX_LINK_LEN} characters; was something pasted after it?")]
    TooLong,
    /// A space or line break.
    #[error("there is a space or line break in the link; copy it again in one piece")]
    Whitespace,
    /// Neither scheme.
    #[error("not a link: a person's link begins with ahoy: and a supernode's with ahoy-node:")]
    NotALink,
    /// `ahoy://`.
    #[error("write ahoy: without slashes")]
    Slashes,
    /// Upper case in the scheme.
    #[error("write the link's beginning in lower case")]
    Case,
    /// A supernode's link where a person's is needed.
    #[error(
        "this is a supernode's link; to call somebody, ask for the link that begins with ahoy:"
    )]
    NodeNotPerson,
    /// A person's link where a supernode's is needed.
    #[error("this is a person's link; a supernode's link begins with ahoy-node:")]
    PersonNotNode,
    /// The key has the wrong length.
    #[error("the key has {0} characters instead of 52; was the link cut off?")]
    KeyLength(usize),
    /// A character that keys do not have.
    #[error("{0:?} cannot occur in a key (keys use a-z and 1-9 without l, v, 0 and 2)")]
    KeyCharacter(char),
    /// Right length and characters, but no key.
    #[error("the key is mistyped; copy the link instead of typing it")]
    KeyUnusable,
    /// A parameter without `=`.
    #[error("{0:?} in the link has no value")]
    NoValue(String),
    /// Another version.
    #[error("the link was made by a newer version of ahoy (link version {0}); update to use it")]
    Version(String),
    /// A parameter that this version does not have.
    #[error(
        "the link holds {0:?}, which this version of ahoy does not know; update, or leave that part out"
    )]
    UnknownParameter(String),
    /// A parameter twice, or in the wrong place.
    #[error(
        "{0:?} is repeated or in the wrong place: homes come first, then one token, then one name"
    )]
    Order(String),
    /// More homes than a link may have.
    #[error("the link holds more than {MAX_HOMES} homes")]
    TooManyHomes,
    /// A home is not an address.
    #[error("a home in the link: {0}")]
    Home(NodeAddressError),
    /// The supernode's address is none.
    #[error("{0}")]
    Node(NodeAddressError),
    /// The token is no invite.
    #[error("the token in the link: {0}")]
    Token(InviteError),
    /// The name is empty or too long.
    #[error("the name in the link is empty or longer than {MAX_NAME_CHARS} characters")]
    Name,
    /// A percent sign not followed by two upper-case hex digits, or a character that should be encoded, or
    /// that should not be.
    #[error("{0:?} in the link is not encoded as it should be; copy the link again")]
    Encoding(String),
}

/// A person's link.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonLink {
    /// Whom it names.
    pub user: UserId,
    /// Where the person's devices are registered, best first; at most [`MAX_HOMES`].
    pub homes: Vec<NodeAddress>,
    /// The right to ring.
    pub token: Option<Invite>,
    /// What the person wants to be called, cleaned by [`display_name`].
    pub name: Option<String>,
}

/// A supernode's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLink(pub NodeAddress);

/// Either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// `ahoy:…`
    Person(PersonLink),
    /// `ahoy-node:…`
    Node(NodeLink),
}

impl PersonLink {
    /// A link to a person, with nothing but the key.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        Self {
            user,
            homes: vec![],
            token: None,
            name: None,
        }
    }
}

impl fmt::Display for PersonLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PERSON}{}", self.user)?;
        let mut separator = '?';
        for home in &self.homes {
            write!(f, "{separator}home={}", encode(&home.to_string()))?;
            separator = '&';
        }
        if let Some(token) = &self.token {
            write!(f, "{separator}token={token}")?;
            separator = '&';
        }
        if let Some(name) = &self.name {
            write!(f, "{separator}name={}", encode(name))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PersonLink {
    /// Whom it names; the token is a secret and the name personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersonLink")
            .field("user", &self.user)
            .field("homes", &self.homes)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for NodeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NODE}{}", self.0)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(link) => link.fmt(f),
            Self::Node(link) => link.fmt(f),
        }
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.is_empty() {
            return Err(LinkError::Empty);
        }
        if text.len() > MAX_LINK_LEN {
            return Err(LinkError::TooLong);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(LinkError::Whitespace);
        }
        if let Some(rest) = text.strip_prefix(NODE) {
            return read_node(rest).map(Self::Node);
        }
        if let Some(rest) = text.strip_prefix(PERSON) {
            return read_person(rest).map(Self::Person);
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with(NODE) || lower.starts_with(PERSON) {
            return Err(LinkError::Case);
        }
        Err(LinkError::NotALink)
    }
}

impl FromStr for PersonLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        match text.parse()? {
            Link::Person(link) => Ok(link),
            Link::Node(_) => Err(LinkError::NodeNotPerson),
        }
    }
}

impl FromStr for NodeLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        match text.parse()? {
            Link::Node(link) => Ok(link),
            Link::Person(_) => Err(LinkError::PersonNotNode),
        }
    }
}

fn read_node(rest: &str) -> Result<NodeLink, LinkError> {
    if rest.starts_with("//") {
        return Err(LinkError::Slashes);
    }
    if rest.len() > MAX_NODE_ADDRESS_LEN {
        return Err(LinkError::TooLong);
    }
    rest.parse().map(NodeLink).map_err(LinkError::Node)
}

fn read_person(rest: &str) -> Result<PersonLink, LinkError> {
    if rest.starts_with("//") {
        return Err(LinkError::Slashes);
    }
    let (key, parameters) = match rest.split_once('?') {
        Some((key, parameters)) => (key, Some(parameters)),
        None => (rest, None),
    };
    let mut link = PersonLink::new(read_key(key)?);
    for parameter in parameters.into_iter().flat_map(|all| all.split('&')) {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| LinkError::NoValue(excerpt(parameter)))?;
        let out_of_order = match name {
            "v" => return Err(LinkError::Version(excerpt(value))),
            "home" => link.token.is_some() || link.name.is_some(),
            "token" => link.token.is_some() || link.name.is_some(),
            "name" => link.name.is_some(),
            unknown => return Err(LinkError::UnknownParameter(excerpt(unknown))),
        };
        if out_of_order {
            return Err(LinkError::Order(name.to_owned()));
        }
        let value = decode(value)?;
        match name {
            "home" if link.homes.len() >= MAX_HOMES => return Err(LinkError::TooManyHomes),
            "home" => link.homes.push(value.parse().map_err(LinkError::Home)?),
            "token" => link.token = Some(value.parse().map_err(LinkError::Token)?),
            _name => link.name = Some(read_name(&value)?),
        }
    }
    Ok(link)
}

fn read_key(key: &str) -> Result<UserId, LinkError> {
    if let Some(character) = key.chars().find(|c| !is_key_char(*c)) {
        return Err(LinkError::KeyCharacter(character));
    }
    if key.len() != KEY_CHARS {
        return Err(LinkError::KeyLength(key.len()));
    }
    let user: UserId = key.parse().map_err(|_spelling| LinkError::KeyUnusable)?;
    // The same test as for a node's key: a point of the curve under which something can be proved.
    if NodeId(user.0).noise_static().is_none() {
        return Err(LinkError::KeyUnusable);
    }
    Ok(user)
}

fn is_key_char(c: char) -> bool {
    matches!(c, 'a'..='k' | 'm'..='u' | 'w'..='z' | '1' | '3'..='9')
}

fn read_name(value: &str) -> Result<String, LinkError> {
    if value.len() > MAX_NAME_BYTES || value.chars().count() > MAX_NAME_CHARS {
        return Err(LinkError::Name);
    }
    let name = display_name(value);
    if name.is_empty() {
        Err(LinkError::Name)
    } else {
        Ok(name)
    }
}

/// The beginning of something a stranger wrote, for an error message.
fn excerpt(text: &str) -> String {
    text.chars().take(24).collect()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~@:".contains(&byte)
}

pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub(crate) fn decode(value: &str) -> Result<String, LinkError> {
    let wrong = || LinkError::Encoding(excerpt(value));
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(wrong());
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hex digits"));
    }
    let text = String::from_utf8(bytes).map_err(|_not_utf8| wrong())?;
    // One spelling: upper-case hex, and exactly what has to be encoded.
    if encode(&text) == value {
        Ok(text)
    } else {
        Err(wrong())
    }
}

/// A name that somebody else chose, made fit to be shown: without control characters, without the invisible
/// ones that change the direction of the text around them or hide, spaces reduced to single ones, cut at
/// [`MAX_NAME_CHARS`]. May come out empty.
#[must_use]
pub fn display_name(name: &str) -> String {
    let mut out = String::new();
    let mut gap = false;
    let mut count = 0;
    for c in name.chars() {
        if c.is_whitespace() {
            gap = true;
        } else if !c.is_control() && !is_deceptive(c) {
            let needed = if gap && count > 0 { 2 } else { 1 };
            if count + needed > MAX_NAME_CHARS {
                break;
            }
            if needed == 2 {
                out.push(' ');
            }
            out.push(c);
            count += needed;
            gap = false;
        }
    }
    out
}

/// Characters that show nothing themselves but change or hide what stands near them. Joiners (U+200C,
/// U+200D) stay: Persian, Hindi and many emoji need them.
pub(crate) fn is_deceptive(c: char) -> bool {
    matches!(c,
        // Bidirectional controls (Unicode Annex 9): marks, embeddings and overrides, isolates.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Invisible: soft hyphen, zero-width space, word joiner and operators, deprecated format characters.
        | '\u{00ad}' | '\u{034f}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        // Fillers that look like spaces, interlinear annotation, tags.
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use ahoy_transport::identity::{NodeKeys, RootKey, log::LogSigner};
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    fn root() -> RootKey {
        RootKey::from_seed(&[1; 32])
    }

    fn home(place: &str) -> NodeAddress {
        format!("{}@{place}", NodeKeys::from_seed(&[2; 32]).id())
            .parse()
            .unwrap()
    }

    fn invite(seed: u8) -> Invite {
        let user = root().user();
        Invite::issue(
            user,
            LogSigner::Root(&root()),
            7,
            &mut ChaCha20Rng::from_seed([seed; 32]),
        )
    }

    fn full() -> PersonLink {
        PersonLink {
            user: root().user(),
            homes: vec![home("[2001:db8::1]:443"), home("relay.example.org:3478")],
            token: Some(invite(1)),
            name: Some("Zoë & Bo".into()),
        }
    }

    fn person(rest: &str) -> Result<PersonLink, LinkError> {
        format!("ahoy:{}{rest}", root().user()).parse()
    }

    #[test]
    fn a_link_reads_as_it_is_written() {
        let user = root().user();
        let node = NodeKeys::from_seed(&[2; 32]).id();
        let text = full().to_string();
        assert_eq!(
            text,
            format!(
                "ahoy:{user}?home={node}@%5B2001:db8::1%5D:443&home={node}@relay.example.org:3478&token={}&name=Zo%C3%AB%20%26%20Bo",
                invite(1)
            )
        );
        assert_eq!(text.parse(), Ok(full()));
        let bare = PersonLink::new(user);
        assert_eq!(
            bare.to_string(),
            "ahoy:tkrq8zmwb8a3m9k15csu3q17qmfgqnp9dskbrg9uq1rydpyxp7qy"
        );
        assert_eq!(bare.to_string().parse(), Ok(bare));
        let node_link = NodeLink(home("192.0.2.1:443"));
        assert_eq!(
            node_link.to_string(),
            format!("ahoy-node:{node}@192.0.2.1:443")
        );
        assert_eq!(node_link.to_string().parse(), Ok(node_link));
    }

    #[test]
    fn the_longest_link_fits() {
        let name = format!(
            "{}.{}.{}.{}",
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61)
        );
        let longest = PersonLink {
            homes: vec![home(&format!("{name}:65535")); MAX_HOMES],
            name: Some("\u{1f600}".repeat(MAX_NAME_CHARS)),
            ..full()
        };
        assert!(longest.to_string().len() < MAX_LINK_LEN);
        assert_eq!(longest.to_string().parse(), Ok(longest));
    }

    #[test]
    fn mistakes_are_named() {
        let user = root().user().to_string();
        let bad = |text: &str| text.parse::<PersonLink>().unwrap_err();
        assert_eq!(bad(""), LinkError::Empty);
        assert_eq!(bad("bob"), LinkError::NotALink);
        assert_eq!(bad("https://example.org"), LinkError::NotALink);
        assert_eq!(bad(&format!("AHOY:{user}")), LinkError::Case);
        assert_eq!(bad(&format!("ahoy://{user}")), LinkError::Slashes);
        assert_eq!(bad(&format!("ahoy: {user}")), LinkError::Whitespace);
        assert_eq!(
            bad(&format!("ahoy:{}", &user[..51])),
            LinkError::KeyLength(51)
        );
        assert_eq!(bad("ahoy:"), LinkError::KeyLength(0));
        assert_eq!(
            bad(&format!("ahoy:0{}", &user[1..])),
            LinkError::KeyCharacter('0')
        );
        assert_eq!(
            bad(&format!("ahoy:{}", "y".repeat(52))),
            LinkError::KeyUnusable
        );
        assert_eq!(bad(&"a".repeat(MAX_LINK_LEN + 1)), LinkError::TooLong);
        assert_eq!(
            bad(&NodeLink(home("a.org:1")).to_string()),
            LinkError::NodeNotPerson
        );
        assert_eq!(
            full().to_string().parse::<NodeLink>(),
            Err(LinkError::PersonNotNode)
        );

        assert_eq!(person("?"), Err(LinkError::NoValue(String::new())));
        assert_eq!(person("?home"), Err(LinkError::NoValue("home".into())));
        assert_eq!(person("?v=2&x=y"), Err(LinkError::Version("2".into())));
        assert_eq!(
            person("?fax=1"),
            Err(LinkError::UnknownParameter("fax".into()))
        );
        assert_eq!(
            person("?name=a&name=b"),
            Err(LinkError::Order("name".into()))
        );
        assert!(matches!(
            person("?home=x"),
            Err(LinkError::Home(NodeAddressError::NoKey(_)))
        ));
        assert!(matches!(person("?token=x"), Err(LinkError::Token(_))));
        assert_eq!(person("?name="), Err(LinkError::Name));
        assert_eq!(
            person(&format!("?name={}", "a".repeat(65))),
            Err(LinkError::Name)
        );
        for encoding in [
            "a+b", "%", "%4", "%4g", "%41", "%c3%AB", "%FF", "a%2Bb%", "ë",
        ] {
            assert!(
                matches!(
                    person(&format!("?name={encoding}")),
                    Err(LinkError::Encoding(_))
                ),
                "{encoding}"
            );
        }
        let address = home("a.org:1");
        let homes = format!("home={address}");
        assert_eq!(
            person(&format!("?name=a&{homes}")),
            Err(LinkError::Order("home".into()))
        );
        assert_eq!(
            person(&format!("?{}", [homes.as_str(); MAX_HOMES + 1].join("&"))),
            Err(LinkError::TooManyHomes)
        );
    }

    #[test]
    fn messages_say_what_to_do() {
        let text = person("?v=2").unwrap_err().to_string();
        assert!(text.contains("update"), "{text}");
        let text = "ahoy:abc".parse::<Link>().unwrap_err().to_string();
        assert!(text.contains("cut off"), "{text}");
    }

    #[test]
    fn names_lose_what_deceives() {
        assert_eq!(display_name("  Bo \n\t Li  "), "Bo Li");
        assert_eq!(
            display_name("Bo\u{202e}\u{2066}gnp.exe\u{0}\u{7f}"),
            "Bognp.exe"
        );
        assert_eq!(display_name("\u{200b}\u{3164}\u{2069}\u{e0041}"), "");
        assert_eq!(
            display_name("می\u{200c}خواهم"),
            "می\u{200c}خواهم",
            "joiners are letters' business"
        );
        assert_eq!(
            display_name(&"x ".repeat(100)).chars().count(),
            MAX_NAME_CHARS - 1
        );
        assert_eq!(
            person("?name=Bo%E2%80%AEx").unwrap().name,
            Some("Box".into()),
            "an override in a link is dropped"
        );
    }

    #[test]
    fn debug_tells_no_secret() {
        let text = format!("{:?}", full());
        assert!(
            !text.contains("Zo") && !text.contains(&invite(1).to_string()),
            "{text}"
        );
    }

    fn any_link() -> impl Strategy<Value = PersonLink> {
        let host = prop_oneof![
            any::<std::net::SocketAddr>().prop_map(|addr| match addr {
                std::net::SocketAddr::V4(v4) => format!("{}:{}", v4.ip(), v4.port().max(1)),
                std::net::SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port().max(1)),
            }),
            "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9-]{0,10}[a-z])?:[1-9][0-9]{0,3}(\\?tcp=[1-9][0-9]{0,3})?",
        ];
        (
            any::<[u8; 32]>(),
            prop::collection::vec(host, 0..=MAX_HOMES),
            any::<Option<u8>>(),
            prop::option::of(any::<String>()),
        )
            .prop_map(|(seed, homes, token, name)| PersonLink {
                user: RootKey::from_seed(&seed).user(),
                homes: homes.iter().map(|place| home(place)).collect(),
                token: token.map(invite),
                name: name
                    .map(|name| display_name(&name))
                    .filter(|name| !name.is_empty()),
            })
    }

    proptest! {
        #[test]
        fn links_round_trip(link in any_link()) {
            let text = link.to_string();
            prop_assert!(text.is_ascii());
            prop_assert_eq!(text.parse(), Ok(link));
        }

        #[test]
        fn garbage_is_an_error(text: String, scheme in prop::sample::select(vec!["", "ahoy:", "ahoy-node:"])) {
            let text = format!("{scheme}{text}");
            prop_assert!(text.parse::<Link>().is_err());
        }

        /// What parses is written back the same, except for names, which are cleaned.
        #[test]
        fn one_spelling_per_link(link in any_link(), at: prop::sample::Index, with in "[ -~]") {
            let mut text = link.to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &with);
            if let Ok(Link::Person(read)) = text.parse::<Link>() {
                let without_name = |text: &str| text.split("name=").next().map(str::to_owned);
                prop_assert_eq!(without_name(&read.to_string()), without_name(&text));
            }
        }

        #[test]
        fn a_cleaned_name_stays_as_it_is(name: String) {
            let once = display_name(&name);
            prop_assert!(once.chars().count() <= MAX_NAME_CHARS);
            prop_assert_eq!(display_name(&once), once);
        }
    }
}
