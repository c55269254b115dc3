//! The socket on Unix: a file that only its owner may open.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast, broadcast::error::RecvError, watch},
    task::JoinSet,
};
use tracing::{debug, warn};

use super::{
    Command, ControlError, ControlEvent, ControlHandler, ControlSocketError, ErrorCode, Line,
    MAX_CLIENTS, Request, Response,
    codec::{Lines, read_request, write_line},
};
use crate::profile::ProfileLock;

const SOCKET_FILE: &str = "control.sock";
/// Longest path of a socket that all systems take (108 bytes on Linux, 104 elsewhere, with a final zero).
const MAX_SOCKET_PATH: usize = 100;
const READ_CHUNK_BYTES: usize = 4096;
/// Before accepting again when the system has no room for another client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long clients are still answered once the server was told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where the socket of the profile in `folder` is: in it, or, when that path is too long for a socket, in a
/// private folder of the runtime or temporary folder, under a name made from it.
#[must_use]
pub fn socket_path(folder: &Path) -> PathBuf {
    let path = folder.join(SOCKET_FILE);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return path;
    }
    let absolute = fs::canonicalize(folder).unwrap_or_else(|_gone| folder.to_owned());
    let hash = Sha256::digest(absolute.as_os_str().as_encoded_bytes());
    let name = z32::encode(hash.get(..15).unwrap_or(&hash));
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(format!("ahoy-{name}")).join(SOCKET_FILE)
}

/// The listening end. Removes its socket when dropped.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    /// The owner of the profile: nobody else may command it.
    owner: u32,
}

impl ControlServer {
    /// Opens the socket of a profile. The lock proves that a socket found there is a left-over.
    ///
    /// # Errors
    /// [`ControlSocketError`] when the socket cannot be made.
    pub fn bind(lock: &ProfileLock) -> Result<Self, ControlSocketError> {
        let folder = lock.profile().dir();
        let path = socket_path(folder);
        let io_error = |error| ControlSocketError::Io {
            path: path.clone(),
            error,
        };
        let owner = fs::metadata(folder).map_err(io_error)?.uid();
        if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
            let made = fs::DirBuilder::new().mode(0o700).create(parent);
            if let Err(error) = made
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(io_error(error));
            }
            if fs::symlink_metadata(parent).map_err(io_error)?.uid() != owner {
                return Err(ControlSocketError::ForeignOwner(parent.to_owned()));
            }
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(parent, private).map_err(io_error)?;
        }
        match fs::remove_file(&path) {
            Ok(()) => debug!("removed the control socket of an app that did not end well"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(error)),
        }
        let listener = UnixListener::bind(&path).map_err(io_error)?;
        // Between the two calls somebody else could connect; the owner of each connection is checked too.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io_error)?;
        Ok(Self {
            listener,
            path,
            owner,
        })
    }

    /// Serves clients until `stop`, or until dropped. After `stop` whoever has asked already still gets the answer.
    pub async fn run<H: ControlHandler>(self, handler: H, stop: impl Future<Output = ()>) {
        let handler = Arc::new(handler);
        let room = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        let stopping = watch::Sender::new(false);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                // Only tidies up: how a client ended is its own business.
                Some(_ended) = clients.join_next() => {}
                accepted = self.listener.accept() => {
                    let stream = match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            // Out of file handles, most likely: let others end first.
                            warn!(%error, "a client of the control socket could not be accepted");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    };
                    let ours = stream.peer_cred().is_ok_and(|peer| {
                        peer.uid() == self.owner || peer.uid() == 0
                    });
                    if !ours {
                        warn!("another user tried the control socket");
                        continue;
                    }
                    let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                        clients.spawn(refuse(stream));
                        continue;
                    };
                    let handler = Arc::clone(&handler);
                    let stopped = stopping.subscribe();
                    clients.spawn(async move {
                        if let Err(error) = serve(stream, &*handler, stopped).await {
                            debug!(%error, "a client of the control socket has gone");
                        }
                        drop(place);
                    });
                }
            }
        }
        stopping.send_replace(true);
        let ended = async { while clients.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            debug!("a client of the control socket does not read its answer");
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, "the control socket was gone already");
        }
    }
}

async fn refuse(mut stream: UnixStream) {
    let error = ControlError::new(
        ErrorCode::Unavailable,
        "too many programs talk to ahoy; close one of them",
    );
    let line = write_line(&Response::new(None, Err(error)));
    if let Err(error) = stream.write_all(&line).await {
        debug!(%error, "a client that was refused has gone");
    }
}

async fn serve<H: ControlHandler>(
    stream: UnixStream,
    handler: &H,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut lines = Lines::default();
    let mut chunk = [0; READ_CHUNK_BYTES];
    let mut events: Option<broadcast::Receiver<ControlEvent>> = None;
    loop {
        let line = match lines.next_line() {
            Ok(line) => line,
            Err(error) => {
                let error = ControlError::new(ErrorCode::BadRequest, error);
                let answer = write_line(&Response::new(None, Err(error)));
                return writer.write_all(&answer).await;
            }
        };
        if let Some(line) = line {
            let answer = match read_request(&line) {
                Err(error) => Response::new(None, Err(error)),
                Ok(Request { id, command }) => {
                    let result = if command == Command::Events {
                        events.get_or_insert_with(|| handler.subscribe());
                        Ok(None)
                    } else {
                        handler.handle(command).await
                    };
                    Response::new(id, result)
                }
            };
            writer.write_all(&write_line(&answer)).await?;
            continue;
        }
        tokio::select! {
            biased;
            received = reader.read(&mut chunk) => match received? {
                0 => return Ok(()),
                count => lines.push(chunk.get(..count).unwrap_or_default()),
            },
            event = next_event(&mut events) => {
                let Some(event) = event else { return Ok(()) };
                writer.write_all(&write_line(&event)).await?;
            }
            // Last: what was asked and what happened before goes out first.
            () = async { stopped.wait_for(|stopped| *stopped).await.map_or((), drop) } => return Ok(()),
        }
    }
}

/// The next happening; never when the client has not asked for any, `None` when there will be no more.
async fn next_event(
    events: &mut Option<broadcast::Receiver<ControlEvent>>,
) -> Option<ControlEvent> {
    let Some(events) = events else {
        return std::future::pending().await;
    };
    match events.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(count)) => Some(ControlEvent::Missed { count }),
        Err(RecvError::Closed) => None,
    }
}

/// The asking end.
#[derive(Debug)]
pub struct ControlClient {
    stream: UnixStream,
    lines: Lines,
    next_id: u64,
    path: PathBuf,
}

impl ControlClient {
    /// Connects to the app that runs on the profile in `folder`.
    ///
    /// # Errors
    /// [`ControlSocketError::NotRunning`] when there is none.
    pub async fn connect(folder: &Path) -> Result<Self, ControlSocketError> {
        let path = socket_path(folder);
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) => {
                // Nothing there, or the left-over of an app that did not end well.
                let absent = matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                );
                return Err(if absent {
                    ControlSocketError::NotRunning
                } else {
                    ControlSocketError::Io { path, error }
                });
            }
        };
        // In a shared temporary folder somebody else may pretend to be us.
        let owner = fs::metadata(folder).map(|folder| folder.uid());
        let server = stream.peer_cred().map(|peer| peer.uid());
        match (owner, server) {
            (Ok(owner), Ok(server)) if owner == server || server == 0 => Ok(Self {
                stream,
                lines: Lines::default(),
                next_id: 1,
                path,
            }),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(ControlSocketError::ForeignOwner(path)),
        }
    }

    /// Asks, and waits for the answer. Happenings that come before it are lost: ask for them last.
    ///
    /// # Errors
    /// [`ControlSocketError`] when the app has gone. What the app refused is in the response.
    pub async fn request(&mut self, command: Command) -> Result<Response, ControlSocketError> {
        let id = Some(self.next_id);
        self.next_id += 1;
        let line = write_line(&Request { id, command });
        if let Err(error) = self.stream.write_all(&line).await {
            debug!(%error, "the request could not be sent");
        }
        loop {
            match self.next_line().await? {
                // An answer without an id means the client was refused.
                Line::Response(response) if response.id == id || response.id.is_none() => {
                    return Ok(response);
                }
                Line::Response(_) | Line::Event(_) => {}
            }
        }
    }

    /// The next happening, after [`Command::Events`] was asked for.
    ///
    /// # Errors
    /// [`ControlSocketError`] when the app has gone.
    pub async fn next_event(&mut self) -> Result<ControlEvent, ControlSocketError> {
        loop {
            if let Line::Event(event) = self.next_line().await? {
                return Ok(event);
            }
        }
    }

    async fn next_line(&mut self) -> Result<Line, ControlSocketError> {
        let mut chunk = [0; READ_CHUNK_BYTES];
        loop {
            let line = self
                .lines
                .next_line()
                .map_err(|_too_long| ControlSocketError::Protocol)?;
            if let Some(line) = line {
                return serde_json::from_slice(&line)
                    .map_err(|_no_line_of_ours| ControlSocketError::Protocol);
            }
            let received = self.stream.read(&mut chunk).await;
            match received.map_err(|error| ControlSocketError::Io {
                path: self.path.clone(),
                error,
            })? {
                0 => return Err(ControlSocketError::Closed),
                count => self.lines.push(chunk.get(..count).unwrap_or_default()),
            }
        }
    }
}
