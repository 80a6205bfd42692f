//! One thread of the generator: its own runtime, people, connections and counts. Lanes share nothing while they run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::agents::Agents;
use crate::click::{Answer, Click};
use crate::clicked::Clicked;
use crate::crowd::Crowd;
use crate::http2::Shared;
use crate::market::Market;
use crate::orders::{Order, Orders, Post};
use crate::pacer::Pacer;
use crate::problems::Problems;
use crate::process::own_thread_cpu_us;
use crate::scenario::{Load, Mix};
use crate::schedule::{Schedule, Slope};
use crate::tally::{StageTally, Tally, record};
use crate::wire::{Connector, Target};
use crate::{merchant, visit};

/// What all lanes know.
pub struct Plan {
    pub market: Arc<Market>,
    pub agents: Arc<Agents>,
    pub connector: Connector,
    pub edges: Vec<Target>,
    pub intakes: Vec<Target>,
    pub load: Load,
    pub mix: Mix,
    pub seed: u64,
    /// Begins the number of every order.
    pub run: String,
    pub lanes: usize,
}

/// What a lane is told to do.
pub enum Command {
    Stage(StagePlan),
    /// Waits for orders and refunds that are still to come, then hands everything over and ends.
    Finish {
        deadline: Instant,
    },
}

#[derive(Clone)]
pub struct StagePlan {
    pub begin: Instant,
    pub seconds: f64,
    /// Of all lanes together; none in a closed loop.
    pub slope: Option<Slope>,
    /// Of all lanes together.
    pub connections: usize,
}

/// What a lane tells.
pub enum Told {
    Second { at: u64, tally: Tally },
    Stage(Box<StageTally>),
    End(Box<End>),
}

pub struct End {
    pub clicked: Clicked,
    pub orders: Vec<Order>,
    pub left_out: u64,
    pub told_again: u64,
    /// Orders of after the last stage.
    pub late_orders: Tally,
    pub problems: Problems,
}

pub struct Lane {
    pub plan: Arc<Plan>,
    pub posts: crate::queue::Queue<Post>,
    number: usize,
    crowd: RefCell<Crowd>,
    clicked: RefCell<Clicked>,
    orders: RefCell<Orders>,
    stage: RefCell<StageTally>,
    second: RefCell<Tally>,
    problems: RefCell<Problems>,
}

/// A stage while it runs.
pub struct StageRun {
    pacer: Option<Pacer>,
    until: Instant,
    begin: Instant,
}

impl StageRun {
    /// When the next click was planned, once it is due; `None`: go home.
    pub async fn arrival(&self) -> Option<Instant> {
        if let Some(pacer) = &self.pacer {
            return pacer.arrivals.take().await;
        }
        let now = Instant::now();
        if now < self.begin {
            tokio::time::sleep_until(self.begin.into()).await;
        }
        (now < self.until).then(Instant::now)
    }

    pub fn is_closed_loop(&self) -> bool {
        self.pacer.is_none()
    }
}

/// Runs on a thread of its own.
pub fn run(
    plan: Arc<Plan>,
    number: usize,
    mut commands: UnboundedReceiver<Command>,
    told: Sender<Told>,
) -> std::io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Answers are looked for often: what waits in a socket is latency that is not the server's.
    let runtime = runtime.enable_all().event_interval(16).build_local(Default::default())?;
    runtime.block_on(async move {
        let lane = Rc::new(Lane::new(plan, number));
        lane.open_shops();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Stage(stage) => lane.run_stage(stage, &told).await?,
                Command::Finish { deadline } => {
                    lane.wait_for_orders(deadline).await;
                    // Whoever listened is gone when the run has failed.
                    let _ = told.send(Told::End(Box::new(lane.end())));
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

impl Lane {
    fn new(plan: Arc<Plan>, number: usize) -> Lane {
        let seed = crate::random::mix(plan.seed ^ ((number as u64 + 1) << 48));
        let prefix = format!("{}-{number}", plan.run);
        Lane {
            crowd: RefCell::new(Crowd::new(plan.market.clone(), plan.agents.clone(), &plan.mix, seed)),
            clicked: RefCell::new(Clicked::new(&plan.market, plan.lanes)),
            orders: RefCell::new(Orders::new(plan.market.clone(), &plan.mix, !seed, prefix)),
            posts: crate::queue::Queue::new(crate::orders::MAX_ORDERS),
            stage: RefCell::default(),
            second: RefCell::default(),
            problems: RefCell::default(),
            number,
            plan,
        }
    }

    /// Merchants tell what is due for as long as the lane lives.
    fn open_shops(self: &Rc<Lane>) {
        if self.plan.mix.conversion_percent == 0.0 {
            return;
        }
        let connections = share_of(self.plan.load.merchant_connections_count, self.plan.lanes, self.number).max(1);
        (0..connections).for_each(|index| {
            let number = index * self.plan.lanes + self.number;
            tokio::task::spawn_local(merchant::work(self.clone(), number));
        });
        let lane = self.clone();
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            loop {
                let now = tick.tick().await.into_std();
                while let Some(post) = lane.orders.borrow_mut().due(now) {
                    if let Err(post) = lane.posts.push(post) {
                        lane.orders.borrow_mut().again(post, now);
                    }
                }
            }
        });
    }

    async fn run_stage(self: &Rc<Lane>, plan: StagePlan, told: &Sender<Told>) -> std::io::Result<()> {
        let lanes = self.plan.lanes;
        let pacer = plan.slope.map(|slope| {
            let schedule = Schedule::new(slope.divided(lanes), self.number as f64 / lanes as f64);
            Pacer::new(plan.begin, schedule, (self.plan.load.waiting_arrivals_count / lanes).max(1))
        });
        let until = plan.begin + Duration::from_secs_f64(plan.seconds);
        let stage = Rc::new(StageRun { pacer, until, begin: plan.begin });
        let visits = self.open_connections(&stage, share_of(plan.connections, lanes, self.number).max(1));
        tokio::time::sleep_until(plan.begin.into()).await;
        let cpu = own_thread_cpu_us();
        let at = Rc::new(Cell::new(0));
        let seconds = tokio::task::spawn_local(tell_seconds(self.clone(), plan.begin, at.clone(), told.clone()));
        if let Some(pacer) = &stage.pacer {
            pacer.run().await?;
        } else {
            tokio::time::sleep_until(until.into()).await;
        }
        let busy = (own_thread_cpu_us() - cpu) as f64 / plan.begin.elapsed().as_micros().max(1) as f64;
        for visit in visits {
            // Each ends after its last answer, or after its timeout.
            let _ = visit.await;
        }
        seconds.abort();
        let mut tally = self.stage.take();
        tally.busy = busy.min(1.0);
        if let Some(pacer) = &stage.pacer {
            (tally.sent_late, tally.unsent) = (pacer.sent_late.get(), pacer.unsent.get());
            tally.clicks.failed += tally.unsent;
        }
        // Whoever listened is gone when the run has failed.
        let _ = told.send(Told::Second { at: at.get(), tally: self.second.take() });
        let _ = told.send(Told::Stage(Box::new(tally)));
        Ok(())
    }

    fn open_connections(self: &Rc<Lane>, stage: &Rc<StageRun>, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
        let load = &self.plan.load;
        let http2 = (count as f64 * load.http2_percent / 100.0).round() as usize;
        let mut visits = Vec::new();
        for index in 0..count {
            let number = index * self.plan.lanes + self.number;
            if index >= http2 {
                visits.push(tokio::task::spawn_local(visit::http1(self.clone(), stage.clone(), number)));
                continue;
            }
            let shared = Rc::new(Shared::new(number as u32));
            let streams = if load.new_connections { 1 } else { load.streams_count };
            for _ in 0..streams {
                let visit = visit::http2(self.clone(), stage.clone(), shared.clone(), number);
                visits.push(tokio::task::spawn_local(visit));
            }
        }
        visits
    }

    pub fn next_click(&self, now: Instant) -> Click {
        self.crowd.borrow_mut().next(now)
    }

    /// Returns the time, which it had to look up.
    pub fn answered(&self, stage: &StageRun, click: &Click, planned: Instant, answer: &Answer) -> Instant {
        let now = Instant::now();
        match (answer.status, answer.click_id) {
            (302, Some(id)) => {
                let market = &self.plan.market;
                let (offer, publisher) = (market.offers[click.page.offer].id, market.publishers[click.page.publisher]);
                if (id.offer_id(), id.publisher_id()) != (offer, publisher) {
                    self.problem(format!("click {id}: offer {offer} of publisher {publisher} was asked for"));
                }
                let latency = now.saturating_duration_since(planned);
                for tally in [&mut self.stage.borrow_mut().clicks, &mut *self.second.borrow_mut()] {
                    tally.answered += 1;
                    record(&mut tally.latency, latency);
                }
                self.clicked.borrow_mut().answer(&click.page, id);
                let mut crowd = self.crowd.borrow_mut();
                if let Some(visitor) = crowd.answered(click, answer) {
                    let is_placed = self.orders.borrow_mut().place(visitor, &crowd.visitor(visitor).clicks, now);
                    if !is_placed {
                        crowd.bought(visitor, now);
                    }
                }
            }
            (429 | 503, _) => {
                self.stage.borrow_mut().clicks.refused += 1;
                self.second.borrow_mut().refused += 1;
                self.crowd.borrow_mut().failed(click, false);
            }
            (status, _) => {
                self.problem(format!("a click was answered with {status} and no click ID"));
                self.count_failed(click, true);
            }
        }
        self.hand_over(stage, now);
        now
    }

    /// No answer came. `sent`: the server may have heard it, and recorded it. `was_told`: by a connection refused or reset.
    pub fn failed(&self, stage: &StageRun, click: &Click, sent: bool, was_told: bool) -> Instant {
        let now = Instant::now();
        self.stage.borrow_mut().cut_off += u64::from(was_told);
        self.count_failed(click, sent);
        self.hand_over(stage, now);
        now
    }

    fn count_failed(&self, click: &Click, doubtful: bool) {
        self.stage.borrow_mut().clicks.failed += 1;
        self.second.borrow_mut().failed += 1;
        self.crowd.borrow_mut().failed(click, doubtful);
        if doubtful {
            self.clicked.borrow_mut().doubt(&click.page);
        }
    }

    fn hand_over(&self, stage: &StageRun, now: Instant) {
        if let Some(pacer) = &stage.pacer {
            pacer.hand_over(now);
        }
    }

    pub fn token_of(&self, post: &Post) -> String {
        let merchant = self.orders.borrow().orders[post.order].merchant;
        self.plan.market.merchants[merchant].token.clone()
    }

    pub fn accepted(&self, post: &Post, body: &[u8], now: Instant) {
        #[derive(serde::Deserialize)]
        struct Accepted {
            conversion_id: String,
        }
        let Ok(Accepted { conversion_id }) = serde_json::from_slice(body) else {
            return self.refused(post, &format!("202 with {}", String::from_utf8_lossy(body)), now);
        };
        let mut stage = self.stage.borrow_mut();
        stage.orders.answered += 1;
        record(&mut stage.orders.latency, now.saturating_duration_since(post.planned));
        self.orders.borrow_mut().accepted(post, &conversion_id, now);
        if let Some(visitor) = post.visitor {
            self.crowd.borrow_mut().bought(visitor, now);
        }
    }

    pub fn not_accepted(&self, post: Post, now: Instant, is_refusal: bool) {
        let mut stage = self.stage.borrow_mut();
        *(if is_refusal { &mut stage.orders.refused } else { &mut stage.orders.failed }) += 1;
        self.orders.borrow_mut().again(post, now);
    }

    pub fn refused(&self, post: &Post, answer: &str, now: Instant) {
        self.stage.borrow_mut().orders.failed += 1;
        self.orders.borrow_mut().refused(post, answer);
        if let Some(visitor) = post.visitor {
            self.crowd.borrow_mut().bought(visitor, now);
        }
    }

    async fn wait_for_orders(&self, deadline: Instant) {
        while self.orders.borrow().open > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.orders.borrow_mut().give_up();
    }

    fn problem(&self, problem: String) {
        self.problems.borrow_mut().push(problem);
    }

    fn end(&self) -> End {
        let (mut orders, mut crowd) = (self.orders.borrow_mut(), self.crowd.borrow_mut());
        let mut problems = self.problems.take();
        problems.add(std::mem::take(&mut crowd.problems));
        problems.add(std::mem::take(&mut orders.problems));
        let nothing = Clicked::new(&self.plan.market, self.plan.lanes);
        End {
            clicked: self.clicked.replace(nothing),
            orders: std::mem::take(&mut orders.orders),
            left_out: orders.left_out,
            told_again: orders.told_again,
            late_orders: self.stage.take().orders,
            problems,
        }
    }
}

/// `at` is the second that has not been told yet.
async fn tell_seconds(lane: Rc<Lane>, begin: Instant, at: Rc<Cell<u64>>, told: Sender<Told>) {
    let second = Duration::from_secs(1);
    let mut tick = tokio::time::interval_at((begin + second).into(), second);
    loop {
        tick.tick().await;
        let tally = lane.second.take();
        if told.send(Told::Second { at: at.get(), tally }).is_err() {
            return;
        }
        at.set(at.get() + 1);
    }
}

/// Of `whole`, what the lane with this number has.
fn share_of(whole: usize, lanes: usize, number: usize) -> usize {
    whole / lanes + usize::from(number < whole % lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_everything() {
        for (whole, lanes) in [(64, 1), (64, 3), (2, 3)] {
            assert_eq!((0..lanes).map(|number| share_of(whole, lanes, number)).sum::<usize>(), whole);
        }
    }
}
