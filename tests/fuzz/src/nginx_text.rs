//! nginx's config language, read as nginx's manual describes it and not as our renderer writes it.

/// A directive with everything in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The name first.
    pub words: Vec<String>,
    /// None: it ended with ';'.
    pub block: Option<Vec<Self>>,
}

/// Reads a whole config. The error says what nginx would stumble over.
pub fn parse(text: &str) -> Result<Vec<Directive>, String> {
    let mut chars = text.chars().peekable();
    let mut open: Vec<Vec<Directive>> = vec![Vec::new()];
    let mut heads: Vec<Vec<String>> = Vec::new();
    let mut words = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' if words.is_empty() => return Err("a ';' after nothing".to_owned()),
            ';' => put(&mut open, Directive { words: std::mem::take(&mut words), block: None }),
            '{' if words.is_empty() => return Err("a '{' after nothing".to_owned()),
            '{' => {
                heads.push(std::mem::take(&mut words));
                open.push(Vec::new());
            }
            '}' if !words.is_empty() => return Err(format!("a '}}' after {words:?}")),
            '}' => {
                let (Some(head), Some(block)) = (heads.pop(), open.pop()) else {
                    return Err("a '}' too many".to_owned());
                };
                put(&mut open, Directive { words: head, block: Some(block) });
            }
            '"' | '\'' => {
                words.push(quoted(&mut chars, c)?);
                if chars.peek().is_some_and(|next| !" \t\r\n;{)".contains(*next)) {
                    return Err(format!("{:?} follows a closing quote", chars.peek()));
                }
            }
            first => words.push(plain(&mut chars, first)),
        }
    }
    match (&open[..], words.is_empty()) {
        ([_], true) => Ok(open.remove(0)),
        _ => Err("it ends within a directive".to_owned()),
    }
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

fn put(open: &mut [Vec<Directive>], directive: Directive) {
    if let Some(block) = open.last_mut() {
        block.push(directive);
    }
}

fn quoted(chars: &mut Chars<'_>, quote: char) -> Result<String, String> {
    let mut word = String::new();
    loop {
        match chars.next() {
            None => return Err(format!("a {quote} that is not closed")),
            Some(c) if c == quote => return Ok(word),
            Some('\\') => word.extend(escaped(chars)),
            Some(c) => word.push(c),
        }
    }
}

/// Until a blank, ';' or '{'; but the '{' of `${name}` is part of the word.
fn plain(chars: &mut Chars<'_>, first: char) -> String {
    let mut word = String::new();
    let mut next = Some(first);
    while let Some(c) = next {
        match c {
            '\\' => word.extend(escaped(chars)),
            c => word.push(c),
        }
        let is_variable = c == '$';
        next = chars.next_if(|next| match next {
            ' ' | '\t' | '\r' | '\n' | ';' => false,
            '{' => is_variable,
            _ => true,
        });
    }
    word
}

fn escaped(chars: &mut Chars<'_>) -> Vec<char> {
    match chars.next() {
        None => Vec::new(),
        Some('t') => vec!['\t'],
        Some('r') => vec!['\r'],
        Some('n') => vec!['\n'],
        Some(c @ ('"' | '\'' | '\\')) => vec![c],
        Some(other) => vec!['\\', other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name word{ block }` in a form that shows where each word ends.
    fn shown(text: &str) -> String {
        fn all(directives: &[Directive]) -> String {
            directives
                .iter()
                .map(|directive| match &directive.block {
                    None => format!("{};", directive.words.join("|")),
                    Some(block) => format!("{}{{{}}}", directive.words.join("|"), all(block)),
                })
                .collect()
        }
        parse(text).map_or_else(|error| error, |directives| all(&directives))
    }

    #[test]
    fn words_and_blocks_are_nginxs() {
        for (text, expected) in [
            ("a b;c{d e;}", "a|b;c{d|e;}"),
            ("a \"b ; { c\" 'd\"';", "a|b ; { c|d\";"),
            ("a \"\\\"b\\n\" c\\;d;", "a|\"b\n|c\\;d;"),
            ("a # ; b\n c;# end", "a|c;"),
            ("a b#c ${d}e;", "a|b#c|${d}e;"),
            ("a $b{c;}", "a|$b{c;}"),
            ("a \"b\"c;", "Some('c') follows a closing quote"),
            ("a b", "it ends within a directive"),
            ("a {b;", "it ends within a directive"),
            ("a;}", "a '}' too many"),
            (";", "a ';' after nothing"),
            ("a } b", "a '}' after [\"a\"]"),
            ("a \"b;", "a \" that is not closed"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }
}
