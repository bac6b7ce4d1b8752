//! Texts of a bounded length.

/// A text of at most `most` bytes: the end of a longer one is left out, visibly.
pub(super) fn bounded(text: &str, most: usize) -> String {
    const CUT: &str = " …";
    if text.len() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(CUT.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
    let kept = text.get(..end.unwrap_or_default()).unwrap_or_default();
    format!("{kept}{CUT}")
}

/// A few names in a sentence, and how many more there are.
pub(crate) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(MOST).copied();
    let text = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(bounded("short", 5), "short");
        assert_eq!(bounded("longer than that", 10), "longer …");
        let text = bounded(&"ä".repeat(100), 100);
        assert!(text.len() <= 100 && text.ends_with("ä …"), "{text}");
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(["a", "b"]), "a, b");
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let text = some(names.iter().map(String::as_str));
        assert_eq!(text, "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
