//! One worker: a thread with a runtime of its own, its listening sockets, and the generation that new exchanges see.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder as Runtime, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::listen;
use super::publish::ListenerKey;
use crate::chain::{Builder, Local};
use crate::generation::{Generation, Parts};
use crate::observe::Registry;
use crate::serve::{Reception, Stage};

/// Guests run on this stack, 512 KiB deep at the most, under frames of ours.
const STACK: usize = 4 << 20;
/// Between two times that a worker tidies up.
const TIDY: Duration = Duration::from_secs(1);
/// After the system has refused to accept, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a worker is reached.
#[derive(Debug)]
pub struct Worker {
    /// Counts from 0.
    pub index: usize,
    commands: UnboundedSender<Command>,
}

/// What a worker is told.
pub enum Command {
    /// Take in a generation, without using it yet.
    Prepare(Box<Prepare>),
    /// Use it, and call back.
    Switch(Box<dyn FnOnce() + Send>),
    /// Drop it.
    Forget,
    /// Treat connections so from now on.
    Stage(Stage),
    /// Call back when no connection is left.
    Drained(Box<dyn FnOnce() + Send>),
    /// End the filters, and call back when they have ended.
    End(Box<dyn FnOnce() + Send>),
}

/// A generation to take in.
pub struct Prepare {
    /// What it is made of.
    pub parts: Parts,
    /// For its new listeners.
    pub sockets: HashMap<ListenerKey, StdListener>,
    /// Answers; the name of a filter that could not be carried over.
    pub done: Box<dyn FnOnce(Result<(), Arc<str>>) + Send>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Command::Prepare(_) => "Prepare",
            Command::Switch(_) => "Switch",
            Command::Forget => "Forget",
            Command::Stage(_) => "Stage",
            Command::Drained(_) => "Drained",
            Command::End(_) => "End",
        })
    }
}

impl Worker {
    /// Starts the thread. It ends when the handle is dropped.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub fn start(
        index: usize,
        builder: Builder,
        registry: Arc<Registry>,
        connections: Arc<AtomicUsize>,
        tidy: fn(),
    ) -> io::Result<Worker> {
        let (commands, received) = unbounded_channel();
        thread::Builder::new().name(format!("worker-{index}")).stack_size(STACK).spawn(
            move || {
                let runtime = match Runtime::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default())
                {
                    Ok(runtime) => runtime,
                    Err(error) => return tracing::error!("worker {index} has no runtime: {error}"),
                };
                let state = State {
                    builder,
                    registry,
                    connections,
                    local: Rc::new(Local::default()),
                    current: None,
                    prepared: None,
                    listeners: HashMap::new(),
                    closing: Vec::new(),
                    slots: 0,
                    stage: Stage::Open,
                };
                runtime.block_on(async {
                    spawn_local(tidying(tidy));
                    state.run(received).await;
                });
            },
        )?;
        Ok(Worker { index, commands })
    }

    /// Tells the worker; one that has ended hears nothing, and the missing answer is noticed.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("worker {} has ended", self.index);
        }
    }
}

struct State {
    builder: Builder,
    registry: Arc<Registry>,
    connections: Arc<AtomicUsize>,
    local: Rc<Local>,
    current: Option<Rc<Generation>>,
    prepared: Option<(Generation, HashMap<ListenerKey, StdListener>)>,
    listeners: HashMap<ListenerKey, Listening>,
    /// Removed, with connections left.
    closing: Vec<Open>,
    slots: u64,
    stage: Stage,
}

/// A listening socket that is being accepted from.
struct Listening {
    /// What its new exchanges see; the last one that knows it, once it was removed.
    generation: Rc<RefCell<Rc<Generation>>>,
    open: Open,
}

/// Whoever accepts from a socket and serves what was accepted: all of them watch the stage.
struct Open {
    stage: watch::Sender<Stage>,
    task: JoinHandle<()>,
}

impl State {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Prepare(prepare) => self.prepare(*prepare),
                Command::Switch(done) => {
                    self.switch();
                    done();
                }
                Command::Forget => self.prepared = None,
                Command::Stage(stage) => self.set_stage(stage),
                Command::Drained(done) => self.when_drained(done),
                Command::End(done) => self.end_filters(done),
            }
        }
        self.local.end();
    }

    fn prepare(&mut self, prepare: Prepare) {
        let made = Generation::new(
            prepare.parts,
            self.current.as_deref(),
            &self.local,
            &self.builder,
            &mut self.slots,
            &self.registry,
        );
        let result = made.map(|generation| self.prepared = Some((generation, prepare.sockets)));
        (prepare.done)(result);
    }

    fn switch(&mut self) {
        let Some((generation, sockets)) = self.prepared.take() else { return };
        generation.activate();
        let generation = Rc::new(generation);
        let gone: Vec<ListenerKey> = self
            .listeners
            .keys()
            .filter(|(name, address)| {
                let mut listeners = generation.snapshot.listeners.iter();
                !listeners.any(|listener| listener.name == *name && listener.address == *address)
            })
            .cloned()
            .collect();
        for key in gone {
            if let Some(listening) = self.listeners.remove(&key) {
                listening.open.stage.send_replace(Stage::Closing);
                self.closing.push(listening.open);
            }
        }
        self.closing.retain(|open| !open.stage.is_closed());
        for listening in self.listeners.values() {
            listening.generation.replace(generation.clone());
        }
        for (key, socket) in sockets {
            match self.listen(&key.0, socket, &generation) {
                Ok(listening) => drop(self.listeners.insert(key, listening)),
                Err(error) => {
                    tracing::error!(listener = key.0, "cannot accept connections: {error}")
                }
            }
        }
        self.current = Some(generation);
    }

    fn listen(
        &self,
        name: &str,
        socket: StdListener,
        generation: &Rc<Generation>,
    ) -> io::Result<Listening> {
        let socket = listen::listen(socket)?;
        let generation = Rc::new(RefCell::new(generation.clone()));
        let (stage, stages) = watch::channel(self.stage);
        let reception = Reception::new(
            name,
            generation.clone(),
            stages.clone(),
            self.connections.clone(),
            self.registry.clone(),
        );
        let task = spawn_local(accept(socket, reception, stages));
        Ok(Listening { generation, open: Open { stage, task } })
    }

    fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
        for listening in self.listeners.values() {
            listening.open.stage.send_replace(stage);
        }
    }

    /// A listener's stage is watched by its accepting task and by each of its connections.
    fn when_drained(&mut self, done: Box<dyn FnOnce() + Send>) {
        let mut open = std::mem::take(&mut self.closing);
        open.extend(self.listeners.drain().map(|(_, listening)| listening.open));
        spawn_local(async move {
            for Open { stage, task } in open {
                drop(task.await);
                stage.closed().await;
            }
            done();
        });
    }

    /// Nothing is in flight any more.
    fn end_filters(&mut self, done: Box<dyn FnOnce() + Send>) {
        let Some(generation) = self.current.take() else { return done() };
        spawn_local(async move {
            generation.end_filters().await;
            done();
        });
    }
}

/// Ends with the runtime.
async fn tidying(tidy: fn()) {
    loop {
        sleep(TIDY).await;
        tidy();
    }
}

/// Accepts until the listener closes, and then what waits in its queue.
async fn accept(socket: TcpListener, reception: Rc<Reception>, mut stage: watch::Receiver<Stage>) {
    loop {
        tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage == Stage::Closing) => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => reception.receive(stream),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    listen::empty(socket, |stream| reception.receive(stream));
}
