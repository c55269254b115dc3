//! A notification of the desktop while a call rings and the window does not have the keyboard, with answer and decline.
//!
//! It is made by `notify-send`, which desktops have: where it is missing, the window rings all the same. What is
//! pressed there comes back as a line of its output. Nothing here waits on the thread that draws.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use eframe::egui;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    model,
    words::{self, Language},
};
use crate::{
    call::CallId,
    engine::handle::{Command, EngineHandle, View},
};

/// The program.
const NOTIFIER: &str = "notify-send";
/// Lines that wait: its number, and what was pressed.
const LINES: usize = 4;
/// How long a desktop may take to say which notification it shows. A bus gives up on a desktop that does not answer after
/// 25 s; who calls next is told no later than this.
const TO_BE_NUMBERED: Duration = Duration::from_secs(5);

/// What is asked of [`NOTIFIER`] about a call by `name`. The name is a stranger's: it stands behind `--`, where nothing is
/// an option, and in the summary, which knows no markup.
fn arguments(name: &str) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--app-name=ahoy",
        "--icon=ahoy",
        "--urgency=critical",
        "--category=call.incoming",
        "--print-id",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend([
        format!("--action=answer={}", words::answer()),
        format!("--action=decline={}", words::decline()),
        "--".to_owned(),
        // Desktops direct letters: a name keeps its direction to itself (Unicode Annex 9, isolates).
        words::calls_you(format_args!("\u{2068}{name}\u{2069}")),
    ]);
    arguments
}

/// What a line of its output asks for, about the call that rings.
fn pressed(line: &str) -> Option<Command> {
    match line.trim() {
        "answer" => Some(Command::Accept),
        "decline" => Some(Command::Decline),
        _number => None,
    }
}

/// A notification that is shown.
struct Shown {
    process: Child,
    lines: mpsc::Receiver<String>,
    /// As whom the desktop knows it.
    number: Option<String>,
}

impl Shown {
    fn start(notifier: &OsStr, name: &str) -> Option<Self> {
        let mut process = Process::new(notifier)
            .args(arguments(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|error| tracing::debug!(%error, "no notification"))
            .ok()?;
        let output = process.stdout.take()?;
        let (told, lines) = mpsc::channel(LINES);
        let reading = std::thread::Builder::new()
            .name("ahoy-notify".into())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if told.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
        if let Err(error) = reading {
            tracing::debug!(%error, "nobody hears what is pressed");
        }
        Some(Self {
            process,
            lines,
            number: None,
        })
    }

    /// Its number is a line like any other.
    fn note(&mut self, line: &str) {
        let number = line.trim();
        if !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit()) {
            self.number = Some(number.to_owned());
        }
    }

    /// What was pressed; waits for ever where nothing will be.
    async fn pressed(&mut self) -> Command {
        while let Some(line) = self.lines.recv().await {
            if let Some(command) = pressed(&line) {
                return command;
            }
            self.note(&line);
        }
        std::future::pending().await
    }

    /// Listens until its number is known or nothing more comes.
    async fn numbered(&mut self) {
        while self.number.is_none() {
            let Some(line) = self.lines.recv().await else {
                return;
            };
            self.note(&line);
        }
    }

    /// Takes it away.
    async fn end(mut self, notifier: std::ffi::OsString, language: Language) {
        // The call may be over before the desktop has said the number, and without it the notification would stand for
        // ever: what is urgent does not go by itself.
        if tokio::time::timeout(TO_BE_NUMBERED, self.numbered())
            .await
            .is_err()
        {
            tracing::debug!("the desktop does not say which notification it shows");
        }
        let end = move || words::with(language, || self.close(&notifier));
        let ended = tokio::task::spawn_blocking(end).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "a notification stays");
        }
    }

    fn close(&mut self, notifier: &OsStr) {
        // It may have ended by itself.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
        let Some(number) = self.number.as_ref() else {
            return;
        };
        let gone = Process::new(notifier)
            .args(["--app-name=ahoy", "--expire-time=1", "--replace-id"])
            .args([number, "--", words::call_has_ended()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = gone {
            tracing::debug!(%error, "a notification stays");
        }
    }
}

/// Tells the desktop of calls while `engine` runs and the window of `ctx` does not have the keyboard.
pub(super) fn start(
    runtime: &Handle,
    engine: EngineHandle,
    spoken: watch::Receiver<Language>,
    ctx: &egui::Context,
) {
    let ctx = ctx.clone();
    let is_seen = move || ctx.input(|input| input.focused);
    let send = {
        let engine = engine.clone();
        move |command| {
            engine.send(command);
        }
    };
    runtime.spawn(tell(NOTIFIER.into(), engine.view(), spoken, is_seen, send));
}

async fn tell(
    notifier: std::ffi::OsString,
    mut view: watch::Receiver<View>,
    spoken: watch::Receiver<Language>,
    is_seen: impl Fn() -> bool + Send + 'static,
    send: impl Fn(Command) + Send + 'static,
) {
    let mut told: Option<CallId> = None;
    loop {
        let rings = |view: &View| model::wants_attention(view).filter(|call| told != Some(*call));
        let name = match view.wait_for(|view| rings(view).is_some()).await {
            Ok(view) => {
                let wanting = model::wanting(&view);
                told = wanting.map(|(call, _name)| call);
                wanting
                    .map(|(_call, name)| name.to_owned())
                    .unwrap_or_default()
            }
            Err(_gone) => return,
        };
        if is_seen() {
            continue;
        }
        let (program, language) = (notifier.clone(), *spoken.borrow());
        let start = move || words::with(language, || Shown::start(&program, &name));
        let shown = tokio::task::spawn_blocking(start).await;
        let Ok(Some(mut shown)) = shown else { continue };
        let is_over = |view: &View| model::wants_attention(view) != told;
        tokio::select! {
            command = shown.pressed() => send(command),
            _over = view.wait_for(is_over) => {}
        }
        let language = *spoken.borrow();
        shown.end(notifier.clone(), language).await;
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc as std_mpsc};

    use super::*;
    use crate::{engine::handle::Phase, ui::model::tests::call};

    /// A desktop on which somebody presses that at once; what it was asked is in the file.
    fn desktop(dir: &std::path::Path, presses: &str) -> std::ffi::OsString {
        let (written, program) = (dir.join("script"), dir.join("notify"));
        let asked = dir.join("asked");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" >> {}\n{presses}\n",
            asked.display()
        );
        fs::write(&written, script).unwrap();
        // By a program of its own: what this process has open for writing, a process that another test starts just then
        // would have open too, and nothing runs while that is so ("text file busy").
        let copied = Process::new("install")
            .arg("-m755")
            .args([&written, &program])
            .status();
        assert!(copied.unwrap().success());
        program.into()
    }

    /// A test that waits for what does not come shall fail, not stand.
    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what)
            .await
            .expect("nothing within a minute")
    }

    fn english() -> watch::Receiver<Language> {
        watch::channel(Language::English).1
    }

    #[tokio::test]
    async fn what_is_pressed_on_a_notification_answers_or_declines() {
        for (word, command) in [("answer", Command::Accept), ("decline", Command::Decline)] {
            let dir = tempfile::tempdir().unwrap();
            let program = desktop(dir.path(), &format!("echo 7\necho {word}"));
            let mut ringing = call(Phase::Incoming);
            ringing.name = "--icon=/etc/passwd".into();
            let (_view, shown) = watch::channel(View {
                call: Some(ringing),
                ..View::default()
            });
            let (told, mut heard) = mpsc::channel(1);
            let send = move |command| told.try_send(command).unwrap();
            let task = tokio::spawn(tell(program, shown, english(), || false, send));
            assert_eq!(soon(heard.recv()).await, Some(command));
            task.abort();
            let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
            let lines: Vec<&str> = asked.lines().collect();
            let end = lines.iter().position(|line| *line == "--").unwrap();
            assert_eq!(
                lines[end + 1],
                "\u{2068}--icon=/etc/passwd\u{2069} calls you"
            );
        }
    }

    #[tokio::test]
    async fn a_call_that_is_over_takes_its_notification_away() {
        let dir = tempfile::tempdir().unwrap();
        // A slow desktop: the call is over before it says which notification it shows.
        let slow = "case \"$*\" in *calls*) sleep 0.3; echo 7; exec sleep 60;; esac";
        let program = desktop(dir.path(), slow);
        let (view, shown) = watch::channel(View {
            call: Some(call(Phase::Incoming)),
            ..View::default()
        });
        let task = tokio::spawn(tell(program, shown, english(), || false, |_| {}));
        let asked = || fs::read_to_string(dir.path().join("asked")).unwrap_or_default();
        let look = async {
            while !asked().contains("Grace\u{2069} calls you") {
                tokio::task::yield_now().await;
            }
        };
        soon(look).await;
        view.send_modify(|view| view.call = None);
        let gone = async {
            while !asked().contains("The call has ended") {
                tokio::task::yield_now().await;
            }
        };
        soon(gone).await;
        assert!(asked().contains("--replace-id\n7\n"));
        drop(view);
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_who_looks_at_the_window_is_notified() {
        let dir = tempfile::tempdir().unwrap();
        let program = desktop(dir.path(), "echo 7\necho answer");
        let (view, shown) = watch::channel(View {
            call: Some(call(Phase::Incoming)),
            ..View::default()
        });
        let (looked, seen) = std_mpsc::sync_channel(1);
        let is_seen = move || looked.try_send(()).is_ok();
        let task = tokio::spawn(tell(program, shown, english(), is_seen, |_| {
            panic!("who pressed?")
        }));
        let looks = async {
            while seen.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        };
        soon(looks).await;
        drop(view);
        soon(task).await.unwrap();
        assert!(!dir.path().join("asked").exists());
    }
}
