//! The terminal that `top` draws on: keys come one by one and are not shown, on a screen of its own, until it is given back.

use std::{
    io::{self, Read as _, Write as _},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

/// Another screen, without a cursor.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
/// The screen as it was.
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// Home, and after the text everything below it is cleared.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Gives the terminal back when it is dropped.
pub(super) struct Terminal {
    /// None where keys do not come from a terminal.
    before: Option<Termios>,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            // Ctrl-C stays a signal.
            raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        }
        let terminal = Self { before };
        let mut out = io::stdout().lock();
        out.write_all(OPEN.as_bytes())?;
        out.flush()?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // Whoever took the terminal away needs it no longer.
        let _ = out.write_all(CLOSE.as_bytes()).and_then(|()| out.flush());
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before); // as above
        }
    }
}

/// A text as it is drawn over what is there.
pub(super) fn frame(text: &str) -> String {
    let lines = text.lines().map(|line| format!("{line}{CLEAR_LINE}\n"));
    format!("{HOME}{}{CLEAR_BELOW}", lines.collect::<String>())
}

/// Resolves when `q` is pressed; never where nobody can press it. The thread reads until then, and ends with the process.
pub(super) async fn ended(keys: bool) {
    let (pressed, wait) = oneshot::channel();
    if keys {
        thread::spawn(move || {
            let quit = io::stdin().lock().bytes().map_while(Result::ok).any(|key| matches!(key, b'q' | b'Q'));
            // The end of the input is nobody's wish: then the sender is dropped unused.
            if quit {
                let _ = pressed.send(()); // or it has ended already
            }
        });
        if wait.await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_clears_what_was_longer() {
        assert_eq!(frame("a\nbb\n"), "\x1b[Ha\x1b[K\nbb\x1b[K\n\x1b[J");
    }
}
