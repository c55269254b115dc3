//! A connection that gives up: a display that has stopped must not stop the call, nor its end.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd as _,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use x11rb::{
    errors::{ConnectError, DisplayParsingError},
    reexports::x11rb_protocol::{parse_display::parse_display, xauth::get_auth},
    rust_connection::{DefaultStream, PollMode, RustConnection, Stream},
    utils::RawFdContainer,
};

/// Displays answer within milliseconds; one that is busy for longer than this has stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection over such a stream.
pub(super) type Connection = RustConnection<Patient>;

/// The usual stream, which does not wait for ever.
#[derive(Debug)]
pub(super) struct Patient(DefaultStream);

impl Stream for Patient {
    fn poll(&self, mode: PollMode) -> io::Result<()> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, mode.readable());
        wanted.set(PollFlags::OUT, mode.writable());
        let fd = self.0.as_fd();
        let patience = Timespec {
            tv_sec: PATIENCE.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        loop {
            match poll(&mut [PollFd::from_borrowed_fd(fd, wanted)], Some(&patience)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_ready) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&self, buf: &mut [u8], fds: &mut Vec<RawFdContainer>) -> io::Result<usize> {
        self.0.read(buf, fds)
    }

    fn write(&self, buf: &[u8], fds: &mut Vec<RawFdContainer>) -> io::Result<usize> {
        self.0.write(buf, fds)
    }

    fn write_vectored(
        &self,
        bufs: &[IoSlice<'_>],
        fds: &mut Vec<RawFdContainer>,
    ) -> io::Result<usize> {
        self.0.write_vectored(bufs, fds)
    }
}

/// Connects to a display, or the one that `DISPLAY` names, as who is let in by `XAUTHORITY`; and its screen that is meant.
pub(super) fn connect(display: Option<&str>) -> Result<(Connection, usize), ConnectError> {
    let parsed = parse_display(display)?;
    let screen = usize::from(parsed.screen);
    let mut last = ConnectError::from(DisplayParsingError::Unknown);
    for address in parsed.connect_instruction() {
        let (stream, (family, peer)) = match DefaultStream::connect(&address) {
            Ok(connected) => connected,
            Err(error) => {
                last = error.into();
                continue;
            }
        };
        // Without a key there may be none that is asked for.
        let key = get_auth(family, &peer, parsed.display).unwrap_or(None);
        let (name, data) = key.unwrap_or_default();
        let connection =
            RustConnection::connect_to_stream_with_auth_info(Patient(stream), screen, name, data)?;
        return Ok((connection, screen));
    }
    Err(last)
}
