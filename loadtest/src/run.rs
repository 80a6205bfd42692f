//! `run`: one scenario from its file to its outcome.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;

use crate::agents::Agents;
use crate::books::Reported;
use crate::generator::Generator;
use crate::lane::{End, Plan, StagePlan};
use crate::ledger::Seen;
use crate::market::Market;
use crate::observer::{BUSY, Observer, duration};
use crate::outcome::{Books, Outcome, Round, Subject};
use crate::place::{Place, token};
use crate::problems::Problems;
use crate::scenario::{Durability, Running, Scenario, Stage};
use crate::schedule::Slope;
use crate::tally::StageTally;
use crate::wire::Connector;
use crate::{catalog, expectation, machine, process, records};

/// Between the word and the first arrival: connections are made meanwhile.
const LEAD: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub struct Arguments {
    /// One that comes with the program, or a file of your own.
    scenario: String,
    /// The program to start.
    #[arg(long, value_name = "FILE", default_value = "target/dist/afflux")]
    afflux: PathBuf,
    /// All stages together; each keeps its part.
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// The highest rate, or the peak where rates are parts of it.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long the books may take to close; a minute and more for many clicks where it is not said.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
    /// Where outcome.json is written, and the server writes meanwhile.
    #[arg(long, value_name = "DIR", default_value = "target/loadtest")]
    out: PathBuf,
    /// Doors of a server that runs already, instead of one that is started.
    #[arg(long, value_name = "URL", requires = "console")]
    edge: Vec<String>,
    /// Where orders are reported; the console where it is not said.
    #[arg(long, value_name = "URL", requires = "edge")]
    intake: Vec<String>,
    #[arg(long, value_name = "URL", requires = "edge")]
    console: Option<String>,
    /// Metrics of the edges.
    #[arg(long, value_name = "URL", requires = "edge")]
    admin: Vec<String>,
    /// The catalog of a server that runs already.
    #[arg(long, value_name = "FILE", requires = "edge")]
    catalog: Option<String>,
}

/// A stage that is over, and what was seen of it.
struct Done {
    stage: Stage,
    observer: Observer,
    tally: StageTally,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let scenario = scenario(arguments)?;
    eprintln!("{}: {}", scenario.title, scenario.about);
    std::fs::create_dir_all(&arguments.out)?;
    process::allow_open_files()?;
    let home = arguments.out.join("server");
    let (server_cores, lane_cores) = divide(&process::cores(), &scenario);
    let market = Arc::new(market(&scenario)?);
    let mut place = Place::find(&scenario, &market, &arguments.afflux, &home, &server_cores)?;
    let began = jiff::Timestamp::now();
    let with_links = market.links_count() <= 20_000;
    let before = place.interface.look(with_links).context("the books before the run")?;
    let plan = Arc::new(Plan {
        market: market.clone(),
        agents: Arc::new(Agents::new()),
        connector: Connector::new(false)?,
        edges: place.edges.clone(),
        intakes: place.intakes.clone(),
        load: scenario.load.clone(),
        mix: scenario.mix.clone(),
        seed: arguments.seed,
        run: format!("L{:x}", began.as_millisecond()),
        lanes: lane_cores.len().max(1),
    });
    let mut generator = Generator::start(plan, &lane_cores)?;
    let mut done = measure(&scenario, &market, &mut generator, &mut place)?;
    let patience = Duration::from_millis(scenario.mix.conversion_delay_max_ms * 3) + Duration::from_secs(30);
    let mut end = generator.finish(Instant::now() + patience)?;
    if let Some(last) = done.last_mut() {
        last.tally.orders.add(&end.late_orders);
    }
    let (books, lost) = close_books(&place, &mut end, &market, &before, arguments.patience)?;
    let is_right = books.problems.is_empty();
    let missed = expectation::missed(&scenario.expect, &done.iter().map(Done::run).collect::<Vec<_>>());
    missed.iter().for_each(|told| eprintln!("not as expected: {told}"));
    let name = match (&place.server, scenario.server.durability) {
        (None, _) => "Afflux that runs already",
        (Some(_), Durability::Disk) => "Afflux, disk",
        (Some(_), Durability::Process) => "Afflux, process",
    };
    let outcome = Outcome {
        title: scenario.title.clone(),
        began: began.to_string(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        commit: machine::commit(),
        machine: machine::machine(&arguments.out),
        subjects: vec![Subject {
            name: name.into(),
            recorded_first: Some("yes".into()),
            missing_after_kill: lost
                .filter(|_| scenario.faults.kill_every_s.is_some())
                .map(|lost| (lost, books.answered)),
            rounds: rounds(&done, books),
        }],
    };
    let path = arguments.out.join("outcome.json");
    std::fs::write(&path, serde_json::to_vec(&outcome)?)?;
    eprintln!("written: {}", path.display());
    if let Some(server) = place.server {
        server.stop()?;
    }
    if !is_right || !missed.is_empty() {
        eprintln!("what the server wrote stays in {}", home.display());
        return Ok(ExitCode::FAILURE);
    }
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Done {
    fn run(&self) -> expectation::Run<'_> {
        let timeline = &self.observer.timeline;
        expectation::Run { stage: &self.stage, tally: &self.tally, timeline, rate: self.observer.rate() }
    }
}

/// Those that are written down; the books stand in the last one of clicks.
fn rounds(done: &[Done], books: Books) -> Vec<Round> {
    let written = done.iter().filter(|done| !done.stage.warms_up);
    let mut rounds: Vec<Round> = written.flat_map(|done| done.observer.rounds(&done.tally)).collect();
    // Orders have rounds of their own, without a timeline.
    if let Some(last) = rounds.iter_mut().rev().find(|round| !round.timeline.is_empty()) {
        last.books = Some(books);
    }
    rounds
}

fn scenario(arguments: &Arguments) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::load(&arguments.scenario)?;
    if let Some(rate) = arguments.rate {
        ensure!(rate > 0.0, "--rate: more than 0 is allowed");
        scenario = scenario.with_rate(rate);
    }
    // Behind the rate, which may do without the search for the peak.
    if let Some(seconds) = arguments.seconds {
        ensure!(seconds > 0.0, "--seconds: more than 0 is allowed");
        scenario = scenario.with_seconds(seconds);
    }
    if let Some(console) = &arguments.console {
        ensure!(
            scenario.faults.kill_every_s.is_none() && scenario.faults.reload_every_s.is_none(),
            "{}: kills or rewrites the server, and one that runs already is not ours",
            scenario.title
        );
        let intake_urls = if arguments.intake.is_empty() { vec![console.clone()] } else { arguments.intake.clone() };
        let (edge_urls, admin_urls) = (arguments.edge.clone(), arguments.admin.clone());
        scenario.running = Some(Running { edge_urls, intake_urls, console_url: console.clone(), admin_urls });
        let file = arguments.catalog.clone().or(scenario.catalog.file.take());
        scenario.catalog.file = Some(file.context("--catalog: which catalog has the server that runs already?")?);
    }
    Ok(scenario)
}

/// Cores of the server and of the generator; where there is one alone they share it.
fn divide(cores: &[usize], scenario: &Scenario) -> (Vec<usize>, Vec<usize>) {
    if scenario.running.is_some() {
        return (Vec::new(), cores[cores.len() / 2..].to_vec());
    }
    let count = scenario.server.cores_count.min(cores.len().saturating_sub(1)).max(1);
    let own = if cores.len() > count { cores[count..].to_vec() } else { cores.to_vec() };
    (cores[..count].to_vec(), own)
}

fn market(scenario: &Scenario) -> anyhow::Result<Market> {
    match &scenario.catalog.file {
        Some(file) => catalog::read(Path::new(file), &token("AFFLUX_MERCHANT_TOKEN", "secret"), jiff::Timestamp::now()),
        None => Ok(Market::made(&scenario.catalog)),
    }
}

fn measure(
    scenario: &Scenario,
    market: &Market,
    generator: &mut Generator,
    place: &mut Place,
) -> anyhow::Result<Vec<Done>> {
    let (mut done, mut peak, mut second) = (Vec::new(), 0.0, 0);
    for stage in &scenario.stages {
        let slope = slope(stage, peak);
        let rate = slope.map(|slope| slope.from_per_s.max(slope.to_per_s));
        let plan = StagePlan {
            begin: Instant::now() + LEAD,
            seconds: stage.seconds,
            slope,
            connections: stage.connections_count.unwrap_or(scenario.load.connections_count),
        };
        let mut observer = Observer::new(&stage.name, stage.seconds, rate, place.pid());
        let tally = generator.stage(&plan, |at, tally| {
            observer.second(at, tally, place.pid());
            second += 1;
            place.strike(scenario, market, second)
        })?;
        let rate = observer.rate();
        if stage.finds_peak {
            peak = rate;
        }
        show(&observer, &tally);
        done.push(Done { stage: stage.clone(), observer, tally });
    }
    Ok(done)
}

fn slope(stage: &Stage, peak: f64) -> Option<Slope> {
    if stage.finds_peak {
        return None;
    }
    let from_per_s = stage.rate_per_s.or(stage.rate_peak_percent.map(|percent| peak * percent / 100.0))?;
    Some(Slope { from_per_s, to_per_s: stage.to_rate_per_s.unwrap_or(from_per_s), seconds: stage.seconds })
}

fn show(observer: &Observer, tally: &StageTally) {
    let round = &observer.rounds(tally)[0];
    let (planned, rate) =
        (round.planned_rate.map_or("a closed loop".into(), |rate| format!("planned {rate:.0}/s")), observer.rate());
    let at = |part| duration(tally.clicks.latency.value_at_quantile(part));
    eprintln!(
        "== {}: {planned}, {rate:.0}/s answered; {} answered, {} told 503, {} failed ({} of them refused or reset); p50 {}, p99 {}, p99.9 {}, worst {}",
        round.load,
        round.answered,
        round.refused,
        round.failed,
        tally.cut_off,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    if let (Some(edge), Some(process)) = (round.cpu_micros_per_click, round.process_cpu_micros_per_click) {
        eprintln!("   server: {edge:.2} us of its edge threads a click, {process:.2} us of the whole process");
    }
    let (busy, unsent) = (round.generator_busy * 100.0, tally.unsent);
    eprintln!("   generator: {busy:.0} % busy, {} sent late, {unsent} not sent", round.sent_late);
    if round.planned_rate.is_some() && (round.generator_busy >= BUSY || round.sent_late * 100 > round.answered) {
        eprintln!("   the generator was the limit: these latencies are its own");
    }
}

/// The books, and how many answered clicks no spool holds, where somebody could look.
fn close_books(
    place: &Place,
    end: &mut End,
    market: &Market,
    before: &Reported,
    patience_s: Option<u64>,
) -> anyhow::Result<(Books, Option<u64>)> {
    eprintln!("closing the books ...");
    let mut problems = std::mem::take(&mut end.problems);
    let (mut recorded, mut lost) = (None, None);
    if let Some(server) = place.server.as_ref().filter(|_| end.clicked.has_all_ids()) {
        let found = records::check(server.command(&["spool", "cat"]), end.clicked.take_ids(), &mut problems)?;
        (recorded, lost) = (Some(found.clicks), Some(found.lost));
    }
    let seen = Seen { clicked: &end.clicked, orders: &end.orders, recorded, market, before };
    // As slow as 10,000 clicks a second on a machine that does something else too.
    let deadline = Instant::now() + Duration::from_secs(patience_s.unwrap_or(60 + end.clicked.answered / 10_000));
    let (mut books, more) = place.interface.close(&seen, deadline)?;
    problems.add(more);
    report(&books, end, &problems);
    books.problems = problems.into_lines();
    books.problems.iter().for_each(|problem| eprintln!("wrong: {problem}"));
    Ok((books, lost))
}

fn report(books: &Books, end: &End, problems: &Problems) {
    let accepted = end.orders.iter().filter(|order| order.conversion_id.is_some()).count();
    let refunds = end.orders.iter().filter(|order| order.refunded.is_some()).count();
    eprintln!(
        "books: {} clicks answered, {} recorded, {} reported ({} sent without a whole answer); {accepted} orders, {refunds} refunds \
         ({} told again, {} left out)",
        books.answered, books.recorded, books.reported, end.clicked.doubtful, end.told_again, end.left_out
    );
    for money in &books.money {
        eprintln!("money: {} {} due, {} reported", money.expected, money.currency, money.reported);
    }
    eprintln!("{}", if problems.is_empty() { "the books are right" } else { "THE BOOKS ARE WRONG" });
}
