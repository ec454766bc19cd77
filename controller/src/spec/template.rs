//! Text with `${VERSION}` in it.

use super::names::Version;
use std::fmt;

/// A text into which the version is put when it is known. May be a secret: prints nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Version,
}

/// The one thing that can be put in.
const VERSION: &str = "${VERSION}";

impl Template {
    /// Reads `${VERSION}` as the version and `$$` as a dollar. Any other dollar is refused: Compose would put
    /// in a variable of the machine that reads the file, and which machine that is nobody can say here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let at = &rest[dollar..];
            if let Some(after) = at.strip_prefix(VERSION) {
                pieces.extend([Piece::Literal(std::mem::take(&mut literal)), Piece::Version]);
                rest = after;
            } else if let Some(after) = at.strip_prefix("$$") {
                literal.push('$');
                rest = after;
            } else {
                let position = text[..text.len() - at.len()].chars().count() + 1;
                return Err(format!(
                    "the '$' at character {position} begins neither {VERSION} nor $$; expected {VERSION}, which \
                     becomes the version, or $$, which becomes a '$'"
                ));
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        Ok(Self(pieces))
    }

    /// The text with the version in it.
    pub fn fill(&self, version: &Version) -> String {
        self.0.iter().map(|piece| piece.text(version.as_str())).collect()
    }

    /// Whether the version makes a difference.
    pub fn names_version(&self) -> bool {
        self.0.contains(&Piece::Version)
    }

    /// Bytes of the text with `${VERSION}` standing in it.
    pub(crate) fn source_bytes(&self) -> usize {
        self.0.iter().map(|piece| piece.text(VERSION).len()).sum()
    }
}

impl Piece {
    fn text<'a>(&'a self, version: &'a str) -> &'a str {
        match self {
            Self::Literal(text) => text,
            Self::Version => version,
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}
