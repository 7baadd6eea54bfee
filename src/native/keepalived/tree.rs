//! Text becomes a tree of statements. A statement ends with its line; `{` on the
//! same or the next line opens its block. `#` and `!` begin a remark.

use std::ops::Range;

use super::{Directive, Malformed};

/// Deepest nesting that is read; Keepalived's own is 3.
const DEPTH: usize = 32;

/// A statement, and those in its braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Its own words.
    pub head: Directive,
    /// What stands in its braces.
    pub children: Vec<Block>,
    /// Whether it has braces.
    pub braced: bool,
}

impl Block {
    /// The last child that begins with `word`: the one that counts.
    pub fn child(&self, word: &str) -> Option<&Block> {
        self.children
            .iter()
            .rev()
            .find(|child| child.head.word(0) == word)
    }

    /// The first word behind `word` in the last child that begins with it.
    pub fn value(&self, word: &str) -> Option<&str> {
        self.child(word)?.head.words.get(1).map(String::as_str)
    }

    /// The children of every child block that begins with `word`: `unicast_peer { … }`.
    pub fn inside<'b>(&'b self, word: &'b str) -> impl Iterator<Item = &'b Block> {
        self.children
            .iter()
            .filter(move |child| child.braced && child.head.word(0) == word)
            .flat_map(|child| child.children.iter())
    }
}

pub(super) enum Token {
    Word(String),
    Open,
    Close,
    /// End of a line that was not continued.
    End,
}

/// The token at `at`, or nothing for a blank or a remark; its bytes; the line breaks in it.
pub(super) fn next(
    text: &str,
    at: usize,
    line: usize,
) -> Result<(Option<Token>, Range<usize>, usize), Malformed> {
    let rest = &text[at..];
    let to_line_end = rest.find('\n').unwrap_or(rest.len());
    let one = |token| Ok((Some(token), at..at + 1, 0));
    match rest.chars().next().unwrap_or('\n') {
        '\n' => Ok((Some(Token::End), at..at + 1, 1)),
        '#' | '!' => Ok((None, at..at + to_line_end, 0)),
        '{' => one(Token::Open),
        '}' => one(Token::Close),
        '\\' if continues(rest) => Ok((None, at..at + to_line_end + 1, 1)),
        c if c.is_whitespace() => Ok((None, at..at + c.len_utf8(), 0)),
        _ => {
            let (word, length) = word(rest).map_err(|message| Malformed {
                line,
                message: message.into(),
                span: at..at + to_line_end,
            })?;
            let breaks = rest[..length].matches('\n').count();
            Ok((Some(Token::Word(word)), at..at + length, breaks))
        }
    }
}

/// Whether the backslash that `rest` begins with ends its line, which continues it.
fn continues(rest: &str) -> bool {
    rest[1..]
        .trim_start_matches([' ', '\t', '\r'])
        .starts_with('\n')
}

/// The word that `rest` begins with, and its bytes. Quotes protect what they
/// enclose, on one line or on lines that are continued; `${NAME}` belongs to a
/// word; a single quote that is not closed on its line is a letter.
fn word(rest: &str) -> Result<(String, usize), &'static str> {
    let mut word = String::new();
    let (mut quote, mut macros) = (None, 0_usize);
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let tail = &rest[at..];
        match c {
            '\\' if continues(tail) => {
                if quote.is_none() {
                    return Ok((word, at));
                }
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
                chars.next();
            }
            '\\' if quote != Some('\'')
                && chars.peek().is_some_and(|(_, c)| !c.is_alphanumeric()) =>
            {
                word.extend(chars.next().map(|(_, c)| c));
            }
            '\n' if quote.is_some() => return Err("this quote is not closed on its line"),
            c if quote == Some(c) => quote = None,
            _ if quote.is_some() => word.push(c),
            '"' => quote = Some(c),
            '\'' if tail[1..]
                .lines()
                .next()
                .is_some_and(|line| line.contains('\'')) =>
            {
                quote = Some(c);
            }
            '{' if word.ends_with('$') => {
                macros += 1;
                word.push(c);
            }
            '}' if macros > 0 => {
                macros -= 1;
                word.push(c);
            }
            '{' | '}' | '#' | '!' => return Ok((word, at)),
            c if c.is_whitespace() => return Ok((word, at)),
            _ => word.push(c),
        }
    }
    match quote {
        None => Ok((word, rest.len())),
        Some(_) => Err("this quote is not closed on its line"),
    }
}

/// The tree while it is built. `open` holds the blocks whose braces are open.
#[derive(Default)]
pub(super) struct Tree {
    done: Vec<Block>,
    open: Vec<Block>,
    /// The statement whose line is being read.
    current: Option<Block>,
    /// Whether its line has ended, so that only `{` may follow.
    ended: bool,
}

impl Tree {
    fn siblings(&mut self) -> &mut Vec<Block> {
        match self.open.last_mut() {
            Some(block) => &mut block.children,
            None => &mut self.done,
        }
    }

    fn flush(&mut self) {
        self.ended = false;
        if let Some(block) = self.current.take() {
            self.siblings().push(block);
        }
    }

    pub(super) fn word(&mut self, word: String, span: Range<usize>, line: usize) {
        if self.ended {
            self.flush();
        }
        let head = &mut self.current.get_or_insert_with(Block::default).head;
        if head.words.is_empty() {
            head.line = line;
        }
        head.words.push(word);
        head.spans.push(span);
    }

    /// The statement whose line is being read, if it names files to include; it is taken out.
    pub(super) fn included(&mut self) -> Option<Directive> {
        let current = self.current.take_if(|block| {
            super::INCLUDES.contains(&block.head.word(0)) && !block.head.word(1).is_empty()
        });
        current.map(|block| block.head)
    }

    /// A statement as it is.
    pub(super) fn keep(&mut self, head: Directive) {
        let block = Block {
            head,
            ..Block::default()
        };
        self.siblings().push(block);
    }

    pub(super) fn end(&mut self) {
        self.ended = self.current.is_some();
    }

    pub(super) fn open(&mut self, span: Range<usize>, line: usize) -> Result<(), Malformed> {
        let Some(mut block) = self.current.take() else {
            return Err(Malformed {
                line,
                message: "this brace opens a block that has no name".into(),
                span,
            });
        };
        if self.open.len() == DEPTH {
            return Err(Malformed {
                line,
                message: format!("blocks are nested deeper than {DEPTH}"),
                span,
            });
        }
        block.braced = true;
        self.ended = false;
        self.open.push(block);
        Ok(())
    }

    pub(super) fn close(&mut self, span: Range<usize>, line: usize) -> Result<(), Malformed> {
        self.flush();
        let Some(block) = self.open.pop() else {
            return Err(Malformed {
                line,
                message: "this brace closes a block that was never opened".into(),
                span,
            });
        };
        self.siblings().push(block);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<Block>, Malformed> {
        self.flush();
        match self.open.pop() {
            None => Ok(self.done),
            Some(block) => Err(Malformed {
                line: block.head.line,
                message: format!("the block `{}` is not closed", block.head.word(0)),
                span: block.head.span(),
            }),
        }
    }
}
