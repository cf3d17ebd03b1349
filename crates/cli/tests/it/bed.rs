//! A folder to work in, and the program to run there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

pub(crate) const HOLM: &str = env!("CARGO_BIN_EXE_holm");

/// A folder of a test's own, removed when it ends.
pub(crate) struct Bed {
    pub(crate) path: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bed-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Bed { path }
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).env_remove("HOLM_DB");
        command
    }

    /// Runs a command of the shell in which `holm` is the program; both of its outputs are one.
    pub(crate) fn sh(&self, command: &str) -> Output {
        let bin = Path::new(HOLM).parent().unwrap().to_path_buf();
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(bin).chain(std::env::split_paths(&paths));
        self.command("sh")
            .arg("-c")
            .arg(format!("exec 2>&1\n{command}"))
            .env("PATH", std::env::join_paths(paths).unwrap())
            .output()
            .unwrap()
    }

    /// Runs the program to its end.
    pub(crate) fn holm(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that does not want all of its input closes the pipe.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Said::from(output)
    }

    /// Runs the program, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.holm(arguments, b"");
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        String::from_utf8(said.out).unwrap()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(HOLM);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path.join(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path.join(name)).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
