//! What is wrong in a lab file, where, and what to do.

use std::ops::Range;

use minivpc_model::{FindError, IdError, Refusal};
use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

/// A place in a lab file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl From<Location> for Place {
    fn from(at: Location) -> Self {
        let number = |n: u64| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        Self { line: number(at.line()), column: number(at.column()) }
    }
}

/// Something wrong in a lab file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Mistake {
    /// Where it begins.
    pub place: Place,
    /// Which bytes of the file it is.
    pub span: Range<usize>,
    /// What to do about it.
    pub help: Option<String>,
    message: String,
}

/// AWS's words, and words of lab files, that a later minivpc will know.
const NOT_YET: &[&str] = &[
    "CAA",
    "DS",
    "HTTPS",
    "NAPTR",
    "NS",
    "SOA",
    "SPF",
    "SSHFP",
    "SVCB",
    "TLSA",
    "alias",
    "checks",
    "faults",
    "http_protocol_ipv6",
    "ipv6_cidr",
    "prefix_list",
    "prefix_lists",
    "public_hosted_zones",
    "secondary_cidrs",
    "transit_gateways",
    "vpc_endpoints",
    "vpc_peering_connections",
];

/// Text of a lab file, for a terminal: a file from somebody else may hold what would command it. Bytes keep their
/// places, so spans stay true.
#[must_use]
pub fn printable(text: &str) -> String {
    let seen = |c: char| match c {
        '\n' | '\t' => c,
        _ if !c.is_control() => c,
        _ if c.is_ascii() => '?',
        _ => '¿',
    };
    text.chars().map(seen).collect()
}

impl Mistake {
    pub(crate) fn new(at: Location, message: impl Into<String>) -> Self {
        let span = at.span();
        let start = span.byte_offset().unwrap_or_default();
        let end = start + span.byte_len().unwrap_or_default();
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self { place: at.into(), span: number(start)..number(end), help: None, message: printable(&message.into()) }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(printable(&help.into())), ..self }
    }

    /// A key that means nothing where it stands; `expected` would.
    pub(crate) fn unknown_key(at: Location, key: &str, expected: &[&str]) -> Self {
        if NOT_YET.contains(&key) {
            return Self::new(at, format!("'{key}' isn't supported here yet"))
                .help("remove it; nothing of it would have an effect");
        }
        let help = closest(key, expected.iter().copied())
            .map_or_else(|| format!("these are: {}", expected.join(", ")), |near| format!("did you mean '{near}'?"));
        Self::new(at, format!("there is no key '{key}' here")).help(help)
    }

    pub(crate) fn not_found(at: Location, error: FindError) -> Self {
        let message = error.to_string();
        let help = match error {
            FindError::None { text, names, .. } => match closest(&text, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'?"),
                None if names.is_empty() => "the file has none".to_owned(),
                None => format!("these are: {}", names.join(", ")),
            },
            FindError::Several { candidates, .. } => format!("write {}", candidates.join(" or ")),
        };
        Self::new(at, message).help(help)
    }

    pub(crate) fn refused(at: Location, refusal: &Refusal) -> Self {
        Self::new(at, refusal.to_string())
    }

    pub(crate) fn id(at: Location, error: &IdError) -> Self {
        Self::new(at, error.to_string())
    }

    /// What the YAML reader says.
    pub(crate) fn yaml(error: &serde_saphyr::Error, text: &str) -> Self {
        use serde_saphyr::Error;
        let error = match error.without_snippet() {
            Error::AliasError { error, .. } => error,
            error => error,
        };
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let mistake = match error {
            Error::SerdeUnknownField { field, expected, .. } => Self::unknown_key(at, field, expected),
            Error::SerdeMissingField { field, .. } => Self::new(at, format!("'{field}' is missing here")),
            Error::DuplicateMappingKey { key, .. } => {
                Self::new(at, format!("the key '{}' stands here twice", key.as_deref().unwrap_or_default()))
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                Self::new(at, format!("'{variant}' isn't one of: {}", expected.join(", ")))
            }
            Error::Budget { .. } => Self::new(at, "the file is more than it looks: its aliases make it too large")
                .help("a lab file has at most 250000 values, with each alias counted as what it stands for"),
            Error::Unexpected { expected: "mapping start", .. } => {
                Self::new(at, "a map is needed here, as `key: value`")
            }
            Error::Unexpected { expected: "sequence start", .. } => {
                Self::new(at, "a list is needed here, as `[ … ]` or lines that begin with `- `")
            }
            other => Self::new(at, UserMessageFormatter.format_message(other)),
        };
        // The reader's lexer tells line and column only.
        let mistake = match mistake.span {
            Range { start: 0, end: 0 } => Self { span: span_of(mistake.place, text), ..mistake },
            _ => mistake,
        };
        let line = text.lines().nth(mistake.place.line as usize - 1).unwrap_or_default();
        if mistake.help.is_none() && line.contains("::/") && !line.contains("\"::/") && !line.contains("'::/") {
            return mistake.help("an IPv6 block as a key must be quoted: \"::/0\"");
        }
        mistake
    }
}

/// The one character at a place.
fn span_of(place: Place, text: &str) -> Range<usize> {
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(place.line as usize - 1).map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    let found = line.trim_end().char_indices().nth(place.column as usize - 1);
    let (at, length) = found.map_or((line.trim_end().len(), 0), |(at, c)| (at, c.len_utf8()));
    before + at..before + at + length
}

/// The word that was probably meant.
fn closest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|other| (strsim::damerau_levenshtein(word, other), other)).min()?;
    (near.0 <= word.chars().count().div_ceil(3)).then_some(near.1)
}
