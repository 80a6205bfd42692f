//! Edges, attributions and a console over the shared servers, with topics, a database and keys of their own.

use std::path::Path;

use tempfile::TempDir;

use crate::books::Kafka;
use crate::process::Process;
use crate::servers::Servers;

/// SHA-256 of `operator`.
const OPERATOR_SHA256: &str = "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23";
pub const CATALOG: &str = include_str!("catalog.toml");
pub const PARTITIONS: u32 = 6;

pub struct Cluster {
    // Before the servers: processes end before those are healed.
    pub edges: Vec<Process>,
    pub attributions: Vec<Process>,
    pub console: Process,
    pub servers: Servers,
    pub prefix: String,
    pub database: String,
    pub home: TempDir,
    shape: Shape,
}

/// What a test wants other than usual.
#[derive(Clone, Default)]
pub struct Shape {
    /// More lines for every config file, by section.
    pub config: Vec<(&'static str, String)>,
    /// In place of those of the servers: where a proxy stands before them.
    pub kafka: Option<String>,
    pub redis: Option<String>,
    /// Leads to the server as superuser.
    pub postgresql: Option<String>,
    pub catalog: Option<String>,
}

impl Shape {
    pub fn with(section: &'static str, line: &str) -> Shape {
        Shape { config: vec![(section, line.to_owned())], ..Shape::default() }
    }
}

impl Cluster {
    /// Two edges, two attributions and a console, all running.
    pub fn start(name: &str) -> Cluster {
        Cluster::start_with(name, Shape::default())
    }

    pub fn start_with(name: &str, shape: Shape) -> Cluster {
        let mut cluster = Cluster::make(name, shape, 2, 2);
        cluster.start_all();
        cluster
    }

    /// Topics, database, keys and configs; nothing runs.
    pub fn make(name: &str, shape: Shape, edges: usize, attributions: usize) -> Cluster {
        let cluster = Cluster::without_topics(name, shape, edges, attributions);
        cluster.create_topics();
        cluster
    }

    pub fn without_topics(name: &str, shape: Shape, edges: usize, attributions: usize) -> Cluster {
        let servers = Servers::ours();
        let home = tempfile::tempdir().expect("a directory");
        let run = format!("{name}-{:x}", rand_suffix());
        let database = run.replace('-', "_");
        servers.postgresql(&["sql", "-c", &format!("create database \"{database}\"")]);
        let numbered = |role: &'static str, count: usize| -> Vec<Process> {
            (1..=count).map(|number| Process::new(role, &format!("{role}-{number}"), home.path())).collect()
        };
        let cluster = Cluster {
            edges: numbered("edge", edges),
            attributions: numbered("attribution", attributions),
            console: Process::new("console", "console", home.path()),
            servers,
            prefix: run,
            database,
            home,
            shape,
        };
        cluster.write_shared();
        for process in cluster.processes() {
            cluster.write_config(process);
        }
        cluster
    }

    pub fn start_all(&mut self) {
        let processes = self.edges.iter_mut().chain(&mut self.attributions).chain([&mut self.console]);
        let mut processes: Vec<&mut Process> = processes.collect();
        processes.iter_mut().for_each(|process| process.launch(&[]));
        processes.iter_mut().for_each(|process| process.wait_alive());
    }

    /// One more, not started.
    pub fn add_attribution(&mut self) -> &mut Process {
        let process = Process::new("attribution", &format!("attribution-{}", self.attributions.len() + 1), self.path());
        self.write_config(&process);
        self.attributions.push(process);
        self.attributions.last_mut().expect("just pushed")
    }

    pub fn add_edge(&mut self) -> &mut Process {
        let process = Process::new("edge", &format!("edge-{}", self.edges.len() + 1), self.path());
        self.write_config(&process);
        self.edges.push(process);
        self.edges.last_mut().expect("just pushed")
    }

    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.edges.iter().chain(&self.attributions).chain([&self.console])
    }

    /// Of all edges together.
    pub fn edges_metric(&self, name: &str, labels: &str) -> f64 {
        self.edges.iter().filter(|edge| edge.runs()).map(|edge| edge.metric(name, labels)).sum()
    }

    /// Of all attributions together.
    pub fn attributions_metric(&self, name: &str, labels: &str) -> f64 {
        self.attributions.iter().filter(|one| one.runs()).map(|one| one.metric(name, labels)).sum()
    }

    /// Of all edges together, each of which must answer and know the metric: for what is expected to be 0.
    pub fn edges_count(&self, name: &str) -> f64 {
        self.edges.iter().filter(|edge| edge.runs()).map(|edge| edge.count(name)).sum()
    }

    /// The same of all attributions.
    pub fn attributions_count(&self, name: &str) -> f64 {
        self.attributions.iter().filter(|one| one.runs()).map(|one| one.count(name)).sum()
    }

    /// Waits until a sum is above `least`; which must come to be seen, as whoever is on duty would look for it.
    pub fn shows(&self, role: &str, name: &str, labels: &str, least: f64) {
        crate::books::wait_for(crate::books::patience(), "what befell it is seen", || {
            let seen = match role {
                "edge" => self.edges_metric(name, labels),
                _ => self.attributions_metric(name, labels),
            };
            if seen > least { Ok(()) } else { Err(format!("{name}{{{labels}}} of all {role}s is {seen}")) }
        });
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    pub fn kafka(&self) -> Kafka {
        Kafka::new(&self.servers.kafka, &self.prefix)
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// SQL on this cluster's own database; fails the test when it fails.
    pub fn sql(&self, text: &str) -> String {
        let output = self.try_sql(text);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn try_sql(&self, text: &str) -> std::process::Output {
        let url = self.database_url(&self.servers.postgresql);
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", &url, "-c", text];
        std::process::Command::new("psql").args(arguments).output().expect("psql runs")
    }

    pub fn create_topics(&self) {
        let output = self.console.run(&["topics", "create"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn database_url(&self, server: &str) -> String {
        let (before, _) = server.rsplit_once('/').expect("a URL with a database");
        format!("{before}/{}", self.database)
    }

    fn write_shared(&self) {
        let catalog = self.shape.catalog.as_deref().unwrap_or(CATALOG);
        self.write("catalog.toml", catalog);
        let mut random = crate::random::Random::new(rand_suffix());
        let mut secret = || (0..4).map(|_| format!("{:016x}", random.next())).collect::<String>();
        self.write("click.keys", &format!("1:{}\nvisitor:{}\n", secret(), secret()));
        let server = self.shape.postgresql.as_ref().unwrap_or(&self.servers.postgresql);
        self.write("postgresql.url", &format!("{}\n", self.database_url(server)));
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("written");
    }

    /// Anew with another shape: for what is to be changed while the cluster is down.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        self.processes().for_each(|process| self.write_config(process));
    }

    pub fn write_config(&self, process: &Process) {
        let Process { edge, api, admin, name, .. } = process;
        let bootstrap = self.shape.kafka.as_ref().unwrap_or(&self.servers.kafka);
        let redis = self.shape.redis.as_ref().unwrap_or(&self.servers.redis);
        let mut lines: Vec<(&str, String)> = vec![
            ("edge", format!("listen = \"{edge}\"\nworkers = 2\nname = \"{name}\"")),
            ("api", format!("listen = \"{api}\"\noperator_tokens_sha256 = [\"{OPERATOR_SHA256}\"]")),
            ("admin", format!("listen = \"{admin}\"")),
            ("store", "path = \"data/afflux.sqlite\"".into()),
            // Small segments: even a short test rolls several.
            ("spool", "directory = \"data/spool\"\nsegment_bytes = 1_048_576".into()),
            ("catalog", "path = \"../catalog.toml\"".into()),
            ("click", "keys_file = \"../click.keys\"".into()),
        ];
        let outside = [
            ("kafka", format!("bootstrap_servers = \"{bootstrap}\"\nprefix = \"{}\"", self.prefix)),
            ("kafka", format!("partitions = {PARTITIONS}\nreplicas = 3\nmin_insync_replicas = 2")),
            ("redis", format!("url = \"{redis}\"")),
            ("postgresql", "url_file = \"../postgresql.url\"".into()),
        ];
        // One process has all in itself.
        if process.role != "serve" {
            lines.extend(outside);
        }
        // What a test says holds in place of what stands here.
        for (section, line) in &self.shape.config {
            let key = line.split(" =").next().unwrap_or_default();
            for (_, known) in lines.iter_mut().filter(|(known, _)| known == section) {
                let kept = known.lines().filter(|known| known.split(" =").next() != Some(key));
                *known = kept.collect::<Vec<_>>().join("\n");
            }
            lines.push((section, line.clone()));
        }
        let mut sections: Vec<&str> = lines.iter().map(|(section, _)| *section).collect();
        sections.sort_unstable();
        sections.dedup();
        let mut text = String::new();
        for section in sections {
            text.push_str(&format!("[{section}]\n"));
            let of_it = lines.iter().filter(|(known, _)| *known == section);
            of_it.for_each(|(_, line)| text.push_str(&format!("{line}\n")));
        }
        std::fs::write(process.config(), text).expect("the config file");
    }
}

fn rand_suffix() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    crate::random::Random::new(now.as_nanos() as u64).next() & 0xffff_ffff
}

/// Where a test failed, what the processes said last tells why; its records stay to be looked at.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.processes() {
                eprintln!("--- {}\n{}", process.name, process.log());
            }
            return;
        }
        // The servers are small: what nobody reads any more makes room.
        let processes = self.edges.iter_mut().chain(&mut self.attributions).chain([&mut self.console]);
        processes.for_each(Process::kill);
        self.servers.kafka(&["topics", "--delete", "--if-exists", "--topic", &format!("{}.*", self.prefix)]);
        self.servers.postgresql(&["sql", "-c", &format!("drop database \"{}\" with (force)", self.database)]);
    }
}
