//! Lines in, requests out; answers in, lines out.

use serde::Serialize;

use super::{ControlError, ErrorCode, MAX_LINE_BYTES, Request};

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were searched and hold no line end.
    searched: usize,
}

/// A line is longer than [`MAX_LINE_BYTES`]. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE_BYTES} bytes")]
pub struct LineTooLong;

impl Lines {
    /// Takes in what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end, if there is one.
    ///
    /// # Errors
    /// [`LineTooLong`] when more than that has come without an end.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let unsearched = self.buffer.iter().skip(self.searched);
        let Some(found) = unsearched.copied().position(|byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            let whole = self.buffer.len() <= MAX_LINE_BYTES;
            return if whole { Ok(None) } else { Err(LineTooLong) };
        };
        let end = self.searched + found;
        if end > MAX_LINE_BYTES {
            return Err(LineTooLong);
        }
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

/// Reads a request.
///
/// # Errors
/// [`ErrorCode::BadRequest`] with a sentence for whoever wrote the client.
pub fn read_request(line: &[u8]) -> Result<Request, ControlError> {
    serde_json::from_slice(line).map_err(|error| {
        ControlError::new(
            ErrorCode::BadRequest,
            format_args!("not a request such as {{\"command\":\"status\"}}: {error}"),
        )
    })
}

/// Writes one line, with its end.
#[must_use]
pub fn write_line(message: &impl Serialize) -> Vec<u8> {
    // The messages here are structs of strings, numbers and lists, which always are JSON.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::Command;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_were_cut(
            lines in prop::collection::vec("[a-z]{0,20}", 0..10),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let stream: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut rest = stream.as_bytes();
            let mut cut = cuts.into_iter().cycle();
            let mut reader = Lines::default();
            let mut read = Vec::new();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(cut.next().unwrap().min(rest.len()));
                rest = tail;
                reader.push(head);
                while let Some(line) = reader.next_line().unwrap() {
                    read.push(String::from_utf8(line).unwrap());
                }
            }
            prop_assert_eq!(read, lines);
        }

        #[test]
        fn garbage_is_a_bad_request(line: Vec<u8>) {
            if let Err(error) = read_request(&line) {
                prop_assert_eq!(error.code, ErrorCode::BadRequest);
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_memory() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }

    #[test]
    fn requests_are_written_as_documented() {
        let read = |text: &str| read_request(text.as_bytes()).map(|request| request.command);
        assert_eq!(read(r#"{"command":"status"}"#), Ok(Command::Status));
        assert_eq!(read(r#"{"command":"hang_up"}"#), Ok(Command::HangUp));
        assert_eq!(
            read(r#"{"command":"hold","on":true}"#),
            Ok(Command::Hold { on: true })
        );
        assert_eq!(
            read(r#"{"id":7,"command":"camera","on":true,"device":"usb-1"}"#),
            Ok(Command::Camera {
                on: true,
                device: Some("usb-1".into())
            })
        );
        assert_eq!(
            read(r#"{"command":"share","source":"screen"}"#),
            Ok(Command::Share {
                source: "screen".into(),
                content: None,
                sound: false
            })
        );
        let request = Request {
            id: Some(4),
            command: Command::Call {
                to: String::from("Eva"),
            },
        };
        let line = write_line(&request);
        assert_eq!(line, b"{\"id\":4,\"command\":\"call\",\"to\":\"Eva\"}\n");
        assert_eq!(read_request(&line), Ok(request));
    }
}
