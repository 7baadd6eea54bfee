//! A line becomes words, as haproxy's own `parse_line` does it: blanks separate,
//! `#` begins a remark, single quotes protect everything, double quotes protect
//! blanks, and a backslash protects one character outside of single quotes.

use std::iter::Peekable;
use std::str::CharIndices;

use super::{Directive, Malformed};

/// Every line of `text` that has a word; places count from `base`.
pub(super) fn lines(text: &str, base: usize) -> Result<Vec<Directive>, Malformed> {
    let mut found = Vec::new();
    let mut start = base;
    for (index, line) in text.split('\n').enumerate() {
        let directive = words(line, start, index + 1)?;
        if !directive.words.is_empty() {
            found.push(directive);
        }
        start += line.len() + 1;
    }
    Ok(found)
}

fn words(line: &str, start: usize, number: usize) -> Result<Directive, Malformed> {
    let mut directive = Directive {
        line: number,
        ..Directive::default()
    };
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.peek().copied() {
        match c {
            '#' => break,
            c if c.is_ascii_whitespace() => {
                chars.next();
            }
            _ => {
                let word = word(&mut chars).map_err(|quote| Malformed {
                    line: number,
                    message: format!("this {quote} quote is not closed on its line"),
                    span: start + at..start + line.trim_end().len().max(at),
                })?;
                let end = chars.peek().map_or(line.len(), |(at, _)| *at);
                directive.words.push(word);
                directive.spans.push(start + at..start + end);
            }
        }
    }
    Ok(directive)
}

/// The word that begins here; which kind of quote is left open, if one is.
fn word(chars: &mut Peekable<CharIndices<'_>>) -> Result<String, &'static str> {
    let mut word = String::new();
    let mut quote = None;
    while let Some((_, c)) = chars.peek().copied() {
        match (c, quote) {
            ('#', None) => break,
            (c, None) if c.is_ascii_whitespace() => break,
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                chars.next();
                escaped(chars, &mut word);
                continue;
            }
            _ => word.push(c),
        }
        chars.next();
    }
    match quote {
        None => Ok(word),
        Some('"') => Err("double"),
        Some(_) => Err("single"),
    }
}

/// What follows a backslash. Unknown escapes keep theirs, as in regular expressions.
fn escaped(chars: &mut Peekable<CharIndices<'_>>, word: &mut String) {
    let Some((_, c)) = chars.peek().copied() else {
        word.push('\\');
        return;
    };
    let meant = match c {
        ' ' | '\\' | '#' | '"' | '\'' | '$' => c,
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        _ => {
            word.push('\\');
            return;
        }
    };
    word.push(meant);
    chars.next();
}
