//! What Keepalived does before it looks at statements: lines for one configuration id only
//! (`@main …`), parameters (`$NAME=value`, `${NAME}`), and files that are included.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::tree::{Block, Token, Tree, next};
use super::{Directive, Malformed};

/// How deep parameters may hold others, and files include others.
const DEPTH: usize = 16;
/// Most bytes that parameters may become.
const BUDGET: usize = 1 << 20;

/// What an `include` line takes of it, so that a circle of files ends.
const INCLUDE: usize = 1 << 10;

/// A file that is included.
#[derive(Clone, Copy, Debug)]
pub struct Part<'t> {
    /// Its text.
    pub text: &'t str,
    /// Where its places count from.
    pub base: usize,
}

/// Tells which files an `include` line names; nothing if they are not known.
pub(super) type Included<'r> = dyn Fn(&Directive) -> Option<Vec<Part<'r>>> + 'r;

/// With what a file is read.
#[derive(Default)]
pub struct Reading<'r> {
    /// The configuration id; without one, lines for an id are left out.
    pub id: Option<&'r str>,
    /// The files that an `include` line at a place names; nothing if they are not known.
    pub included: Option<&'r Included<'r>>,
}

/// The tree of `text` in this reading; places count from `base`.
pub(super) fn read(text: &str, base: usize, with: &Reading<'_>) -> Result<Vec<Block>, Malformed> {
    let mut reader = Reader {
        tree: Tree::default(),
        with,
        parameters: HashMap::new(),
        budget: BUDGET,
        skips: false,
    };
    reader.feed(text, &Place::At(base), 0)?;
    reader.tree.finish()
}

/// The configuration ids that lines of `text` name.
pub fn ids(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| {
        let word = line.trim_start().strip_prefix('@')?;
        let word = word.strip_prefix('^').unwrap_or(word);
        word.split_whitespace().next()
    });
    lines.map(str::to_owned).collect()
}

/// Where a text stands that is being read.
enum Place {
    /// In a file whose places count from here.
    At(usize),
    /// It is what a parameter stands for that is used here.
    Of(Range<usize>, usize),
}

impl Place {
    fn span(&self, span: &Range<usize>) -> Range<usize> {
        match self {
            Self::At(base) => base + span.start..base + span.end,
            Self::Of(used, _) => used.clone(),
        }
    }

    fn line(&self, line: usize) -> usize {
        match self {
            Self::At(_) => line,
            Self::Of(_, line) => *line,
        }
    }
}

struct Reader<'a, 'r> {
    tree: Tree,
    with: &'a Reading<'r>,
    parameters: HashMap<String, String>,
    budget: usize,
    /// Whether the rest of the line is for another id.
    skips: bool,
}

impl Reader<'_, '_> {
    fn feed(&mut self, text: &str, place: &Place, depth: usize) -> Result<(), Malformed> {
        let (mut at, mut line, mut fresh) = (0, 1, true);
        while at < text.len() {
            if std::mem::take(&mut fresh)
                && let Some(skipped) = self.line_start(&text[at..])
            {
                line += text[at..at + skipped].matches('\n').count();
                at += skipped;
                fresh = text[..at].ends_with('\n');
                continue;
            }
            let (token, span, lines) = next(text, at, line).map_err(|error| Malformed {
                line: place.line(error.line),
                span: place.span(&error.span),
                ..error
            })?;
            let (own, number) = (place.span(&span), place.line(line));
            match token {
                Some(Token::End) => {
                    (fresh, self.skips) = (true, false);
                    self.end(depth)?;
                }
                _ if self.skips => {}
                Some(Token::Word(word)) => {
                    let quoted = text[span.clone()].contains(['"', '\'']);
                    self.word(word, quoted, (own, number), depth)?;
                }
                Some(Token::Open) => self.tree.open(own, number)?,
                Some(Token::Close) => {
                    self.end(depth)?;
                    self.tree.close(own, number)?;
                }
                None => {}
            }
            line += lines;
            at = span.end.max(at + 1);
        }
        match place {
            Place::At(_) => self.end(depth),
            // The line on which the parameter is used goes on.
            Place::Of(..) => Ok(()),
        }
    }

    /// Bytes at the start of a line that are no statement: one for another id, the id
    /// itself, or the definition of a parameter.
    fn line_start(&mut self, rest: &str) -> Option<usize> {
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let line = rest[blank..].split_inclusive('\n').next()?;
        if let Some(condition) = line.strip_prefix('@') {
            let word = condition.split_whitespace().next().unwrap_or_default();
            return Some(if self.applies(word) {
                blank + 1 + word.len()
            } else {
                blank + line.len()
            });
        }
        let (name, value) = line.strip_prefix('$')?.split_once('=')?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let start = blank + line.len() - value.len();
        let (value, length) = definition(&rest[start..]);
        self.parameters.insert(name.to_owned(), value);
        Some(start + length)
    }

    /// Whether lines for `word` are read: `main`, or `^main` for every other id.
    fn applies(&self, word: &str) -> bool {
        match word.strip_prefix('^') {
            Some(other) => self.with.id != Some(other),
            None => self.with.id == Some(word),
        }
    }

    fn word(
        &mut self,
        word: String,
        quoted: bool,
        (span, line): (Range<usize>, usize),
        depth: usize,
    ) -> Result<(), Malformed> {
        let known = word.contains('$') && depth < DEPTH;
        let Some(meant) = known.then(|| self.expanded(&word)).flatten() else {
            self.tree.word(word, span, line);
            return Ok(());
        };
        if let Some(id) = meant.strip_prefix('@') {
            self.skips = !self.applies(id);
            return Ok(());
        }
        self.budget = self.budget.saturating_sub(meant.len());
        let splits = |c: char| c.is_whitespace() || "{}$".contains(c);
        if meant.is_empty() || quoted || !meant.contains(splits) || self.budget == 0 {
            if !meant.is_empty() {
                self.tree.word(meant, span, line);
            }
            return Ok(());
        }
        self.feed(&meant, &Place::Of(span, line), depth + 1)
    }

    /// The word with the parameters in it replaced, if there are known ones.
    fn expanded(&self, word: &str) -> Option<String> {
        let mut meant = String::new();
        let mut rest = word;
        let mut found = false;
        while let Some((before, after)) = rest.split_once('$') {
            meant.push_str(before);
            let (name, behind) = match after
                .strip_prefix('{')
                .and_then(|text| text.split_once('}'))
            {
                Some((name, behind)) => (name, behind),
                None => (after, ""),
            };
            if let Some(value) = self.parameters.get(name) {
                found = true;
                meant.push_str(value);
                rest = behind;
            } else {
                meant.push('$');
                rest = after;
            }
        }
        meant.push_str(rest);
        found.then_some(meant)
    }

    /// The end of a statement, which may name files to be read here.
    fn end(&mut self, depth: usize) -> Result<(), Malformed> {
        let Some(line) = self.tree.included() else {
            self.tree.end();
            return Ok(());
        };
        let parts = match self.with.included {
            Some(included) if depth < DEPTH && self.budget > INCLUDE => {
                self.budget -= INCLUDE;
                included(&line)
            }
            _ => None,
        };
        match parts {
            Some(parts) => {
                for part in parts {
                    self.feed(part.text, &Place::At(part.base), depth + 1)?;
                }
            }
            None => self.tree.keep(line),
        }
        Ok(())
    }
}

/// The value of a parameter, which goes on on the next line behind a backslash, and its bytes.
fn definition(text: &str) -> (String, usize) {
    let mut value = String::new();
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        length += line.len();
        let content = line.trim_end();
        if let Some(continued) = content.strip_suffix('\\') {
            value.push_str(continued.trim_end());
            value.push('\n');
        } else {
            let remark = content.find(['#', '!']).unwrap_or(content.len());
            value.push_str(content[..remark].trim_end());
            break;
        }
    }
    (value.trim().to_owned(), length)
}
