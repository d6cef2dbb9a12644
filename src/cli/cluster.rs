//! `outskirt cluster`: the programs of a cluster, and how other commands reach one.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::console::{Console, advance};
use crate::cluster::{Client, Executor, ExecutorOptions, Progress, Scheduler, Security, SecurityFiles, Stage};
use crate::error::{Error, Result};
use crate::index::MemoryLimit;
use crate::sql::cancel;
use crate::sql::session::Session;
use crate::store::memory;

/// Run a scheduler or an executor of a cluster, for 'outskirt sql --cluster'
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Everybody of a cluster reaches the same database: s3://BUCKET/PATH with the AWS_… variables set for each executor, or a folder
that all of them have under one name; --db says nothing to a scheduler or an executor. All are of one version of outskirt.

Examples:
  outskirt cluster scheduler
  outskirt cluster executor --scheduler 127.0.0.1:50050 --slots 8
  outskirt --db s3://pets/shop.db sql --cluster 127.0.0.1:50050 \"SELECT avg(knn_ood_score(net, 'b')) FROM images\"")]
pub enum Command {
    /// Take queries, divide them into tasks, and hand these to executors
    Scheduler(SchedulerArgs),
    /// Run tasks of a scheduler
    Executor(ExecutorArgs),
}

/// Who may speak to whom
#[derive(Debug, clap::Args)]
pub struct SecurityArgs {
    /// A file with the cluster's token: 16 or more letters and digits, the same for all
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority's certificate (PEM) that signed those of the cluster: everything is TLS then
    #[arg(long, value_name = "FILE")]
    tls_authority: Option<PathBuf>,
}

/// The same, of those who listen
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    #[command(flatten)]
    security: SecurityArgs,
    /// This machine's certificate (PEM), for the name by which others reach it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl ServerArgs {
    fn read(self) -> Result<Security> {
        Security::read(&SecurityFiles {
            token: self.security.token_file,
            certificate: self.tls_certificate.zip(self.tls_key),
            authority: self.security.tls_authority,
        })
    }
}

/// Take queries, divide them into tasks, and hand these to executors
#[derive(Debug, clap::Args)]
pub struct SchedulerArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:50050", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    server: ServerArgs,
}

/// Run tasks of a scheduler
#[derive(Debug, clap::Args)]
pub struct ExecutorArgs {
    /// Where the scheduler listens: HOST:PORT, http://… or https://…
    #[arg(long, value_name = "URL")]
    scheduler: String,
    /// Where to listen for others who fetch what tasks gave; port 0 takes any that is free
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The name by which others reach this machine; the address without it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Tasks at once; the cores of this machine without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// What tasks and banks may take together, as 8GB; three quarters of the free memory without it
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemoryLimit>,
    /// The folder for what tasks give; removed at the end
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// A cluster that runs the queries of a command
#[derive(Debug, clap::Args)]
pub struct ClusterArgs {
    /// Let a cluster run the queries that read tables: where its scheduler listens
    #[arg(long, value_name = "URL")]
    cluster: Option<String>,
    /// Tasks that a scan is divided into, at most
    #[arg(long, default_value_t = 16, value_name = "N", requires = "cluster", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tasks: u32,
    #[command(flatten)]
    security: SecurityArgs,
}

impl ClusterArgs {
    /// Let the cluster run what this session asks, where one is named.
    pub(super) async fn attach(&self, session: &Session, console: &Console<'_>) -> Result<Option<Client>> {
        let client = self.connect(console).await?;
        if let Some(client) = &client {
            self.attach_to(client, session);
        }
        Ok(client)
    }

    /// Let the cluster run what this session asks.
    pub(super) fn attach_to(&self, client: &Client, session: &Session) {
        client.attach(session, self.tasks as usize, FEWEST_ROWS);
    }

    /// Find the cluster, where one is named; how far queries are is shown.
    pub(super) async fn connect(&self, console: &Console<'_>) -> Result<Option<Client>> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let files = SecurityFiles {
            token: self.security.token_file.clone(),
            authority: self.security.tls_authority.clone(),
            certificate: None,
        };
        let client = Client::connect(cluster, &Security::read(&files)?).await?;
        watch(&client, console);
        Ok(Some(client))
    }
}

/// Show how far a query is.
fn watch(client: &Client, console: &Console<'_>) {
    let bar = console.tasks();
    client.watch(move |Progress { stages, silent }| {
        if stages.is_empty() {
            return bar.finish_and_clear();
        }
        if bar.is_finished() {
            bar.reset();
        }
        let all = |of: fn(&Stage) -> u64| stages.iter().map(of).sum::<u64>() as usize;
        let over = stages.iter().filter(|stage| stage.done == stage.tasks).count();
        let running = all(|stage| stage.running);
        advance(&bar, all(|stage| stage.done), all(|stage| stage.tasks));
        let tasks = if running == 1 { "task" } else { "tasks" };
        let mut message =
            format!("stage {} of {}, {running} {tasks} at work", (over + 1).min(stages.len()), stages.len());
        for (address, seconds) in silent {
            message += &format!(", {address} silent for {seconds} s");
        }
        bar.set_message(message);
    });
}

/// Bytes that an executor needs.
const FEWEST_BYTES: u64 = 64_000_000;
/// Rows of which a task is worth its while.
const FEWEST_ROWS: u64 = 8192;

/// Do some work of a session with this cluster. Ctrl-C and SIGTERM end it, and what the cluster does for it.
///
/// Errors: those of the work; that it was ended.
pub(super) async fn with<T>(
    client: Option<Client>,
    session: &Session,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(client) = client else { return work.await };
    let done = cancel::unless(async { drop(stopped().await) }, session, work).await;
    client.settle().await;
    done.unwrap_or_else(|| Err(Error::Cluster { reason: "cancelled".into() }))
}

/// Do some work that asks a cluster. Ctrl-C and SIGTERM end it, and what the cluster does for it.
pub(super) async fn unless_stopped<T>(client: &Client, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::select! {
        biased;
        done = work => done,
        _ = stopped() => Err(Error::Cluster { reason: "cancelled".into() }),
    };
    client.settle().await;
    done
}

/// Wait until the cluster knows that nobody waits any more.
pub(super) async fn settle(client: Option<Client>) {
    if let Some(client) = client {
        client.settle().await;
    }
}

/// Until somebody says that it is enough.
async fn stopped() -> Result<()> {
    let failed = |source| Error::Io { action: "hear", path: "signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

pub(super) async fn run(command: Command, console: &mut Console<'_>) -> Result<()> {
    match command {
        Command::Scheduler(args) => {
            let scheduler = Scheduler::start(args.listen, &args.server.read()?).await?;
            console.notice(format!("the scheduler listens at {}", scheduler.address()))?;
            console.flush()?;
            stopped().await?;
            scheduler.stop().await;
        }
        Command::Executor(args) => {
            let slots = args.slots.map_or_else(
                || std::thread::available_parallelism().map_or(1, |cores| cores.get()),
                |slots| slots as usize,
            );
            let free = memory::available().unwrap_or(2 << 30);
            let memory = args.memory.and_then(|MemoryLimit(bytes)| bytes).unwrap_or(free / 4 * 3);
            let folder = args.cache.unwrap_or_else(|| std::env::temp_dir().join("outskirt-executor"));
            let host = match args.host {
                Some(host) => host,
                None if args.listen.ip().is_unspecified() => {
                    let reason = format!(
                        "{} is no address by which others reach this machine: --host names one",
                        args.listen.ip()
                    );
                    return Err(Error::Cluster { reason });
                }
                None => args.listen.ip().to_string(),
            };
            if memory < FEWEST_BYTES {
                let reason = format!("--memory {memory} bytes is too little for any task: 64MB is the least");
                return Err(Error::Cluster { reason });
            }
            let options = ExecutorOptions { listen: args.listen, host, slots, memory, folder };
            let executor = Executor::start(&args.scheduler, &options, &args.server.read()?).await?;
            console.notice(format!(
                "the executor listens at {}, slots: {slots}, memory: {:.1} GB",
                executor.address(),
                memory as f64 / 1e9
            ))?;
            console.flush()?;
            stopped().await?;
            executor.stop().await;
        }
    }
    Ok(())
}
