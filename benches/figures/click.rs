//! CPU of the server per click, keep-alive and with a new connection per click, beside nginx in the same rounds.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process;
use crate::rig::Server;
use crate::rig::server::Start;

const ROUNDS: usize = 9;
const SECONDS: u32 = 3;
const AGENT: &str =
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";

enum Peer {
    Nginx { child: Child, port: u16 },
    Afflux(Box<Server>),
}

struct Contender {
    name: &'static str,
    peer: Peer,
    target: &'static str,
    /// CPU microseconds per click of each round, keep-alive and new connection; all threads of the process.
    keep_alive: Vec<f64>,
    new_connection: Vec<f64>,
    /// The same for the edge's threads alone.
    edge_keep_alive: Vec<f64>,
    edge_new_connection: Vec<f64>,
    rate: Vec<f64>,
    answered: u64,
}

pub fn run() {
    println!("\n## A click, CPU microseconds of the server ({}; {ROUNDS} rounds of {SECONDS} s)", process::machine());
    let homes: Vec<tempfile::TempDir> = (0..4).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let mut contenders = vec![
        contender("nginx return 302, no log", nginx(homes[0].path(), 18_081, false), "/phone?sub1=bench"),
        contender("nginx 302 + cookie + JSON log, buffered", nginx(homes[1].path(), 18_082, true), "/phone?sub1=bench"),
        contender("Afflux, process", afflux(homes[2].path(), "process"), "/phone?sub1=bench"),
        contender("Afflux, disk", afflux(homes[3].path(), "disk"), "/phone?sub1=bench"),
    ];
    for round in 0..ROUNDS {
        let count = contenders.len();
        for index in 0..count {
            contenders[(index + round) % count].round();
        }
    }
    print_table(&contenders);
    check_books(&contenders);
}

fn contender(name: &'static str, peer: Peer, target: &'static str) -> Contender {
    Contender {
        name,
        peer,
        target,
        keep_alive: Vec::new(),
        new_connection: Vec::new(),
        edge_keep_alive: Vec::new(),
        edge_new_connection: Vec::new(),
        rate: Vec::new(),
        answered: 0,
    }
}

impl Contender {
    fn round(&mut self) {
        let (all, edge, rate) = self.load(&[]);
        self.keep_alive.push(all);
        self.edge_keep_alive.push(edge);
        self.rate.push(rate);
        let (all, edge, _) = self.load(&["-H", "Connection: close"]);
        self.new_connection.push(all);
        self.edge_new_connection.push(edge);
    }

    fn load(&mut self, more: &[&str]) -> (f64, f64, f64) {
        let url = format!("http://127.0.0.1:{}{}", self.port(), self.target);
        let before = (self.cpu_us(), self.edge_cpu_us());
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", "1", "wrk", "-t1", "-c64", &format!("-d{SECONDS}s"), "-H", AGENT]).args(more).arg(&url);
        let output = wrk.output().expect("wrk");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests: u64 = number_before(&said, " requests in");
        assert!(!said.contains("Non-2xx"), "{said}");
        // What is still being synced or logged belongs to these clicks.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let after = (self.cpu_us(), self.edge_cpu_us());
        self.answered += requests;
        let clicks = requests.max(1) as f64;
        ((after.0 - before.0) as f64 / clicks, (after.1 - before.1) as f64 / clicks, clicks / f64::from(SECONDS))
    }

    fn port(&self) -> u16 {
        match &self.peer {
            Peer::Nginx { port, .. } => *port,
            Peer::Afflux(server) => server.edge.port(),
        }
    }

    fn cpu_us(&self) -> u64 {
        match &self.peer {
            Peer::Nginx { child, .. } => process::cpu_us(child.id()),
            Peer::Afflux(server) => process::cpu_us(server.pid()),
        }
    }

    fn edge_cpu_us(&self) -> u64 {
        match &self.peer {
            Peer::Nginx { child, .. } => process::cpu_us(child.id()),
            Peer::Afflux(server) => process::threads_cpu_us(server.pid(), "edge"),
        }
    }
}

fn number_before(text: &str, mark: &str) -> u64 {
    let before = text.split(mark).next().unwrap_or_default();
    before.split_ascii_whitespace().next_back().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn afflux(home: &Path, durability: &str) -> Peer {
    let start = Start {
        config: vec![("edge", "workers = 1".into()), ("spool", format!("durability = \"{durability}\""))],
        ..Start::default()
    };
    let server = Server::start(home, &start);
    process::pin(server.pid(), "0");
    Peer::Afflux(Box::new(server))
}

fn nginx(home: &Path, port: u16, logged: bool) -> Peer {
    let log = if logged {
        "log_format click escape=json '{\"at\":\"$msec\",\"uri\":\"$request_uri\",\"ip\":\"$remote_addr\",\"agent\":\"$http_user_agent\",\"referer\":\"$http_referer\",\"cookie\":\"$cookie_aff_vid\",\"id\":\"$request_id\"}';\naccess_log click.log click buffer=64k flush=1s;"
    } else {
        "access_log off;"
    };
    let answer = if logged {
        "add_header Set-Cookie \"aff_vid=$request_id; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000\";\nadd_header Cache-Control no-store;\nreturn 302 \"https://shop.example/p/1?color=black&click_id=$request_id\";"
    } else {
        "return 302 https://shop.example/p/1?color=black;"
    };
    let config = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nworker_processes 1;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n{log}\nkeepalive_requests 1000000000;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096;\nlocation / {{ {answer} }} }} }}\n"
    );
    std::fs::write(home.join("nginx.conf"), config).expect("the config");
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "nginx", "-e", "error.log", "-p"]).arg(home).args(["-c", "nginx.conf"]);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let child = command.env("PATH", path).stdout(Stdio::null()).spawn().expect("nginx");
    std::thread::sleep(std::time::Duration::from_millis(300));
    Peer::Nginx { child, port }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Peer::Nginx { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn print_table(contenders: &[Contender]) {
    let bare = &contenders[0];
    println!(
        "| what | keep-alive, µs | of nginx bare (lower quartile of rounds .. median) | new connection, µs | of nginx bare | clicks/s | memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for contender in contenders {
        let memory = match &contender.peer {
            Peer::Nginx { child, .. } => process::resident_mib(child.id()),
            Peer::Afflux(server) => process::resident_mib(server.pid()),
        };
        let rate = process::median(&contender.rate);
        row(contender.name, (&contender.keep_alive, &contender.new_connection), bare, rate, memory);
        if matches!(contender.peer, Peer::Afflux(_)) {
            let name = format!("{}: its edge threads alone", contender.name);
            row(&name, (&contender.edge_keep_alive, &contender.edge_new_connection), bare, rate, memory);
        }
    }
}

fn row(name: &str, (keep, new): (&[f64], &[f64]), bare: &Contender, rate: f64, memory: f64) {
    let ratios = |own: &[f64], other: &[f64]| own.iter().zip(other).map(|(a, b)| a / b).collect::<Vec<_>>();
    let (kept, opened) = (ratios(keep, &bare.keep_alive), ratios(new, &bare.new_connection));
    println!(
        "| {name} | {:.2} | {:.2} .. {:.2} | {:.2} | {:.2} .. {:.2} | {rate:.0} | {memory:.0} |",
        process::median(keep),
        process::quantile(&kept, 0.25),
        process::median(&kept),
        process::median(new),
        process::quantile(&opened, 0.25),
        process::median(&opened),
    );
    println!("  rounds, keep-alive: {keep:.2?}; new connection: {new:.2?}");
}

/// Every click that wrk saw answered is a record. wrk hangs up on what is in flight when its time is over, so there may
/// be as many more records as connections, each run.
fn check_books(contenders: &[Contender]) {
    for contender in contenders {
        let Peer::Afflux(server) = &contender.peer else { continue };
        let page = server.admin().get("/metrics", &[]).text();
        let sum = |name: &str| -> u64 {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
        };
        let redirected = sum("afflux_edge_requests_total{outcome=\"redirected\"}");
        let undurable = sum("afflux_spool_undurable_total");
        let in_flight = (ROUNDS * 2 * 64) as u64;
        println!(
            "{}: {} answered to wrk, {redirected} counted, {undurable} undurable",
            contender.name, contender.answered
        );
        assert!(redirected >= contender.answered && redirected <= contender.answered + in_flight);
    }
}
