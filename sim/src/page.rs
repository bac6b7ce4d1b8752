//! Pages whose prose is written by hand, and whose tables are made: what stands between
//! `<!-- table: NAME -->` and `<!-- end -->`.

const BEGIN: &str = "<!-- table: ";
const END: &str = "<!-- end -->";

/// The page with its tables made anew; `table` is given the name of each and what stands there, and
/// knows what is to stand there.
///
/// # Errors
/// In words: a mark without an end, or what `table` says.
pub fn fill(
    text: &str,
    mut table: impl FnMut(&str, &str) -> Result<String, String>,
) -> Result<String, String> {
    let mut parts = text.split(BEGIN);
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->").ok_or("a mark without -->")?;
        let (old, after) = rest
            .split_once(END)
            .ok_or_else(|| format!("the table {name} has no end: write {END} after it"))?;
        let made = table(name, old.trim_start())?;
        page += &format!("{BEGIN}{name} -->\n{made}{END}{after}");
    }
    Ok(page)
}
