//! Drawing.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph},
};
use tern_client::{PresenceState, StoredMessage, Tick, content};

use super::{
    input::Input,
    state::{Connection, State},
};
use crate::output::{ago, clock, now_ms, printable, ticks};

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, input: &Input) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(3)])
            .areas(frame.area());
    draw_head(frame, head, state);
    draw_body(frame, body, state);
    draw_foot(frame, foot, state, input);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let presence = match (&state.typing_since, &state.presence) {
        (Some(_), _) => Span::from("typing…").italic().fg(Color::Green),
        (None, Some((PresenceState::Online, _))) => Span::from("online").fg(Color::Green),
        (None, Some((PresenceState::Offline, 0))) => Span::from("offline").dim(),
        (None, Some((PresenceState::Offline, last_ms))) => {
            Span::from(format!("last seen {}", ago(now_ms(), *last_ms))).dim()
        }
        (None, _) => Span::from(""),
    };
    let line = Line::from(vec![
        Span::from(format!(" {} ", state.peer_name)).bold(),
        Span::from(" "),
        presence,
    ]);
    let block = Block::default().borders(Borders::BOTTOM).border_style(Style::new().dim());
    frame.render_widget(Paragraph::new(line).block(block), area);
    let connection = match &state.connection {
        Connection::Connected => Span::from("connected ").dim(),
        Connection::Connecting => Span::from("connecting… ").fg(Color::Yellow),
        Connection::Lost(_) => Span::from("no connection ").fg(Color::Red),
    };
    let line = Line::from(connection).alignment(Alignment::Right);
    frame.render_widget(Paragraph::new(line), Rect { height: 1, ..area });
}

fn draw_body(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let height = usize::from(area.height);
    let mut lines = Vec::new();
    // From the newest up, until the screen and what is scrolled away below are full.
    for message in state.messages.iter().rev() {
        let mut some = message_lines(message, state, usize::from(area.width));
        some.reverse();
        lines.extend(some);
        if lines.len() >= height + state.scroll {
            break;
        }
    }
    let scroll = state.scroll.min(lines.len().saturating_sub(height));
    let mut lines: Vec<_> = lines.into_iter().skip(scroll).take(height).collect();
    lines.reverse();
    let space = height - lines.len();
    let area = Rect {
        y: area.y + u16::try_from(space).unwrap_or(0),
        height: u16::try_from(lines.len()).unwrap_or(0),
        ..area
    };
    frame.render_widget(Paragraph::new(lines), area);
}

fn message_lines(message: &StoredMessage, state: &State, width: usize) -> Vec<Line<'static>> {
    let is_own = message.account == state.own;
    let (name, color) =
        if is_own { (&state.own_name, Color::Blue) } else { (&state.peer_name, Color::Magenta) };
    let time = format!(" {} ", clock(message.time_ms));
    let lead = Span::raw(format!("{time}{name}: ")).width();
    let text = printable(&content::text(&content::open(&message.envelope)));
    // Room for the ticks behind the last line.
    let mut lines: Vec<Line<'static>> = wrap(&text, width.saturating_sub(lead + 4).max(8))
        .into_iter()
        .map(|text| Line::from(vec![Span::from(" ".repeat(lead)), Span::from(text)]))
        .collect();
    if let Some(first) = lines.first_mut() {
        let text = first.spans.pop().unwrap_or_default();
        first.spans =
            vec![Span::from(time).dim(), Span::from(format!("{name}: ")).bold().fg(color), text];
    }
    if is_own && let Some(last) = lines.last_mut() {
        last.spans.push(Span::from(" "));
        last.spans.push(tick_span(message));
    }
    lines
}

fn tick_span(message: &StoredMessage) -> Span<'static> {
    let style = match message.tick {
        Tick::Waiting | Tick::Sent | Tick::Delivered => Style::new().add_modifier(Modifier::DIM),
        Tick::Read => Style::new().fg(Color::Cyan).bold(),
        Tick::Failed => Style::new().fg(Color::Red).bold(),
    };
    let text = match message.failure {
        Some(code) => format!("{} {}", ticks(message.tick), code.meaning()),
        None => ticks(message.tick).to_owned(),
    };
    Span::styled(text, style)
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, state: &State, input: &Input) {
    let hint = match (&state.connection, &state.elsewhere) {
        (Connection::Lost(error), _) => format!(" {error} "),
        (_, Some(name)) => format!(" {name} wrote to you "),
        _ => " Enter sends, Esc leaves ".to_owned(),
    };
    let block = Block::bordered()
        .border_style(Style::new().dim())
        .title_bottom(Line::from(hint).alignment(Alignment::Right).dim());
    let inner = block.inner(area);
    let width = usize::from(inner.width).max(1);
    let before = printable(&input.before_cursor());
    // The part of the line around the cursor.
    let skip = Span::raw(&before).width().saturating_sub(width - 1);
    let text = printable(&input.text());
    let paragraph = Paragraph::new(text).scroll((0, u16::try_from(skip).unwrap_or(u16::MAX)));
    frame.render_widget(paragraph.block(block), area);
    let column = Span::raw(&before).width() - skip;
    frame.set_cursor_position(Position {
        x: inner.x + u16::try_from(column).unwrap_or(0),
        y: inner.y,
    });
}

/// Cuts text into lines of at most `width` columns, at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(' ') {
            let columns = Span::raw(word.trim_end()).width();
            if used > 0 && used + columns > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            for c in word.chars() {
                let columns = Span::raw(c.to_string()).width();
                if used + columns > width {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(c);
                used += columns;
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use tern_client::{AccountId, ConversationId, DeviceId, Envelope};

    use super::*;

    fn message(account: u64, text: &str, tick: Tick) -> StoredMessage {
        StoredMessage {
            local: tern_client::LocalId::default(),
            conversation: ConversationId::new([1; 16]),
            seq: Some(1),
            message_id: 1,
            account: AccountId::new(account).unwrap(),
            name: String::new(),
            device: DeviceId::new(1).unwrap(),
            time_ms: 3_600_000 * 9 + 60_000 * 41,
            envelope: Envelope(text.as_bytes().to_vec().into()),
            tick,
            failure: None,
        }
    }

    fn screen(state: &State, input: &Input) -> String {
        let mut terminal = Terminal::new(TestBackend::new(40, 10)).unwrap();
        terminal.draw(|frame| draw(frame, state, input)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_conversation_is_drawn_with_ticks_and_presence() {
        let mut state = State::new("ann", AccountId::new(1).unwrap(), "bob");
        state.presence = Some((PresenceState::Online, 0));
        state.connection = Connection::Connected;
        state.messages = vec![
            message(1, "Hi", Tick::Read),
            message(2, "Hello\x1b[2J, how are things over there?", Tick::Sent),
            message(1, "Fine", Tick::Waiting),
        ];
        let mut input = Input::default();
        input.paste("so");
        let drawn = screen(&state, &input);
        for part in
            ["bob", "online", "connected", "09:41 ann: Hi ✓✓", "09:41 bob: ", "Fine …", "so"]
        {
            assert!(drawn.contains(part), "{part}\n{drawn}");
        }
        assert!(!drawn.contains('\x1b'));
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut state = State::new("ann", AccountId::new(1).unwrap(), "bob");
        state.messages = vec![message(1, &"word ".repeat(50), Tick::Failed); 20];
        let mut input = Input::default();
        input.paste(&"x".repeat(100));
        for (width, height) in [(1, 1), (3, 4), (10, 5), (200, 3), (80, 24)] {
            for scroll in [0, 5, 10_000] {
                state.scroll = scroll;
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, &state, &input)).unwrap();
            }
        }
    }

    #[test]
    fn text_is_cut_at_spaces_and_within_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(wrap("漢字漢字", 4), ["漢字", "漢字"]);
    }
}
