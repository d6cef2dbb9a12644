//! The scheduler: takes plans, divides them into stages, and hands tasks to the executors that ask for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::JobId;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::extension::EndpointOverrideFn;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStoppedParams, ExecutorStoppedResult,
    GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult, HeartBeatParams, HeartBeatResult,
    JobStatus, PollWorkParams, PollWorkResult, RegisterExecutorParams, RegisterExecutorResult, RemoveSessionParams,
    RemoveSessionResult, UpdateTaskStatusParams, UpdateTaskStatusResult, job_status, task_status,
};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::metrics::SchedulerMetricsCollector;
use ballista_scheduler::scheduler_server::{SchedulerServer, SessionBuilder};
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion_proto::logical_plan::DefaultLogicalExtensionCodec;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::FutureExt;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::codec::Codec;
use super::configuration::{self, MESSAGE_BYTES, PLAN_BYTES};
use super::here::Here;
use super::pages::{self, Gathers, Metrics};
use super::progress::{PROGRESS, Progress, Stage};
use super::security::{Security, why};
use crate::error::{Error, Result};

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// An executor that has not asked for work for so long is taken for dead.
const SILENT: Duration = Duration::from_secs(20);
/// One that has not for so long is named to whoever waits.
const MISSED: Duration = Duration::from_secs(5);
/// How long it may take to reach a new one.
const REACHED: Duration = Duration::from_secs(5);
/// A query that nobody has asked about for so long is cancelled.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// The poll of an executor, numbered so that one whose answer was lost is answered again and not done again.
pub(super) const POLL_NUMBER: &str = "x-poll-number";

/// What there is to see.
const ABOUT: &str = "A scheduler of outskirt.\n\n/metrics               for Prometheus\n/api/executors         who computes\n/api/jobs              queries\n/api/job/ID/stages     how far one is\n";

/// A scheduler that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Scheduler {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<std::result::Result<(), tonic::transport::Error>>,
    forgets: tokio::task::JoinHandle<()>,
}

impl Scheduler {
    /// Listen at an address; port 0 takes any that is free.
    ///
    /// Errors: an address that cannot be had, or that needs a token and TLS.
    pub async fn start(address: SocketAddr, security: &Security) -> Result<Self> {
        security.check_address(address)?;
        let failed = |what: &str, error: &dyn std::fmt::Display| Error::Cluster { reason: format!("{what}: {error}") };
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|error| failed(&format!("cannot listen at {address}"), &error))?;
        let address = listener.local_addr().map_err(|error| failed("no address", &error))?;
        let producer = configuration::producer(security);
        let session: SessionBuilder =
            Arc::new(|config| configuration::state(config).map_err(|error| DataFusionError::External(Box::new(error))));
        let config = Arc::new(SchedulerConfig {
            external_host: address.ip().to_string(),
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            executor_timeout_seconds: SILENT.as_secs(),
            expire_dead_executor_interval_seconds: 2,
            finished_job_state_clean_up_interval_seconds: 600,
            override_config_producer: Some(Arc::clone(&producer)),
            override_session_builder: Some(Arc::clone(&session)),
            override_create_grpc_client_endpoint: Some(security.connects()),
            // of pages of others, none
            cors_allowed_origins: format!("{}://{address}", security.scheme()),
            ..SchedulerConfig::default()
        });
        let cluster = BallistaCluster::new_memory(config.scheduler_name(), session, producer);
        let codec = BallistaCodec::new(Arc::new(DefaultLogicalExtensionCodec {}), Arc::new(Codec::new(&Here::new(0))));
        let queries = Arc::new(Queries::default());
        let mut server: Server =
            SchedulerServer::new(config.scheduler_name(), cluster, codec, config, Arc::clone(&queries) as _);
        server.init().await.map_err(|error| failed("the scheduler does not start", &error))?;
        let asked = Arc::default();
        let forgets = tokio::spawn(forget(server.clone(), Arc::clone(&asked)));
        let api = ballista_scheduler::api::get_routes(Arc::new(server.clone()));
        let polls = Arc::default();
        let gathers: Gathers = {
            let (server, polls) = (server.clone(), Arc::clone(&polls));
            Arc::new(move || metrics(server.clone(), Arc::clone(&queries), Arc::clone(&polls)).boxed())
        };
        let service = SchedulerGrpcServer::new(Checked { inner: server, connects: security.connects(), polls, asked })
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let routes = pages::routes(Routes::new(service), security.guard(), gathers, api, ABOUT);
        let mut builder = create_grpc_server(&GrpcServerConfig::default());
        if let Some(tls) = security.server()? {
            builder = builder.tls_config(tls).map_err(|error| failed("TLS", &error))?;
        }
        let router = builder.accept_http1(true).add_routes(routes);
        let (stop, stopped) = oneshot::channel();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let ended = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
            let _ = stopped.await;
        }));
        Ok(Self { address, stop: Some(stop), ended, forgets })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Take no more connections, and end.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // clients may keep theirs open
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.ended).await;
        self.ended.abort();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.forgets.abort();
        self.ended.abort();
    }
}

/// The number of an executor's last poll, and its answer.
type LastPoll = Arc<tokio::sync::Mutex<Option<(u64, PollWorkResult)>>>;

/// An executor that asks for work.
struct Asking {
    /// Where others reach it.
    place: String,
    /// When it asked last.
    polled: Instant,
    last: LastPoll,
}

/// Executors by their ids.
type Polls = Arc<Mutex<HashMap<String, Asking>>>;

/// Ballista's scheduler, behind what it does not check itself.
struct Checked {
    inner: Server,
    /// How executors are spoken to.
    connects: EndpointOverrideFn,
    polls: Polls,
    /// Queries that are not done, and when somebody asked about each.
    asked: Arc<Mutex<HashMap<String, Instant>>>,
}

/// What became of all queries.
#[derive(Default)]
struct Queries {
    taken: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl SchedulerMetricsCollector for Queries {
    fn record_submitted(&self, _: &JobId, _: u64, _: u64) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn record_completed(&self, _: &JobId, _: u64, _: u64) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn record_failed(&self, _: &JobId, _: u64, _: u64) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn record_cancelled(&self, _: &JobId) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    fn set_pending_tasks_queue_size(&self, _: u64) {}

    fn gather_metrics(&self) -> ballista_core::error::Result<Option<(Vec<u8>, String)>> {
        Ok(None)
    }
}

/// The text of `/metrics`.
async fn metrics(server: Server, queries: Arc<Queries>, polls: Polls) -> String {
    let executors = {
        let polls = polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.values().filter(|asking| asking.polled.elapsed() < SILENT).count()
    };
    let (mut waiting, mut running, mut done) = (0, 0, 0);
    for job in server.state.task_manager.get_running_job_cache().values() {
        for stage in stages(job).await {
            (waiting, running, done) =
                (waiting + stage.tasks - stage.running - stage.done, running + stage.running, done + stage.done);
        }
    }
    let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let mut metrics = Metrics::default();
    metrics.gauge("outskirt_executors", "Executors that ask for work.", &[("", executors as u64)]);
    metrics.counter(
        "outskirt_queries_total",
        "Queries, by what became of them.",
        &[
            ("result=\"done\"", read(&queries.done)),
            ("result=\"failed\"", read(&queries.failed)),
            ("result=\"cancelled\"", read(&queries.cancelled)),
        ],
    );
    metrics.counter(
        "outskirt_queries_taken_total",
        "Queries that were divided into tasks.",
        &[("", read(&queries.taken))],
    );
    metrics.gauge(
        "outskirt_tasks",
        "Tasks of queries that run now.",
        &[("state=\"waiting\"", waiting), ("state=\"running\"", running), ("state=\"done\"", done)],
    );
    metrics.process();
    metrics.text()
}

/// How far each stage of a query is, in the order in which they run.
async fn stages(job: &JobInfoCache) -> Vec<Stage> {
    let graph = job.execution_graph.read().await;
    let mut stages: Vec<Stage> = graph.stages().values().map(stage).collect();
    stages.sort_unstable_by_key(|stage| stage.number);
    stages
}

fn stage(stage: &ExecutionStage) -> Stage {
    // how many tasks one has whose input is not there yet may change
    let (number, tasks) = match stage {
        ExecutionStage::UnResolved(stage) => (stage.stage_id, stage.plan.output_partitioning().partition_count()),
        ExecutionStage::Resolved(stage) => (stage.stage_id, stage.partitions),
        ExecutionStage::Running(stage) => (stage.stage_id, stage.partitions),
        ExecutionStage::Successful(stage) => (stage.stage_id, stage.partitions),
        ExecutionStage::Failed(stage) => (stage.stage_id, stage.partitions),
    };
    let (done, running) = match stage {
        ExecutionStage::Successful(_) => (tasks, 0),
        ExecutionStage::Running(stage) => {
            let given = stage.task_infos.iter().flatten();
            let (done, running): (Vec<_>, Vec<_>) =
                given.partition(|task| matches!(task.task_status, task_status::Status::Successful(_)));
            (done.len(), running.len())
        }
        _ => (0, 0),
    };
    Stage { number: number as u64, tasks: tasks as u64, running: running as u64, done: done as u64 }
}

/// Cancel, for ever, what nobody asks about any more.
async fn forget(server: Server, asked: Arc<Mutex<HashMap<String, Instant>>>) {
    loop {
        tokio::time::sleep(FORGOTTEN / 5).await;
        let forgotten: Vec<String> = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let forgotten = asked.iter().filter(|(_, at)| at.elapsed() > FORGOTTEN).map(|(job, _)| job.clone());
            let forgotten: Vec<String> = forgotten.collect();
            asked.retain(|job, _| !forgotten.contains(job));
            forgotten
        };
        for job_id in forgotten {
            let _ = SchedulerGrpc::cancel_job(&server, Request::new(CancelJobParams { job_id })).await;
        }
    }
}

impl Checked {
    fn polls(&self) -> MutexGuard<'_, HashMap<String, Asking>> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speak with an executor, as others will.
    async fn reach(&self, place: &str) -> std::result::Result<(), String> {
        let endpoint = Endpoint::from_shared(format!("http://{place}")).map_err(|error| error.to_string())?;
        let endpoint = (self.connects)(endpoint).map_err(|error| error.to_string())?;
        match tokio::time::timeout(REACHED, endpoint.connect()).await {
            Ok(connected) => connected.map(|_| ()).map_err(|error| why(&error)),
            Err(_) => Err(format!("no answer within {} s", REACHED.as_secs())),
        }
    }

    /// Executors that do not ask any more, and are not given up yet.
    fn silent(&self) -> Vec<(String, u64)> {
        let polls = self.polls();
        let silent = polls.values().map(|asking| (asking.place.clone(), asking.polled.elapsed()));
        silent
            .filter(|(_, time)| (MISSED..SILENT).contains(time))
            .map(|(place, time)| (place, time.as_secs()))
            .collect()
    }

    /// Refuse to wait for executors of which there are none.
    fn check_executors(&self) -> std::result::Result<(), Status> {
        if self.polls().values().any(|asking| asking.polled.elapsed() < SILENT) {
            return Ok(());
        }
        Err(Status::resource_exhausted(
            "the cluster has no executor at the moment: 'outskirt cluster executor --scheduler HOST:PORT' starts one",
        ))
    }
}

type Answer<T> = std::result::Result<Response<T>, Status>;

#[tonic::async_trait]
impl SchedulerGrpc for Checked {
    type ExecuteQueryPushStream = <Server as SchedulerGrpc>::ExecuteQueryPushStream;

    async fn poll_work(&self, request: Request<PollWorkParams>) -> Answer<PollWorkResult> {
        let number = request.metadata().get(POLL_NUMBER).and_then(|number| number.to_str().ok()?.parse::<u64>().ok());
        let about = request.get_ref().metadata.as_ref();
        // without one of these Ballista panics
        let about =
            about.filter(|about| about.host.is_some() && about.specification.is_some() && about.os_info.is_some());
        let (Some(number), Some(about)) = (number, about) else {
            return Err(Status::invalid_argument("this is no executor of outskirt's"));
        };
        let place = format!("{}:{}", about.host.as_deref().unwrap_or_default(), about.port);
        let last = {
            let mut polls = self.polls();
            // those that are gone come back as others
            polls.retain(|_, asking| asking.polled.elapsed() < 10 * SILENT);
            let new = || Asking { place: place.clone(), polled: Instant::now(), last: LastPoll::default() };
            let asking = polls.entry(about.id.clone()).or_insert_with(new);
            asking.polled = Instant::now();
            Arc::clone(&asking.last)
        };
        let inner = self.inner.clone();
        if number == 0 {
            // the first one: others must be able to fetch what its tasks give
            if let Err(reason) = self.reach(&place).await {
                self.polls().remove(&about.id);
                return Err(Status::failed_precondition(format!(
                    "it cannot be reached at {place}: {reason}; --host names it as others reach it, and as its certificate has it, and \
                     --listen where it listens"
                )));
            }
        }
        // on a task of its own: an executor that hangs up must not stop it half way
        let answered = tokio::spawn(async move {
            let mut last = last.lock().await;
            if let Some((_, answer)) = last.as_ref().filter(|(known, _)| *known == number) {
                return Ok(answer.clone());
            }
            let answer = SchedulerGrpc::poll_work(&inner, request).await?.into_inner();
            *last = Some((number, answer.clone()));
            Ok(answer)
        });
        answered.await.map_err(|error| Status::internal(error.to_string()))?.map(Response::new)
    }

    async fn execute_query(&self, mut request: Request<ExecuteQueryParams>) -> Answer<ExecuteQueryResult> {
        use ballista_core::serde::protobuf::execute_query_params::Query;
        self.check_executors()?;
        let asked = request.get_mut();
        match &asked.query {
            Some(Query::PhysicalPlan(plan)) if plan.len() <= PLAN_BYTES => {}
            Some(Query::PhysicalPlan(_)) => return Err(Status::invalid_argument("the plan is too large")),
            _ => return Err(Status::invalid_argument("a physical plan is wanted")),
        }
        asked.settings.retain(|setting| configuration::travels(&setting.key));
        let answer = SchedulerGrpc::execute_query(&self.inner, request).await?;
        if let Some(ballista_core::serde::protobuf::execute_query_result::Result::Success(made)) =
            &answer.get_ref().result
        {
            self.asked().insert(made.job_id.clone(), Instant::now());
        }
        Ok(answer)
    }

    async fn execute_query_push(&self, _: Request<ExecuteQueryParams>) -> Answer<Self::ExecuteQueryPushStream> {
        Err(Status::unimplemented("a query is asked for by its number"))
    }

    async fn register_executor(&self, _: Request<RegisterExecutorParams>) -> Answer<RegisterExecutorResult> {
        Err(Status::unimplemented("executors ask for work"))
    }

    async fn heart_beat_from_executor(&self, _: Request<HeartBeatParams>) -> Answer<HeartBeatResult> {
        Err(Status::unimplemented("executors ask for work"))
    }

    async fn update_task_status(&self, _: Request<UpdateTaskStatusParams>) -> Answer<UpdateTaskStatusResult> {
        Err(Status::unimplemented("executors ask for work"))
    }

    async fn create_update_session(
        &self,
        request: Request<CreateUpdateSessionParams>,
    ) -> Answer<CreateUpdateSessionResult> {
        SchedulerGrpc::create_update_session(&self.inner, request).await
    }

    async fn remove_session(&self, request: Request<RemoveSessionParams>) -> Answer<RemoveSessionResult> {
        SchedulerGrpc::remove_session(&self.inner, request).await
    }

    async fn get_job_status(&self, request: Request<GetJobStatusParams>) -> Answer<GetJobStatusResult> {
        let job = request.get_ref().job_id.clone();
        let mut answer = SchedulerGrpc::get_job_status(&self.inner, request).await?;
        let running = self.inner.state.task_manager.get_running_job_cache();
        if let Some(cached) = running.get(&JobId::new(job.clone()))
            && let Ok(said) = (Progress { stages: stages(cached).await, silent: self.silent() }).said().parse()
        {
            answer.metadata_mut().insert(PROGRESS, said);
        }
        let is_over = |status: &JobStatus| {
            matches!(status.status, Some(job_status::Status::Successful(_) | job_status::Status::Failed(_)))
        };
        if answer.get_ref().status.as_ref().is_some_and(|status| !is_over(status)) {
            if let Some(at) = self.asked().get_mut(&job) {
                *at = Instant::now();
            }
            self.check_executors()?;
        } else {
            self.asked().remove(&job);
        }
        Ok(answer)
    }

    async fn get_job_metrics(&self, request: Request<GetJobMetricsParams>) -> Answer<GetJobMetricsResult> {
        SchedulerGrpc::get_job_metrics(&self.inner, request).await
    }

    async fn executor_stopped(&self, request: Request<ExecutorStoppedParams>) -> Answer<ExecutorStoppedResult> {
        self.polls().remove(&request.get_ref().executor_id);
        SchedulerGrpc::executor_stopped(&self.inner, request).await
    }

    async fn cancel_job(&self, request: Request<CancelJobParams>) -> Answer<CancelJobResult> {
        SchedulerGrpc::cancel_job(&self.inner, request).await
    }

    async fn clean_job_data(&self, request: Request<CleanJobDataParams>) -> Answer<CleanJobDataResult> {
        SchedulerGrpc::clean_job_data(&self.inner, request).await
    }
}
