//! An executor: asks the scheduler for tasks, runs each part of a plan, keeps what it gives in files, and serves these to others.

use std::fs::File;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::extension::SessionConfigHelperExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::executor_grpc_server::{ExecutorGrpc, ExecutorGrpcServer};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, CleanJobDataParams, ExecutorRegistration, ExecutorStoppedParams, FailedTask,
    LaunchMultiTaskParams, LaunchMultiTaskResult, LaunchTaskParams, LaunchTaskResult, PollWorkParams, PollWorkResult,
    RemoveJobDataParams, RemoveJobDataResult, ShuffleWritePartition, StopExecutorParams, StopExecutorResult,
    SuccessfulTask, TaskDefinition, TaskStatus, task_status,
};
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification, PartitionId};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use ballista_executor::executor::Executor as Tasks;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::metrics::ExecutorMetricsCollector;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::FutureExt;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::codec::Codec;
use super::configuration::{self, MESSAGE_BYTES};
use super::here::Here;
use super::pages::{self, Gathers, Metrics};
use super::scheduler::POLL_NUMBER;
use super::security::{Security, why};
use super::telling::{Telling, marked, told};
use crate::error::{Error, Result};
use crate::index::{Instructions, MemoryLimit};
use crate::store::{CacheUse, cache_use};

/// What there is to see.
const ABOUT: &str = "An executor of outskirt.\n\n/metrics               for Prometheus\n";
/// The file of an executor's folder that it holds locked.
const OWNER: &str = "owner";
/// Bytes of a task's stack, as a program's main thread has them: plans are deep.
const STACK: usize = 8 << 20;
/// How long an executor without work waits before it asks again.
const IDLE: Duration = Duration::from_millis(50);
/// The same where the scheduler does not answer.
const UNANSWERED: Duration = Duration::from_secs(1);

/// How an executor runs.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The name by which others reach it.
    pub host: String,
    /// Tasks at once.
    pub slots: usize,
    /// Bytes that tasks and opened banks take together, about.
    pub memory: u64,
    /// The folder for what tasks give, removed at the end.
    pub folder: PathBuf,
}

/// An executor that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Executor {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    polls: tokio::task::JoinHandle<()>,
    serves: tokio::task::JoinHandle<std::result::Result<(), tonic::transport::Error>>,
    /// Of the tasks: however long they compute, the scheduler is asked, and others are answered.
    _threads: Threads,
    _folder: Folder,
}

/// A runtime that may be dropped anywhere.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A folder of one's own, removed with what is in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Held, so that others know that somebody is there.
    _lock: File,
}

impl Folder {
    /// A new one, beside those of others; what executors that were killed have left there is removed.
    fn create(beside: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(beside).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed(format!("cannot create {}", beside.display()), &error),
            _ => Error::io("create", beside)(error),
        })?;
        for folder in std::fs::read_dir(beside).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if File::open(folder.join(OWNER)).is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
        let path = beside.join(name);
        std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
        let owner = path.join(OWNER);
        let lock = File::create(&owner).map_err(Error::io("create", &owner))?;
        lock.try_lock().map_err(|error| Error::io("lock", &owner)(error.into()))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn failed(what: impl std::fmt::Display, error: &dyn std::fmt::Display) -> Error {
    Error::Cluster { reason: format!("{what}: {error}") }
}

/// `http://host:port`, or `https://`.
///
/// Errors: another scheme, no port, more than that; TLS without an authority.
fn address(scheduler: &str, security: &Security) -> Result<String> {
    let (scheme, rest) = scheduler.split_once("://").unwrap_or((security.scheme(), scheduler));
    let rest = rest.trim_end_matches('/');
    let bad = |what: &str| Err(Error::Cluster { reason: format!("{scheduler} is no address of a scheduler: {what}") });
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port || rest.contains(['/', '@', '?', '#']) {
        return bad("it is HOST:PORT, as 127.0.0.1:50050");
    }
    match (scheme, security.is_tls()) {
        ("http", false) | ("https", true) => Ok(format!("{scheme}://{rest}")),
        ("https", false) => bad("https:// takes --tls-authority, the certificate of who signed the cluster's"),
        ("http", true) => bad("with --tls-authority it is https://"),
        _ => bad("it begins with http:// or https://, or with neither"),
    }
}

/// A connection to a scheduler at `http://host:port`, or `https://`.
///
/// Errors: an address that is none, a scheduler that does not answer or does not let in.
pub(super) async fn connect(scheduler: &str, security: &Security) -> Result<SchedulerGrpcClient<Channel>> {
    let address = address(scheduler, security)?;
    let unreachable =
        |error: &dyn std::fmt::Display| failed(format!("no scheduler of a cluster is at {address}"), error);
    let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| unreachable(&error))?;
    let endpoint = (security.connects())(endpoint).map_err(|error| unreachable(&error))?;
    let channel = endpoint.connect().await.map_err(|error| unreachable(&why(&error)))?;
    Ok(SchedulerGrpcClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES))
}

impl Executor {
    /// Begin to ask a scheduler for work. A scheduler that goes away is asked again and again.
    ///
    /// Errors: a scheduler that does not answer now; an address that cannot be had, or that needs a token and TLS.
    pub async fn start(scheduler: &str, options: &ExecutorOptions, security: &Security) -> Result<Self> {
        security.check_address(options.listen)?;
        let mut client = connect(scheduler, security).await?;
        let id = name();
        let held = Folder::create(&options.folder, &id)?;
        let folder = held.path.clone();
        let work = folder.to_str().ok_or_else(|| Error::NotUtf8 { path: folder.clone() })?.to_owned();
        let listener = tokio::net::TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|error| failed(format!("cannot listen at {}", options.listen), &error))?;
        let address = listener.local_addr().map_err(|error| failed("no address", &error))?;
        let registration = ExecutorRegistration {
            id,
            host: Some(options.host.clone()),
            port: address.port().into(),
            grpc_port: address.port().into(),
            specification: Some(ExecutorSpecification::default().with_task_slots(options.slots as u32).into()),
            os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
        };
        let producer = configuration::producer(security);
        let state = configuration::state(producer())?;
        // half for what tasks gather, half for banks
        let half = options.memory / 2;
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(half as usize));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build_arc()?;
        let tasks = Arc::new(Tasks::new(
            registration,
            &work,
            Arc::new(move |_| Ok(Arc::clone(&runtime))),
            producer,
            Arc::new(BallistaFunctionRegistry::from(&state)),
            Arc::new(NoMetrics),
            options.slots,
            Arc::new(DefaultExecutionEngine::new()),
        ));
        let here = Here::new(half);
        let flight = arrow_flight::flight_service_server::FlightServiceServer::new(BallistaFlightService::new(work))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let mut builder = create_grpc_server(&GrpcServerConfig::default());
        if let Some(tls) = security.server()? {
            builder = builder.tls_config(tls).map_err(|error| failed("TLS", &error))?;
        }
        let tally = Arc::new(Tally::default());
        let gathers: Gathers = {
            let (tally, tasks, here) = (Arc::clone(&tally), Arc::clone(&tasks), Arc::clone(&here));
            let memory = options.memory;
            Arc::new(move || std::future::ready(tally.metrics(&tasks, &here, &pool, memory)).boxed())
        };
        let control = ExecutorGrpcServer::new(Control { tasks: Arc::clone(&tasks), folder: folder.clone() });
        let services = Routes::new(flight).add_service(control);
        let routes = pages::routes(services, security.guard(), gathers, axum::Router::new(), ABOUT);
        let router = builder.accept_http1(true).add_routes(routes);
        let (stop, stopped) = watch::channel(false);
        let mut ends = stopped.clone();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serves = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async move {
            let _ = ends.wait_for(|stop| *stop).await;
        }));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.enable_all().worker_threads(options.slots).thread_stack_size(STACK).thread_name("task");
        let runtime = runtime.build().map_err(|error| failed("no threads for tasks", &error))?;
        let runs = runtime.handle().clone();
        let threads = Threads(Some(runtime));
        let place = format!("{}:{}", options.host, address.port()).into();
        let codec = Arc::new(Codec::new(&here));
        let worker = Worker { tasks, runs, codec, memory: half, folder: folder.clone(), place, tally };
        // once without asking for anything: whether one is let in, and reached
        worker.join(&mut client, scheduler).await?;
        let polls = tokio::spawn(worker.ask(client, stopped));
        Ok(Self { address, stop, polls, serves, _threads: threads, _folder: held })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// End the tasks that it has, take no more, tell the scheduler, and remove what it kept.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut self.polls).await;
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.polls.abort();
        self.serves.abort();
    }
}

/// Of this process and moment alone.
fn name() -> String {
    use sha2::{Digest, Sha256};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:x}", Sha256::digest(format!("{boot} {} {now} {number}", std::process::id())))[..16].to_owned()
}

/// What tasks measured stays in their plans.
struct NoMetrics;

impl ExecutorMetricsCollector for NoMetrics {
    fn record_stage(&self, _: &JobId, _: usize, _: usize, _: Arc<dyn QueryStageExecutor>) {}
}

/// What the tasks of an executor have done.
#[derive(Debug, Default)]
struct Tally {
    running: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    rows_scored: AtomicU64,
    distances_estimated: AtomicU64,
    distances_computed: AtomicU64,
    rows_given: AtomicU64,
    bytes_given: AtomicU64,
}

impl Tally {
    /// One more task: what it gave and what its nodes have measured; `None` where it failed.
    fn count(&self, done: Option<(&[ShuffleWritePartition], &[MetricsSet])>) {
        let add = |to: &AtomicU64, more: u64| to.fetch_add(more, Ordering::Relaxed);
        let Some((given, measured)) = done else {
            add(&self.failed, 1);
            return;
        };
        let sum = |name: &str| {
            let values = measured.iter().filter_map(|of_node| of_node.sum_by_name(name));
            values.map(|value| value.as_usize() as u64).sum()
        };
        add(&self.done, 1);
        add(&self.rows_scored, sum("rows_scored"));
        add(&self.distances_estimated, sum("distances_estimated"));
        add(&self.distances_computed, sum("distances_computed"));
        add(&self.rows_given, given.iter().map(|part| part.num_rows).sum());
        add(&self.bytes_given, given.iter().map(|part| part.num_bytes).sum());
    }

    /// The text of `/metrics`.
    fn metrics(&self, tasks: &Tasks, here: &Here, pool: &Arc<dyn MemoryPool>, memory: u64) -> String {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let (banks, bank_bytes) = here.held();
        let CacheUse { found, fetched, bytes_fetched } = cache_use();
        let mut metrics = Metrics::default();
        metrics.counter(
            "outskirt_tasks_total",
            "Tasks, by how they ended.",
            &[("result=\"done\"", read(&self.done)), ("result=\"failed\"", read(&self.failed))],
        );
        metrics.gauge("outskirt_tasks_running", "Tasks that run now.", &[("", read(&self.running))]);
        metrics.gauge("outskirt_slots", "Tasks that may run at once.", &[("", tasks.concurrent_tasks as u64)]);
        metrics.counter(
            "outskirt_rows_scored_total",
            "Rows that knn_ood_score and is_ood were asked of.",
            &[("", read(&self.rows_scored))],
        );
        metrics.counter(
            "outskirt_distances_total",
            "Distances to rows of banks, in 8 bits and in f32.",
            &[
                ("step=\"estimated\"", read(&self.distances_estimated)),
                ("step=\"computed\"", read(&self.distances_computed)),
            ],
        );
        metrics.counter(
            "outskirt_given_rows_total",
            "Rows that tasks wrote for others.",
            &[("", read(&self.rows_given))],
        );
        metrics.counter(
            "outskirt_given_bytes_total",
            "Bytes that tasks wrote for others.",
            &[("", read(&self.bytes_given))],
        );
        metrics.counter(
            "outskirt_index_files_total",
            "Index files of buckets that were wanted, by where they were.",
            &[("from=\"cache\"", found), ("from=\"bucket\"", fetched)],
        );
        metrics.counter(
            "outskirt_index_fetched_bytes_total",
            "Bytes of index files that buckets gave.",
            &[("", bytes_fetched)],
        );
        metrics.gauge("outskirt_banks", "Banks that are open.", &[("", banks)]);
        metrics.gauge("outskirt_bank_bytes", "Bytes that opened banks hold.", &[("", bank_bytes)]);
        metrics.gauge(
            "outskirt_task_bytes",
            "Bytes that tasks hold of rows that they gather.",
            &[("", pool.reserved() as u64)],
        );
        metrics.gauge("outskirt_memory_limit_bytes", "Bytes that banks and tasks may hold together.", &[("", memory)]);
        metrics.process();
        metrics.text()
    }
}

/// Asks for tasks, and runs them.
struct Worker {
    tasks: Arc<Tasks>,
    runs: Handle,
    codec: Arc<Codec>,
    /// Bytes that a bank may take.
    memory: u64,
    folder: PathBuf,
    /// Where others find it.
    place: Arc<str>,
    tally: Arc<Tally>,
}

impl Worker {
    /// Ask for the first time, without a place for tasks.
    async fn join(&self, scheduler: &mut SchedulerGrpcClient<Channel>, address: &str) -> Result<()> {
        let asked =
            PollWorkParams { metadata: Some(self.tasks.metadata.clone()), num_free_slots: 0, task_status: Vec::new() };
        let mut request = Request::new(asked);
        request.metadata_mut().insert(POLL_NUMBER, 0_u64.into());
        match scheduler.poll_work(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(failed(format!("the scheduler at {address} takes no such executor"), &status.message())),
        }
    }

    /// Until it is stopped.
    async fn ask(self, mut scheduler: SchedulerGrpcClient<Channel>, mut stop: watch::Receiver<bool>) {
        let worker = Arc::new(self);
        let all = worker.tasks.concurrent_tasks;
        let slots = Arc::new(Semaphore::new(all));
        let (done, mut finished) = mpsc::unbounded_channel::<TaskStatus>();
        let (mut unsaid, mut number) = (Vec::new(), 0_u64);
        loop {
            while let Ok(status) = finished.try_recv() {
                unsaid.push(status);
            }
            if *stop.borrow() {
                let reason = String::from("it was stopped");
                let said = ExecutorStoppedParams { executor_id: worker.tasks.metadata.id.clone(), reason };
                let _ = scheduler.executor_stopped(said).await;
                return;
            }
            number += 1;
            let asked = PollWorkParams {
                metadata: Some(worker.tasks.metadata.clone()),
                num_free_slots: slots.available_permits() as u32,
                task_status: std::mem::take(&mut unsaid),
            };
            let answer = tokio::select! {
                answer = answered(&mut scheduler, &asked, number) => answer,
                _ = stop.wait_for(|stop| *stop) => continue,
            };
            answer.jobs_to_clean.iter().for_each(|job| clean(&worker.folder, job));
            let is_idle = answer.tasks.is_empty();
            for task in answer.tasks {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                let (worker, done) = (Arc::clone(&worker), done.clone());
                worker.runs.clone().spawn(async move {
                    // first that it is done, and then its place
                    let _ = done.send(worker.run(task).await);
                    drop(slot);
                });
            }
            if is_idle {
                tokio::select! {
                    Some(status) = finished.recv() => unsaid.push(status),
                    () = tokio::time::sleep(IDLE) => {}
                }
            }
        }
    }

    /// Run one part of a plan, and say how it ended.
    async fn run(&self, task: TaskDefinition) -> TaskStatus {
        let begun = milliseconds();
        self.tally.running.fetch_add(1, Ordering::Relaxed);
        let result = AssertUnwindSafe(self.result(&task)).catch_unwind().await;
        self.tally.running.fetch_sub(1, Ordering::Relaxed);
        let result = result.unwrap_or_else(|_| Err(BallistaError::General("a task panicked".into())));
        self.tally.count(result.as_ref().ok().map(|(given, measured)| (&given[..], &measured[..])));
        let (result, metrics) = match result {
            // what cannot be said in Ballista's words is left out
            Ok((given, measured)) => {
                let said = measured.into_iter().map(TryInto::try_into).collect::<std::result::Result<Vec<_>, _>>();
                (Ok(given), said.unwrap_or_default())
            }
            Err(error) => (Err(error), Vec::new()),
        };
        let status = match result {
            Ok(partitions) => task_status::Status::Successful(SuccessfulTask {
                executor_id: self.tasks.metadata.id.clone(),
                partitions,
            }),
            Err(error) => {
                let mut failed = FailedTask::from(error);
                // as people would say it, also on the pages of the scheduler
                failed.error = told(&failed.error).map_or(failed.error, |text| marked(&text));
                task_status::Status::Failed(failed)
            }
        };
        TaskStatus {
            task_id: task.task_id,
            job_id: task.job_id,
            stage_id: task.stage_id,
            stage_attempt_num: task.stage_attempt_num,
            partition_id: task.partition_id,
            launch_time: task.launch_time,
            start_exec_time: begun,
            end_exec_time: milliseconds(),
            metrics,
            status: Some(status),
        }
    }

    /// What a part of a plan gave, and what its nodes have measured.
    async fn result(
        &self,
        task: &TaskDefinition,
    ) -> std::result::Result<(Vec<ShuffleWritePartition>, Vec<MetricsSet>), BallistaError> {
        let part = PartitionId {
            job_id: JobId::new(task.job_id.clone()),
            stage_id: task.stage_id as usize,
            partition_id: task.partition_id as usize,
        };
        let (tasks, engine) = (&self.tasks, DefaultExecutionEngine::new());
        // what is the cluster's own stays as it is here
        let settings: Vec<_> =
            task.props.iter().filter(|setting| configuration::travels(&setting.key)).cloned().collect();
        let mut config = tasks.produce_config().update_from_key_value_pair(&settings);
        let options = config.options_mut();
        options.set("outskirt.instructions", Instructions::detect().name())?;
        options.set("outskirt.stale_bank", "ignore")?;
        // whoever asks may set less than there is here
        let asked = settings.iter().find(|setting| setting.key == "outskirt.memory_limit");
        let asked = asked.and_then(|setting| setting.value.as_ref()?.parse::<MemoryLimit>().ok()?.0);
        let most = asked.map_or(self.memory, |asked| asked.min(self.memory));
        options.set("outskirt.memory_limit", &MemoryLimit(Some(most)).to_string())?;
        let runtime = tasks.produce_runtime_for_session(&task.session_id, &config)?;
        let functions = &tasks.function_registry;
        let context = Arc::new(TaskContext::new(
            Some(format!("{}/{}/{}", task.job_id, task.stage_id, task.partition_id)),
            task.session_id.clone(),
            config,
            functions.scalar_functions.clone(),
            functions.higher_order_functions.clone(),
            functions.aggregate_functions.clone(),
            functions.window_functions.clone(),
            runtime,
        ));
        let plan = PhysicalPlanNode::try_decode(&task.plan)?.try_into_physical_plan(&context, &*self.codec)?;
        // the root writes what its input gives
        let inputs =
            plan.children().into_iter().map(|input| Arc::new(Telling::new(Arc::clone(input), &self.place)) as _);
        let inputs = inputs.collect();
        let plan = plan.with_new_children(inputs)?;
        let stage = engine.create_query_stage_exec(
            part.job_id.clone(),
            part.stage_id,
            part.partition_id,
            plan,
            &tasks.work_dir,
            context.session_config(),
        )?;
        let given = tasks.execute_query_stage(task.task_id as usize, part, Arc::clone(&stage), context).await?;
        Ok((given, stage.collect_plan_metrics()))
    }
}

/// The scheduler's answer to one poll, however often it is asked for it.
async fn answered(scheduler: &mut SchedulerGrpcClient<Channel>, asked: &PollWorkParams, number: u64) -> PollWorkResult {
    loop {
        let mut request = Request::new(asked.clone());
        request.metadata_mut().insert(POLL_NUMBER, number.into());
        match scheduler.poll_work(request).await {
            Ok(answer) => return answer.into_inner(),
            Err(_) => tokio::time::sleep(UNANSWERED).await,
        }
    }
}

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Remove what a job, or some stages of it, have left.
fn clean(folder: &Path, CleanJobDataParams { job_id, remove_stage_ids, .. }: &CleanJobDataParams) {
    // it comes over the network, and becomes a path
    if job_id.is_empty() || !job_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return;
    }
    let job = folder.join(job_id);
    if remove_stage_ids.is_empty() {
        let _ = std::fs::remove_dir_all(&job);
    }
    for stage in remove_stage_ids {
        let _ = std::fs::remove_dir_all(job.join(stage.to_string()));
    }
}

/// What the scheduler asks of an executor.
struct Control {
    tasks: Arc<Tasks>,
    folder: PathBuf,
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl ExecutorGrpc for Control {
    async fn launch_task(&self, _: Request<LaunchTaskParams>) -> Answer<LaunchTaskResult> {
        Err(Status::unimplemented("executors ask for work"))
    }

    async fn launch_multi_task(&self, _: Request<LaunchMultiTaskParams>) -> Answer<LaunchMultiTaskResult> {
        Err(Status::unimplemented("executors ask for work"))
    }

    /// It is sent to those that were silent: they ask for work again.
    async fn stop_executor(&self, _: Request<StopExecutorParams>) -> Answer<StopExecutorResult> {
        Ok(Response::new(StopExecutorResult {}))
    }

    async fn cancel_tasks(&self, request: Request<CancelTasksParams>) -> Answer<CancelTasksResult> {
        let mut cancelled = true;
        for task in request.into_inner().task_infos {
            let (job, stage, part) = (JobId::new(task.job_id), task.stage_id as usize, task.partition_id as usize);
            cancelled &= self.tasks.cancel_task(task.task_id as usize, job, stage, part).await.unwrap_or(false);
        }
        Ok(Response::new(CancelTasksResult { cancelled }))
    }

    async fn remove_job_data(&self, request: Request<RemoveJobDataParams>) -> Answer<RemoveJobDataResult> {
        let RemoveJobDataParams { job_id, remove_stage_ids } = request.into_inner();
        clean(&self.folder, &CleanJobDataParams { job_id, remove_stage_ids });
        Ok(Response::new(RemoveJobDataResult {}))
    }
}
