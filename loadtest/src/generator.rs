//! All lanes from outside: started, told a stage, listened to each second, ended.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::lane::{self, Command, End, Plan, StagePlan, Told};
use crate::process;
use crate::tally::{StageTally, Tally};

/// After the end of a second, until all lanes have told about it.
const TOLD_WITHIN: Duration = Duration::from_millis(50);

pub struct Generator {
    commands: Vec<UnboundedSender<Command>>,
    told: Receiver<Told>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Generator {
    /// A lane on each of these cores; without cores on none in particular.
    pub fn start(plan: Arc<Plan>, cores: &[usize]) -> io::Result<Generator> {
        let (tell, told) = channel();
        let mut generator = Generator { commands: Vec::new(), told, threads: Vec::new() };
        for number in 0..plan.lanes {
            let (plan, tell, core) = (plan.clone(), tell.clone(), cores.get(number).copied());
            let (command, commands) = unbounded_channel();
            let thread = std::thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
                if let Some(core) = core {
                    process::pin(&[core])?;
                }
                lane::run(plan, number, commands, tell)
            })?;
            generator.commands.push(command);
            generator.threads.push(thread);
        }
        Ok(generator)
    }

    /// `each_second` hears of every second, also of those after the last arrival in which answers still came.
    pub fn stage(
        &mut self,
        stage: &StagePlan,
        mut each_second: impl FnMut(u64, &Tally) -> anyhow::Result<()>,
    ) -> anyhow::Result<StageTally> {
        self.commands.iter().for_each(|lane| drop(lane.send(Command::Stage(stage.clone()))));
        let (mut seconds, mut sum, mut ended, mut next) = (BTreeMap::<u64, Tally>::new(), StageTally::default(), 0, 0);
        while ended < self.commands.len() {
            let whole = stage.begin + Duration::from_secs(next + 1) + TOLD_WITHIN;
            match self.told.recv_timeout(whole.saturating_duration_since(Instant::now())) {
                // A lane that had no processor tells late: what it tells is in the second in which it is heard.
                Ok(Told::Second { at, tally }) => seconds.entry(at.max(next)).or_default().add(&tally),
                Ok(Told::Stage(tally)) => {
                    sum.add(&tally);
                    ended += 1;
                }
                Ok(Told::End(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.lost()),
                Err(RecvTimeoutError::Timeout) => {
                    each_second(next, &seconds.remove(&next).unwrap_or_default())?;
                    next += 1;
                    if self.threads.iter().any(JoinHandle::is_finished) {
                        return Err(self.lost());
                    }
                }
            }
        }
        for (at, tally) in seconds.into_iter().filter(|(_, tally)| tally.answered + tally.failed + tally.refused > 0) {
            each_second(at, &tally)?;
        }
        Ok(sum)
    }

    /// Waits for orders that are still to come, until the deadline.
    pub fn finish(mut self, deadline: Instant) -> anyhow::Result<End> {
        self.commands.iter().for_each(|lane| drop(lane.send(Command::Finish { deadline })));
        let mut whole: Option<End> = None;
        let mut ended = 0;
        while ended < self.commands.len() {
            match self.told.recv_timeout(deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5)) {
                Ok(Told::End(end)) => {
                    ended += 1;
                    match &mut whole {
                        Some(whole) => whole.add(*end),
                        none => *none = Some(*end),
                    }
                }
                Ok(_) => {}
                Err(_) => return Err(self.lost()),
            }
        }
        whole.ok_or_else(|| anyhow::anyhow!("there is no lane"))
    }

    /// Why a lane has ended.
    fn lost(&mut self) -> anyhow::Error {
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            match thread.join() {
                Ok(Err(error)) => return anyhow::Error::from(error).context("a lane of the generator ended"),
                Ok(Ok(())) => {}
                Err(_) => return anyhow::anyhow!("a lane of the generator panicked"),
            }
        }
        anyhow::anyhow!("a lane of the generator does not answer")
    }
}

impl End {
    fn add(&mut self, other: End) {
        self.clicked.add(other.clicked);
        self.orders.extend(other.orders);
        self.left_out += other.left_out;
        self.told_again += other.told_again;
        self.late_orders.add(&other.late_orders);
        self.problems.add(other.problems);
    }
}
