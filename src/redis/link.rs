//! One connection, opened when it is needed and thrown away after anything that went wrong with it: an answer that comes
//! late must never be taken for the next question's.
//!
//! Connections are opened in a thread of their own, as a name may take long to resolve: whoever asks waits for one no
//! longer than for an answer. After failures there are pauses between tries; a question in a pause is refused at once.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ::redis::{Client, Cmd, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::{LinkMetrics, LinkSettings, NoAnswer, Script};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const TELL_FULL_EVERY: Duration = Duration::from_secs(60);

pub struct Link {
    settings: LinkSettings,
    metrics: Arc<LinkMetrics>,
    /// Names it in the log: `duplicates`, `orders`, `touches`.
    name: &'static str,
    connection: Option<Connection>,
    /// At most one thread at a time; it ends by itself within `CONNECT_TIMEOUT` of a resolved name.
    opening: Option<Receiver<RedisResult<Connection>>>,
    failures: u32,
    retry_at: Option<Instant>,
    /// An outage was said in the log and is not over.
    down: bool,
    told_full: Option<Instant>,
}

/// Why a try failed.
enum Failure {
    /// The next connection may do better at once: this one was closed while nobody used it.
    Closed(RedisError),
    Refused(RedisError),
    TimedOut,
    Paused,
}

impl Link {
    pub fn new(settings: LinkSettings, metrics: Arc<LinkMetrics>, name: &'static str) -> Link {
        let (connection, opening, retry_at, told_full) = (None, None, None, None);
        Link { settings, metrics, name, connection, opening, failures: 0, retry_at, down: false, told_full }
    }

    pub fn metrics(&self) -> &Arc<LinkMetrics> {
        &self.metrics
    }

    /// When an answer to what is asked now would be late.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    /// Asks all at once; the answers in order. Commands must bear being sent twice: an answer may be lost. Takes no longer
    /// than the timeout, or twice that from a server that answers byte by byte.
    pub fn ask(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, NoAnswer> {
        self.ask_until(commands, self.deadline())
    }

    /// For several questions that share a time.
    pub fn ask_until(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, NoAnswer> {
        let answered = self.exchange(commands, deadline);
        self.settle(answered)
    }

    /// Calls a script, which is loaded if the server does not know it.
    pub fn call(&mut self, script: &Script, command: &Cmd) -> Result<Value, NoAnswer> {
        self.call_until(script, command, self.deadline())
    }

    /// For several questions that share a time.
    pub fn call_until(&mut self, script: &Script, command: &Cmd, deadline: Instant) -> Result<Value, NoAnswer> {
        let command = std::slice::from_ref(command);
        let mut answered = self.exchange(command, deadline);
        if matches!(&answered, Err(Failure::Refused(error)) if error.kind() == NO_SCRIPT) {
            answered = self.exchange(&[script.load()], deadline);
            if answered.is_ok() {
                answered = self.exchange(command, deadline);
            }
        }
        // One command has one answer.
        self.settle(answered).map(|mut answers| answers.pop().unwrap_or(Value::Nil))
    }

    fn exchange(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
        let used_before = self.connection.is_some();
        let answered = match self.exchange_until(commands, deadline) {
            Err(Failure::Closed(_)) if used_before => self.exchange_until(commands, deadline),
            answered => answered,
        };
        answered.and_then(without_errors)
    }

    /// The connection comes back only if every answer was read.
    fn exchange_until(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
        let mut connection = self.connect(deadline)?;
        let answers = converse(&mut connection, commands, deadline)?;
        self.connection = Some(connection);
        Ok(answers)
    }

    fn connect(&mut self, deadline: Instant) -> Result<Connection, Failure> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None if self.retry_at.is_some_and(|at| Instant::now() < at) => return Err(Failure::Paused),
            None => self.open()?,
        };
        match opening.recv_timeout(left(deadline)) {
            Ok(Ok(connection)) => {
                self.metrics.connections.add_shared(1);
                Ok(connection)
            }
            Ok(Err(error)) => Err(Failure::Refused(error)),
            // It goes on; the next question may find it open.
            Err(RecvTimeoutError::Timeout) => {
                self.opening = Some(opening);
                Err(Failure::TimedOut)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Failure::TimedOut),
        }
    }

    fn open(&self) -> Result<Receiver<RedisResult<Connection>>, Failure> {
        let client = Client::open(self.settings.server.clone()).map_err(Failure::Refused)?;
        let (opened, opening) = sync_channel(1);
        // Whoever asked may be gone by then: the connection is closed.
        let open = move || drop(opened.send(client.get_connection_with_timeout(CONNECT_TIMEOUT)));
        let thread = std::thread::Builder::new().name("redis-connect".into()).spawn(open);
        thread.map_err(|error| Failure::Refused(error.into()))?;
        Ok(opening)
    }

    /// Counts, tells the first failure of an outage and its end, and sets the pause before the next try.
    fn settle(&mut self, answered: Result<Vec<Value>, Failure>) -> Result<Vec<Value>, NoAnswer> {
        let failure = match answered {
            Ok(answers) => {
                self.recovered();
                return Ok(answers);
            }
            Err(failure) => failure,
        };
        if matches!(&failure, Failure::Refused(error) if is_full(error)) {
            self.metrics.full.add_shared(1);
            self.tell_full();
            return Err(NoAnswer::Full);
        }
        self.metrics.unanswered.add_shared(1);
        if !matches!(failure, Failure::Paused) {
            self.connection = None;
            self.retry_at = Some(Instant::now() + pause(self.failures));
            self.failures = self.failures.saturating_add(1);
        }
        if !std::mem::replace(&mut self.down, true) {
            self.metrics.outages.add_shared(1);
            self.metrics.down.add(1);
            tracing::warn!(name = self.name, why = %failure, "Redis is unavailable: we go on without it");
        }
        Err(NoAnswer::Unavailable)
    }

    /// Reads go on in between, so that there is no end of it to wait for.
    fn tell_full(&mut self) {
        if self.told_full.is_none_or(|at| at.elapsed() >= TELL_FULL_EVERY) {
            self.told_full = Some(Instant::now());
            tracing::warn!(name = self.name, "Redis is full: maxmemory is reached");
        }
    }

    fn recovered(&mut self) {
        (self.failures, self.retry_at) = (0, None);
        if std::mem::replace(&mut self.down, false) {
            self.metrics.down.add(-1);
            tracing::info!(name = self.name, "Redis answers again");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.metrics.down.add(-i64::from(self.down));
    }
}

const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

/// Sends all, then reads as many answers.
fn converse(connection: &mut Connection, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
    let failed = |error: RedisError| match error.is_timeout() {
        true => Failure::TimedOut,
        false if error.is_io_error() => Failure::Closed(error),
        false => Failure::Refused(error),
    };
    let mut packed = Vec::new();
    commands.iter().for_each(|command| command.write_packed_command(&mut packed));
    connection.set_write_timeout(Some(left(deadline))).map_err(failed)?;
    connection.send_packed_command(&packed).map_err(failed)?;
    connection.set_read_timeout(Some(left(deadline))).map_err(failed)?;
    let mut answers = Vec::with_capacity(commands.len());
    for _ in commands {
        answers.push(connection.recv_response().map_err(failed)?);
        if Instant::now() >= deadline && answers.len() < commands.len() {
            return Err(Failure::TimedOut);
        }
    }
    Ok(answers)
}

/// The first refusal stands for all: they share a server that is down, demoted, locked or full.
fn without_errors(answers: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let whole = Value::Array(answers).extract_error().map_err(Failure::Refused)?;
    match whole {
        Value::Array(answers) => Ok(answers),
        _ => Ok(Vec::new()),
    }
}

/// Redis before 7 wraps what a script ran into in an error of its own.
fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM") || error.detail().is_some_and(|detail| detail.contains("-OOM "))
}

fn left(deadline: Instant) -> Duration {
    // A zero would be no timeout at all.
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(100))
}

/// Twice as long after each failure, half of it by chance: a fleet does not come back all at once.
fn pause(failures: u32) -> Duration {
    let longest = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << failures.min(10)));
    let chance = std::hash::RandomState::new().build_hasher().finish() % 1_000;
    longest / 2 + longest.mul_f64(chance as f64 / 2_000.0)
}

/// Without details of a server's answer: it may repeat what was asked.
impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::TimedOut => out.write_str("no answer in time"),
            Failure::Paused => out.write_str("it was, a moment ago"),
            Failure::Closed(error) => error.fmt(out),
            Failure::Refused(error) if error.is_io_error() => error.fmt(out),
            Failure::Refused(error) => out.write_str(error.code().unwrap_or(error.category())),
        }
    }
}
