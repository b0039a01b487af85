//! The line in which the user types.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// The text changed.
    Edited,
    /// Send this.
    Submit(String),
    /// Move the history by so many lines; up is positive.
    Scroll(isize),
    Leave,
}

/// The text being typed and the cursor in it, counted in characters.
#[derive(Debug, Default)]
pub(super) struct Input {
    text: Vec<char>,
    cursor: usize,
}

impl Input {
    pub(super) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text in front of the cursor.
    pub(super) fn before_cursor(&self) -> String {
        self.text[..self.cursor].iter().collect()
    }

    pub(super) fn paste(&mut self, text: &str) -> Action {
        for c in text.chars() {
            // A pasted line break would send half of what was pasted.
            self.insert(if c.is_control() { ' ' } else { c });
        }
        Action::Edited
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => Action::Leave,
            KeyCode::Char('c' | 'd') if is_control => Action::Leave,
            KeyCode::Char('u') if is_control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
                Action::Edited
            }
            KeyCode::Char('w') if is_control => self.delete_word(),
            KeyCode::Char('a') if is_control => self.move_to(0),
            KeyCode::Char('e') if is_control => self.move_to(self.text.len()),
            KeyCode::Char(c) if !is_control => {
                self.insert(c);
                Action::Edited
            }
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
                Action::Edited
            }
            KeyCode::Delete if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
                Action::Edited
            }
            KeyCode::Left => self.move_to(self.cursor.saturating_sub(1)),
            KeyCode::Right => self.move_to(self.cursor + 1),
            KeyCode::Home => self.move_to(0),
            KeyCode::End => self.move_to(self.text.len()),
            KeyCode::PageUp => Action::Scroll(10),
            KeyCode::PageDown => Action::Scroll(-10),
            KeyCode::Up => Action::Scroll(1),
            KeyCode::Down => Action::Scroll(-1),
            KeyCode::Enter => self.submit(),
            _ => Action::None,
        }
    }

    fn insert(&mut self, c: char) {
        self.text.insert(self.cursor, c);
        self.cursor += 1;
    }

    fn move_to(&mut self, cursor: usize) -> Action {
        self.cursor = cursor.min(self.text.len());
        Action::None
    }

    fn delete_word(&mut self) -> Action {
        let mut start = self.cursor;
        while start > 0 && self.text[start - 1] == ' ' {
            start -= 1;
        }
        while start > 0 && self.text[start - 1] != ' ' {
            start -= 1;
        }
        self.text.drain(start..self.cursor);
        self.cursor = start;
        Action::Edited
    }

    fn submit(&mut self) -> Action {
        let text = self.text();
        self.text.clear();
        self.cursor = 0;
        match text.trim() {
            "" => Action::None,
            "/quit" => Action::Leave,
            _ => Action::Submit(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(input: &mut Input, code: KeyCode) -> Action {
        input.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(input: &mut Input, c: char) -> Action {
        input.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
    }

    #[test]
    fn a_line_is_edited_and_sent() {
        let mut input = Input::default();
        input.paste("Grüße an\nbob");
        assert_eq!(input.text(), "Grüße an bob");
        control(&mut input, 'w');
        press(&mut input, KeyCode::Home);
        press(&mut input, KeyCode::Right);
        press(&mut input, KeyCode::Delete);
        press(&mut input, KeyCode::Char('R'));
        assert_eq!(input.before_cursor(), "GR");
        press(&mut input, KeyCode::End);
        press(&mut input, KeyCode::Backspace);
        assert_eq!(press(&mut input, KeyCode::Enter), Action::Submit("GRüße an".into()));
        assert_eq!(press(&mut input, KeyCode::Enter), Action::None);
        press(&mut input, KeyCode::Backspace);
        assert_eq!(input.text(), "");
    }

    #[test]
    fn there_are_several_ways_out() {
        let mut input = Input::default();
        assert_eq!(press(&mut input, KeyCode::Esc), Action::Leave);
        assert_eq!(control(&mut input, 'c'), Action::Leave);
        input.paste("/quit");
        assert_eq!(press(&mut input, KeyCode::Enter), Action::Leave);
    }
}
