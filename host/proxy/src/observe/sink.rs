//! Log lines on their way out: a bounded queue and one thread that writes what has gathered in it.
//!
//! Whoever pushes never waits: what finds the queue full is dropped and counted. The writer is woken by the first entry
//! after a pause only; from then on it looks every few milliseconds, so that a busy worker makes no system call for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

use super::metrics::Counter;

/// How long the writer lets entries gather.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes after which the writer writes in the middle of a batch.
const BATCH: usize = 64 << 10;

/// What a [`Sink`] takes.
pub trait Entry: Send + 'static {
    /// Bytes that the entry keeps alive, about.
    fn weight(&self) -> usize;
}

impl Entry for String {
    fn weight(&self) -> usize {
        self.len()
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file, which is created if need be.
    File(PathBuf),
}

impl Target {
    /// `stdout`, `stderr`, or a file's path.
    pub fn named(name: &str) -> Target {
        match name {
            "stdout" => Target::Stdout,
            "stderr" => Target::Stderr,
            path => Target::File(path.into()),
        }
    }
}

/// How much may wait in a [`Sink`].
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Entries.
    pub entries: usize,
    /// Sum of their weights.
    pub bytes: usize,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { entries: 8192, bytes: 16 << 20 }
    }
}

/// A queue with a writer thread at its end. The thread ends once the sink is gone and the queue is written.
#[derive(Debug)]
pub struct Sink<T> {
    sender: Sender<Message<T>>,
    writer: Thread,
    waiting: Arc<Waiting>,
    capacity: Capacity,
    dropped: Counter,
}

/// What is in the queue. The channel has no bound of its own: one with a bound takes the memory of all entries at once.
#[derive(Debug, Default)]
struct Waiting {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// Whether there was room for it; then it counts.
    fn add(&self, weight: usize, capacity: Capacity) -> bool {
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(weight, Ordering::Relaxed);
        let fits = entries < capacity.entries && bytes + weight <= capacity.bytes;
        if !fits {
            self.remove(weight);
        }
        fits
    }

    fn remove(&self, weight: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Message<T> {
    Entry(T),
    Flush(SyncSender<()>),
    Reopen,
}

impl<T: Entry> Sink<T> {
    /// Opens the target and starts the writer. `encode` appends the line of an entry, if it has one; it runs on the
    /// writer's thread. `dropped` counts entries that are lost.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread to be had.
    pub fn start(
        target: &Target,
        capacity: Capacity,
        dropped: Counter,
        encode: impl FnMut(&T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Sink<T>> {
        let output = Output::open(target)?;
        let (sender, receiver) = channel();
        let waiting = Arc::new(Waiting::default());
        let mut writer = Writer {
            output,
            encode,
            waiting: Arc::clone(&waiting),
            dropped: dropped.clone(),
            lines: 0,
            buffer: Vec::new(),
        };
        let thread =
            thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&receiver))?;
        Ok(Sink { sender, writer: thread.thread().clone(), waiting, capacity, dropped })
    }

    /// Queues an entry, or drops and counts it if the queue is full.
    pub fn push(&self, entry: T) {
        let fits = self.waiting.add(entry.weight(), self.capacity);
        if !fits || self.sender.send(Message::Entry(entry)).is_err() {
            self.dropped.increment();
        }
    }

    /// Waits until what is queued is written, at most for `patience`; answers whether it was. Blocks: not for workers.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        let _ended = self.sender.send(Message::Flush(done));
        self.writer.unpark();
        written.recv_timeout(patience).is_ok()
    }

    /// Opens the target again once what is queued is written: for files that were moved away. On failure the old file
    /// stays in use.
    pub fn reopen(&self) {
        let _ = self.sender.send(Message::Reopen);
        self.writer.unpark();
    }
}

struct Writer<F> {
    output: Output,
    encode: F,
    waiting: Arc<Waiting>,
    dropped: Counter,
    lines: u64,
    buffer: Vec<u8>,
}

impl<F> Writer<F> {
    fn run<T: Entry>(&mut self, receiver: &Receiver<Message<T>>)
    where
        F: FnMut(&T, &mut Vec<u8>),
    {
        while let Ok(first) = receiver.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                self.take(message);
                while let Ok(message) = receiver.try_recv() {
                    self.take(message);
                }
                self.write();
                thread::park_timeout(GATHER);
                next = receiver.try_recv().ok();
            }
        }
    }

    fn take<T: Entry>(&mut self, message: Message<T>)
    where
        F: FnMut(&T, &mut Vec<u8>),
    {
        match message {
            Message::Entry(entry) => {
                self.waiting.remove(entry.weight());
                (self.encode)(&entry, &mut self.buffer);
                self.lines += 1;
                if self.buffer.len() >= BATCH {
                    self.write();
                }
            }
            Message::Flush(done) => {
                self.write();
                let _ = done.send(());
            }
            Message::Reopen => {
                self.write();
                self.output.reopen();
            }
        }
    }

    fn write(&mut self) {
        if !self.buffer.is_empty() && self.output.write(&self.buffer).is_err() {
            self.dropped.add(self.lines);
        }
        self.lines = 0;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BATCH);
    }
}

enum Output {
    Stdout,
    Stderr,
    File(File, PathBuf),
}

impl Output {
    fn open(target: &Target) -> io::Result<Output> {
        Ok(match target {
            Target::Stdout => Output::Stdout,
            Target::Stderr => Output::Stderr,
            Target::File(path) => Output::File(append(path)?, path.clone()),
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Output::Stderr => io::stderr().lock().write_all(lines),
            Output::File(file, _) => file.write_all(lines),
        }
    }

    fn reopen(&mut self) {
        let Output::File(file, path) = self else { return };
        match append(path) {
            Ok(fresh) => *file = fresh,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the log file cannot be reopened");
            }
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
