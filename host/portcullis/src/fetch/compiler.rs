//! A process that compiles one module into the cache and ends, so that the compiler's memory, code and failures are
//! never those of the process that serves.
//!
//! It is bounded in time here and in memory by itself (`cli::compile`), and has nothing but the module's bytes and the
//! cache's folder. It bounds what a module can make the compiler do; it is no wall against a compiler that was taken
//! over, since what it leaves in the cache is run.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How a process that compiles is started: the command, to which `--cache FOLDER` is added, and how long it may take.
/// It reads the module from its standard input. Status 0: the cache has it. [`UNFIT`]: it does not compile, and standard
/// output says why.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Program and first arguments.
    pub command: Vec<OsString>,
    /// Elapsed time, after which it is killed.
    pub patience: Duration,
}

/// The status for a module that does not compile.
pub const UNFIT: i32 = 65;
/// The status for a container that would be full. Standard output says how full.
pub const NO_ROOM: i32 = 69;
/// The status for a cache that cannot be written to.
pub const NO_CACHE: i32 = 78;

/// How much of its words is read.
const WORDS: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the cache does not have the module.
pub(super) enum Failure {
    /// The module does not compile.
    Unfit(String),
    /// The process died or took too long over it.
    Died(String),
    /// There was no process, or it could not store.
    Unable(String),
}

impl Compiler {
    /// This very program, even where its file has been replaced.
    pub fn this_program() -> Compiler {
        Compiler { command: vec!["/proc/self/exe".into(), "compile".into()], patience: PATIENCE }
    }

    /// Compiles into the cache in `folder`.
    pub(super) fn compile(&self, bytes: &[u8], folder: &Path) -> Result<(), Failure> {
        let unable = |problem: io::Error| Failure::Unable(problem.to_string());
        let child = self.start(bytes, folder).map_err(unable)?;
        let (status, words) = self.wait(child).map_err(unable)??;
        match status.code() {
            Some(0) => Ok(()),
            Some(UNFIT) => Err(Failure::Unfit(words)),
            Some(NO_ROOM) => Err(Failure::Died(words)),
            Some(NO_CACHE) => Err(Failure::Unable(words)),
            _ => Err(Failure::Died(format!("it ended with {status}"))),
        }
    }

    /// The bytes lie in memory, not in a pipe: nobody waits for a process that does not read.
    fn start(&self, bytes: &[u8], folder: &Path) -> io::Result<Child> {
        let memory = memfd_create("module", MemfdFlags::CLOEXEC)?;
        let mut memory = File::from(memory);
        memory.write_all(bytes)?;
        memory.rewind()?;
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| io::Error::other("no program is named"))?;
        Command::new(program)
            .args(arguments)
            .arg("--cache")
            .arg(folder)
            .env_clear()
            .stdin(memory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }

    /// How it ended, and its words. A pidfd never names another process, as a number might.
    fn wait(&self, mut child: Child) -> io::Result<Result<(ExitStatus, String), Failure>> {
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let (sender, ended) = channel();
        thread::Builder::new().name("compiler".to_owned()).spawn(move || {
            let mut words = Vec::new();
            if let Some(said) = child.stdout.take() {
                // Half of what it says is better than nothing.
                let _ = said.take(WORDS).read_to_end(&mut words);
            }
            // Nobody listens any more to one that took too long.
            let _ = sender.send((child.wait(), words));
        })?;
        let Ok((status, words)) = ended.recv_timeout(self.patience) else {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(process, Signal::KILL);
            return Ok(Err(Failure::Died(format!("it took longer than {:?}", self.patience))));
        };
        Ok(Ok((status?, String::from_utf8_lossy(&words).trim().to_owned())))
    }
}
