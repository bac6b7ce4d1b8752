//! What is shown on a terminal and changes in place.
//!
//! Lines are cut to the terminal's width and height, both of which may change meanwhile, so that
//! what was drawn before can always be drawn over.

use std::io::Write;

use console::Term;

/// Clears the rest of the line, or of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const ENTER_ALTERNATE: &str = "\x1b[?1049h";
const LEAVE_ALTERNATE: &str = "\x1b[?1049l";
const HOME: &str = "\x1b[H";

/// A part of the terminal, or all of it.
#[derive(Debug)]
pub(crate) struct Screen {
    term: Term,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The lines that were drawn, where the cursor was.
    Below(usize),
    /// The alternate screen: what was there before comes back.
    Whole,
}

impl Screen {
    /// Some lines on the terminal of standard error; none where that is no terminal.
    pub(crate) fn below() -> Option<Self> {
        let term = Term::stderr();
        Self::new(term, Place::Below(0), HIDE_CURSOR)
    }

    /// All of the terminal of standard output; none where that is no terminal.
    pub(crate) fn whole() -> Option<Self> {
        let term = Term::stdout();
        let begin = [ENTER_ALTERNATE, HIDE_CURSOR].concat();
        Self::new(term, Place::Whole, &begin)
    }

    fn new(term: Term, place: Place, begin: &str) -> Option<Self> {
        if !term.features().is_attended() {
            return None;
        }
        let mut screen = Self { term, place };
        screen.write(begin);
        Some(screen)
    }

    /// Shows a text instead of what it showed before.
    pub(crate) fn draw(&mut self, text: &str) {
        let (height, width) = self.term.size();
        // The cursor stands in a line of its own, or the terminal would move all of them up.
        let room = usize::from(height).saturating_sub(1).max(1);
        let all = text.lines().count();
        let shown = if all > room { room - 1 } else { all };
        let mut frame = match self.place {
            Place::Below(0) => String::new(),
            Place::Below(lines) => format!("\x1b[{lines}A\r"),
            Place::Whole => HOME.to_owned(),
        };
        let more = (all > shown).then(|| format!("… {} more lines", all - shown));
        let lines = text.lines().take(shown).chain(more.as_deref());
        let mut drawn = 0;
        for line in lines {
            let line = console::truncate_str(line, usize::from(width), "…");
            frame += &format!("{line}{CLEAR_LINE}\r\n");
            drawn += 1;
        }
        frame += CLEAR_BELOW;
        if let Place::Below(lines) = &mut self.place {
            *lines = drawn;
        }
        self.write(&frame);
    }

    fn write(&mut self, text: &str) {
        // A terminal that is gone needs nothing any more.
        let _ = self.term.write_all(text.as_bytes());
        let _ = self.term.flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let end = match self.place {
            Place::Below(0) => SHOW_CURSOR.to_owned(),
            Place::Below(lines) => format!("\x1b[{lines}A\r{CLEAR_BELOW}{SHOW_CURSOR}"),
            Place::Whole => [LEAVE_ALTERNATE, SHOW_CURSOR].concat(),
        };
        self.write(&end);
    }
}
