//! People with a program each, and a supernode for them: what tests of commands begin with.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Finished, Running, run, start};

/// A folder for everybody's files, and a supernode. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Household {
    folder: TempDir,
    supernode: Option<Running>,
    /// Its link.
    pub node: String,
}

impl Default for Household {
    fn default() -> Self {
        Self::new()
    }
}

impl Household {
    /// With a supernode as most people run it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With a supernode that has these options.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut house = Self {
            folder,
            supernode: None,
            node: String::new(),
        };
        house.serve("127.0.0.1:0", options);
        house
    }

    /// The supernode, anew: with the profile it had, at `listen`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn serve(&mut self, listen: &str, options: &[&str]) {
        let fixed = ["supernode", "--listen", listen, "--print-link"];
        let supernode = self.start("node", fixed.iter().chain(options).copied());
        self.node = supernode.first_line();
        assert!(self.node.starts_with("ahoy-node:"), "{}", self.node);
        self.supernode = Some(supernode);
    }

    /// The supernode, to be ended as the test wants it.
    ///
    /// # Panics
    /// When it was taken before.
    #[must_use]
    pub fn take_supernode(&mut self) -> Running {
        self.supernode.take().expect("there is a supernode")
    }

    /// Where somebody's profile lies, or a file of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file. Gives back where it lies.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("a file can be written");
        self.text(name)
    }

    /// Reads a report.
    ///
    /// # Panics
    /// When there is none, or it is no JSON.
    #[must_use]
    pub fn report(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.path(name)).expect("the report was written");
        serde_json::from_str(&text).expect("the report is JSON")
    }

    /// Starts a command of somebody's.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start<'a>(&self, name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Running {
        start(&self.path(name), arguments)
    }

    /// Runs a command of somebody's to its end.
    ///
    /// # Panics
    /// When it cannot be started, or does not end.
    #[must_use]
    pub fn run(&self, name: &str, arguments: &[&str]) -> Finished {
        run(&self.path(name), arguments)
    }

    /// What a command says when all is well.
    ///
    /// # Panics
    /// When it is not.
    #[expect(clippy::must_use_candidate, reason = "often it says nothing")]
    pub fn says(&self, name: &str, arguments: &[&str]) -> String {
        let said = self.run(name, arguments).expect_code(0).stdout;
        said.trim_end().to_owned()
    }

    /// Tells somebody's running program something.
    ///
    /// # Panics
    /// As [`Self::run`].
    #[must_use]
    pub fn ctl(&self, name: &str, words: &[&str]) -> Finished {
        self.run(name, &[&["ctl"], words].concat())
    }

    /// Somebody waits for calls; comes with their link.
    ///
    /// # Panics
    /// When nobody waits.
    #[must_use]
    pub fn answer(&self, name: &str, options: &[&str]) -> (Running, String) {
        let fixed = ["answer", "--via", &self.node];
        let answering = self.start(name, fixed.iter().chain(options).copied());
        let link = answering.first_line();
        assert!(link.starts_with("ahoy:"), "{link}");
        (answering, link)
    }

    /// Somebody calls.
    ///
    /// # Panics
    /// When the command cannot be started.
    #[must_use]
    pub fn call(&self, name: &str, link: &str, options: &[&str]) -> Running {
        self.start(name, ["call", link].iter().chain(options).copied())
    }
}
