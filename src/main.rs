//! The program: parses the command line and hands over to a role. See `afflux --help` and `ARCHITECTURE.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use afflux::role;
use clap::{Parser, Subcommand};

/// Click tracking, attribution and settlement for affiliate networks.
#[derive(Parser)]
#[command(name = "afflux", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The config file; without it `config/afflux.toml`, and defaults if there is none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Takeover {
    /// Take the ports of the process that runs in the same data directory; it drains and ends. None runs: a start like any
    /// other.
    #[arg(long)]
    takeover: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Everything in one process, embedded storage, no server needed.
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        takeover: Takeover,
        /// Let a reload change terms that are in force or were.
        #[arg(long)]
        allow_changed_terms: bool,
    },
    /// Redirects and intake of one machine among many; what they write goes to Kafka.
    Edge {
        #[command(flatten)]
        config: ConfigFile,
        /// Let a reload change terms that are in force or were.
        #[arg(long)]
        allow_changed_terms: bool,
        #[command(flatten)]
        takeover: Takeover,
        /// Ship what lies in the spool directory, without listening, and end.
        #[arg(long, conflicts_with = "takeover")]
        drain_only: bool,
    },
    /// From Kafka to the books in PostgreSQL, by the touches in Redis.
    Attribution {
        #[command(flatten)]
        config: ConfigFile,
        /// Let a reload change terms that are in force or were.
        #[arg(long)]
        allow_changed_terms: bool,
    },
    /// Conversions and reports over the books in PostgreSQL.
    Console {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        takeover: Takeover,
    },
    /// Parse config and catalog, print the plan, start nothing.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Check this catalog instead of the configured one.
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
    },
    /// Decode and verify a click ID.
    Click {
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Read spool directories, also those of a dead machine.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Send kept records of a spool to Kafka again, from a number on. Readers drop those that they have.
    Reship {
        /// 16 hex digits.
        spool: String,
        #[arg(required_unless_present = "parked")]
        from: Option<u64>,
        /// Feed what is parked of it again instead, as a new spool.
        #[arg(long, conflicts_with = "from")]
        parked: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Go on behind a gap whose records nobody keeps any more. They never take effect.
    Pass {
        /// 16 hex digits.
        spool: String,
        first: u64,
        last: u64,
        /// Why they cannot be had back; kept with the books.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Also where attribution has not run beside the gap for ten minutes, so that the records may be only late.
        #[arg(long)]
        even_if_late: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make or check the topics in Kafka.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Count answered, spooled, consumed and attributed; name every gap.
    Reconcile(ConfigFile),
    /// Why a conversion earned whom how much: in words, then JSON.
    Explain {
        #[arg(required_unless_present = "order", allow_hyphen_values = true)]
        conversion: Option<String>,
        /// By MERCHANT/ORDER[/TYPE] instead of the conversion's ID.
        #[arg(long, value_name = "MERCHANT/ORDER[/TYPE]", conflicts_with = "conversion")]
        order: Option<String>,
        /// JSON alone.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Forget one visitor: their touches, and of their orders who bought. Money and reasons stay.
    Erase {
        /// The value of their cookie aff_vid.
        #[arg(required_unless_present_any = ["click", "order"], allow_hyphen_values = true)]
        visitor: Option<String>,
        /// By a click ID of theirs instead, as it stands in a link.
        #[arg(long, value_name = "ID", allow_hyphen_values = true, conflicts_with_all = ["visitor", "order"])]
        click: Option<String>,
        /// By an order of theirs instead.
        #[arg(long, value_name = "MERCHANT/ORDER[/TYPE]", conflicts_with = "visitor")]
        order: Option<String>,
        /// Count what would go, and change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print or verify the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// One line a spool: topic, state, records, bytes.
    Ls(SpoolDirectories),
    /// Every event still there, one JSON object a line, in order per spool.
    Cat(SpoolDirectories),
    /// Check every record; exit 1 and name the place on damage.
    Verify(SpoolDirectories),
}

#[derive(clap::Args)]
struct SpoolDirectories {
    /// Spool directories; without one the configured.
    directories: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Subcommand)]
enum TopicsCommand {
    /// Make those that are not there.
    Create(ConfigFile),
    /// A line a topic; exit 1 with what differs and the command that mends it.
    Check(ConfigFile),
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Every entry as canonical NDJSON.
    Cat {
        /// Only what was posted for facts received before this date or time.
        #[arg(long, value_name = "T")]
        as_of: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Verify every invariant.
    Check(ConfigFile),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where stdout or stderr is closed there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { role::Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Serve { config, takeover, allow_changed_terms } => {
            role::serve(config.config.as_deref(), allow_changed_terms, takeover.takeover)
        }
        Command::Edge { config, drain_only: true, .. } => role::drain_only(config.config.as_deref()),
        Command::Edge { config, takeover, allow_changed_terms, .. } => {
            role::edge(config.config.as_deref(), allow_changed_terms, takeover.takeover)
        }
        Command::Reship { spool, from: Some(from), config, .. } => role::reship(config.config.as_deref(), &spool, from),
        Command::Reship { spool, from: None, config, .. } => role::reship_parked(config.config.as_deref(), &spool),
        Command::Pass { spool, first, last, reason, even_if_late, config } => {
            role::pass(config.config.as_deref(), &spool, (first, last), &reason, even_if_late)
        }
        Command::Topics(TopicsCommand::Create(file)) => role::topics_create(file.config.as_deref()),
        Command::Topics(TopicsCommand::Check(file)) => role::topics_check(file.config.as_deref()),
        Command::Attribution { config, allow_changed_terms } => {
            role::attribution(config.config.as_deref(), allow_changed_terms)
        }
        Command::Console { config, takeover } => role::console(config.config.as_deref(), takeover.takeover),
        Command::Check { config, catalog } => role::check(config.config.as_deref(), catalog.as_deref()),
        Command::Click { id, config } => role::click(config.config.as_deref(), &id),
        Command::Spool(SpoolCommand::Ls(at)) => role::spool_ls(at.config.config.as_deref(), at.directories),
        Command::Spool(SpoolCommand::Cat(at)) => role::spool_cat(at.config.config.as_deref(), at.directories),
        Command::Spool(SpoolCommand::Verify(at)) => role::spool_verify(at.config.config.as_deref(), at.directories),
        Command::Reconcile(file) => role::reconcile(file.config.as_deref()),
        Command::Explain { conversion, order, json, config } => {
            role::explain(config.config.as_deref(), conversion.as_deref(), order.as_deref(), json)
        }
        Command::Erase { visitor, click, order, dry_run, config } => {
            let whom = role::Whom { visitor: visitor.as_deref(), click: click.as_deref(), order: order.as_deref() };
            role::erase(config.config.as_deref(), whom, dry_run)
        }
        Command::Ledger(LedgerCommand::Cat { as_of, config }) => {
            role::ledger_cat(config.config.as_deref(), as_of.as_deref())
        }
        Command::Ledger(LedgerCommand::Check(file)) => role::ledger_check(file.config.as_deref()),
    };
    role::report(result)
}
