//! One quoting function per syntax. Each turns any text into one word of that
//! syntax, so that a value can't become configuration. Tests read the words back
//! with the rules of the real parsers.

/// A word of haproxy.cfg: in double quotes, with `\`, `"` and `$` escaped
/// (configuration manual, section 2.2); plain words are left bare.
pub fn haproxy(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut word = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(if c.is_control() { ' ' } else { c });
    }
    word.push('"');
    word
}

/// A word of keepalived.conf. Its parser knows double quotes and no escapes inside
/// them, so what can't stand in them is left out (checked values never hold it).
pub fn keepalived(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let inner: String = text
        .chars()
        .filter(|c| *c != '"' && !c.is_control())
        .collect();
    format!("\"{inner}\"")
}

/// A word of an nftables ruleset. Its strings know no escapes, so what can't stand in one is
/// left out (checked values never hold it).
pub fn nft(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let kept = |c: &char| *c != '"' && *c != '\\' && !c.is_control();
    format!("\"{}\"", text.chars().filter(kept).collect::<String>())
}

/// The text of a remark of an nftables ruleset: what ends the line, or goes on behind it, is left out.
pub fn nft_remark(text: &str) -> String {
    let kept = |c: &char| *c != '\\' && !c.is_control();
    text.chars().filter(kept).collect()
}

/// A word of nginx.conf: in double quotes, with `\`, `"` and `$` taken literally.
/// nginx has no escape for `$`; a value with one would be read as a variable, so
/// it is left out (checked values never hold it).
pub fn nginx(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut word = String::from('"');
    for c in text.chars().filter(|c| *c != '$' && !c.is_control()) {
        if matches!(c, '"' | '\\') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

/// A pattern of nginx that matches `text` and nothing else; still to be quoted.
pub fn nginx_exactly(text: &str) -> String {
    let mut pattern = String::from("~^");
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && !matches!(c, '/' | '_' | '-' | '~') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "\\z"
}

/// A Python string literal. JSON's escapes are all Python's too, except that
/// Python has no surrogate pairs: `serde_json` writes other planes as they are.
pub fn python(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value of supervisord.conf: `%` starts an expansion, ` ;` a remark, a line
/// break the next key.
pub fn supervisor(text: &str) -> String {
    let text = text.replace('%', "%%").replace(" ;", " ,");
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A Nix string literal. Besides `\`, `"` and `${` the control characters CR, LF and
/// TAB are escaped: Nix reads a CR that stands in a string as it is back as LF. No
/// `''…''` strings, which lose their indentation. Nix has no NUL in strings; it is left
/// out (checked values never hold it).
pub fn nix(text: &str) -> String {
    let mut word = String::from('"');
    let mut chars = text.chars().filter(|c| *c != '\0').peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => word.push_str("\\n"),
            '\r' => word.push_str("\\r"),
            '\t' => word.push_str("\\t"),
            '"' | '\\' => word.extend(['\\', c]),
            '$' if chars.peek() == Some(&'{') => word.push_str("\\$"),
            _ => word.push(c),
        }
    }
    word.push('"');
    word
}

/// Letters, digits and signs that none of the syntaxes gives a meaning.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:,+@".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads one word as haproxy's tokenizer does.
    fn read_haproxy(word: &str) -> String {
        let inner = word.strip_prefix('"').and_then(|w| w.strip_suffix('"'));
        let Some(inner) = inner else {
            return word.to_owned();
        };
        let mut chars = inner.chars();
        let mut text = String::new();
        while let Some(c) = chars.next() {
            assert!(
                c != '"' && c != '$',
                "{c} would end the word or start a variable"
            );
            text.push(if c == '\\' { chars.next().unwrap() } else { c });
        }
        text
    }

    proptest! {
        #[test]
        fn haproxy_reads_back(text in "[ -~äß€]{1,40}") {
            prop_assert_eq!(read_haproxy(&haproxy(&text)), text);
        }

        #[test]
        fn no_syntax_lets_a_line_break_through(text in "(?s).{0,40}") {
            for word in [haproxy(&text), keepalived(&text), nginx(&text), supervisor(&text), python(&text), nix(&text), nft(&text), nft_remark(&text)] {
                prop_assert!(!word.contains(['\n', '\r', '\0']));
            }
        }

        #[test]
        fn quotes_are_closed(text in "(?s).{0,40}") {
            let word = keepalived(&text);
            prop_assert!(word.matches('"').count().is_multiple_of(2));
            let nginx = nginx(&text).replace("\\\\", "").replace("\\\"", "");
            prop_assert!(nginx.matches('"').count().is_multiple_of(2));
        }
    }
}
