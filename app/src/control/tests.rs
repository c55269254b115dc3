//! Over a real socket.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{Notify, broadcast, oneshot},
    task::JoinHandle,
};

use super::*;
use crate::profile::{Profile, ProfileLock};

/// An app that remembers what it was told.
#[derive(Debug)]
struct App {
    told: Mutex<Vec<Command>>,
    events: broadcast::Sender<ControlEvent>,
}

impl App {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::new(Vec::new()),
            events: broadcast::channel(EVENT_BACKLOG).0,
        })
    }
}

fn status() -> Status {
    Status {
        protocol: PROTOCOL,
        link: String::from("ahoy:me"),
        dnd: false,
        homes: Vec::new(),
        call: None,
        other: None,
    }
}

impl ControlHandler for App {
    fn handle(&self, command: Command) -> BoxFuture<'_, Result<Option<Told>, ControlError>> {
        self.told.lock().unwrap().push(command.clone());
        let result = if command == Command::HangUp {
            Err(ControlError::from(CommandError::NoCall))
        } else {
            Ok((command == Command::Status).then(|| Told::Status(Box::new(status()))))
        };
        async move { result }.boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<ControlEvent> {
        self.events.subscribe()
    }
}

/// Serves until the handle is aborted.
fn serve(folder: &Path, app: &Arc<App>) -> (JoinHandle<()>, ProfileLock) {
    let lock = Profile::at(folder).lock().unwrap();
    let server = ControlServer::bind(&lock).unwrap();
    (
        tokio::spawn(server.run(Arc::clone(app), std::future::pending())),
        lock,
    )
}

fn homes(count: usize) -> ControlEvent {
    let home = HomeStatus {
        node: String::from("ahoy-node:x"),
        registered: true,
    };
    ControlEvent::Homes {
        homes: vec![home; count],
    }
}

#[tokio::test]
async fn a_client_asks_and_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::new();
    let (server, _lock) = serve(folder.path(), &app);
    let mut client = ControlClient::connect(folder.path()).await.unwrap();
    let answer = client.request(Command::Status).await.unwrap();
    assert_eq!(answer.result, Some(Told::Status(Box::new(status()))));
    assert!(client.request(Command::Mute).await.unwrap().ok);
    let refused = client.request(Command::HangUp).await.unwrap();
    assert!(!refused.ok);
    assert_eq!(refused.error.unwrap().code, ErrorCode::NoCall);
    let told = app.told.lock().unwrap().clone();
    assert_eq!(told, [Command::Status, Command::Mute, Command::HangUp]);
    server.abort();
}

#[tokio::test]
async fn happenings_come_to_those_who_asked_and_a_slow_reader_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::new();
    let (server, _lock) = serve(folder.path(), &app);
    let mut client = ControlClient::connect(folder.path()).await.unwrap();
    assert!(client.request(Command::Events).await.unwrap().ok);
    app.events.send(homes(1)).unwrap();
    assert_eq!(client.next_event().await.unwrap(), homes(1));
    // The test and the server share one thread: all of these wait before the server reads one.
    for count in 0..EVENT_BACKLOG + 36 {
        app.events.send(homes(count % 3)).unwrap();
    }
    assert_eq!(
        client.next_event().await.unwrap(),
        ControlEvent::Missed { count: 36 }
    );
    assert_eq!(client.next_event().await.unwrap(), homes(0));
    server.abort();
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_goes_with_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let (server, lock) = serve(folder.path(), &App::new());
    let path = socket_path(folder.path());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
    let gone = ControlClient::connect(folder.path()).await.unwrap_err();
    assert!(matches!(gone, ControlSocketError::NotRunning), "{gone}");
    drop(lock);
}

/// Answers when told to.
struct Slow {
    asked: Arc<Notify>,
    answer: Arc<Notify>,
}

impl ControlHandler for Slow {
    fn handle(&self, _command: Command) -> BoxFuture<'_, Result<Option<Told>, ControlError>> {
        async move {
            self.asked.notify_one();
            self.answer.notified().await;
            Ok(None)
        }
        .boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<ControlEvent> {
        broadcast::channel(1).1
    }
}

#[tokio::test]
async fn who_asked_before_the_app_went_is_still_answered() {
    let folder = tempfile::tempdir().unwrap();
    let lock = Profile::at(folder.path()).lock().unwrap();
    let [asked, answer] = [(); 2].map(|()| Arc::new(Notify::new()));
    let slow = Slow {
        asked: Arc::clone(&asked),
        answer: Arc::clone(&answer),
    };
    let (stop, stopped) = oneshot::channel();
    let stopped = async move { stopped.await.unwrap() };
    let server = tokio::spawn(ControlServer::bind(&lock).unwrap().run(slow, stopped));
    let mut client = ControlClient::connect(folder.path()).await.unwrap();
    // One that only listens does not keep the server.
    let _idle = ControlClient::connect(folder.path()).await.unwrap();
    let asking = tokio::spawn(async move { client.request(Command::HangUp).await });
    asked.notified().await;
    stop.send(()).unwrap();
    answer.notify_one();
    assert!(asking.await.unwrap().unwrap().ok);
    server.await.unwrap();
    assert!(!socket_path(folder.path()).exists());
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    // Dropped without its file being removed, as by a crash.
    drop(std::os::unix::net::UnixListener::bind(socket_path(folder.path())).unwrap());
    let gone = ControlClient::connect(folder.path()).await.unwrap_err();
    assert!(matches!(gone, ControlSocketError::NotRunning), "{gone}");
    let (server, _lock) = serve(folder.path(), &App::new());
    let mut client = ControlClient::connect(folder.path()).await.unwrap();
    assert!(client.request(Command::Status).await.unwrap().ok);
    server.abort();
}

#[tokio::test]
async fn nonsense_is_answered_and_an_endless_line_ends_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _lock) = serve(folder.path(), &App::new());
    let mut raw = UnixStream::connect(socket_path(folder.path()))
        .await
        .unwrap();
    raw.write_all(b"hello\n{\"command\":\"fly\"}\n{\"id\":9,\"command\":\"mute\"}\n")
        .await
        .unwrap();
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while text.lines().count() < 3 || !text.ends_with('\n') {
        let count = raw.read(&mut chunk).await.unwrap();
        text.push_str(str::from_utf8(&chunk[..count]).unwrap());
    }
    let answers: Vec<Response> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        answers[0].error.as_ref().unwrap().code,
        ErrorCode::BadRequest
    );
    assert_eq!(
        answers[1].error.as_ref().unwrap().code,
        ErrorCode::BadRequest
    );
    assert_eq!((answers[2].id, answers[2].ok), (Some(9), true));
    // Whatever of it still fits into the socket.
    if let Err(error) = raw.write_all(&vec![b'x'; MAX_LINE_BYTES + 5000]).await {
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
    let mut rest = Vec::new();
    if let Err(error) = raw.read_to_end(&mut rest).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(
        String::from_utf8_lossy(&rest).contains("longer than"),
        "{rest:?}"
    );
    server.abort();
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _lock) = serve(folder.path(), &App::new());
    let mut clients = Vec::new();
    for _ in 0..MAX_CLIENTS {
        let mut client = ControlClient::connect(folder.path()).await.unwrap();
        assert!(client.request(Command::Mute).await.unwrap().ok);
        clients.push(client);
    }
    let mut late = ControlClient::connect(folder.path()).await.unwrap();
    let answer = late.request(Command::Status).await.unwrap();
    assert_eq!(answer.error.unwrap().code, ErrorCode::Unavailable);
    assert!(clients[0].request(Command::Status).await.unwrap().ok);
    // A place that becomes free is given to the next.
    drop(clients.pop());
    loop {
        let mut next = ControlClient::connect(folder.path()).await.unwrap();
        if next
            .request(Command::Status)
            .await
            .is_ok_and(|answer| answer.ok)
        {
            break;
        }
    }
    server.abort();
}

#[tokio::test]
async fn a_long_profile_path_has_a_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = socket_path(&deep);
    assert!(path.as_os_str().len() <= 107, "{}", path.display());
    let (server, _lock) = serve(&deep, &App::new());
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o700);
    let mut client = ControlClient::connect(&deep).await.unwrap();
    assert!(client.request(Command::Status).await.unwrap().ok);
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    std::fs::remove_dir(path.parent().unwrap()).unwrap();
}
