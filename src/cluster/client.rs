//! Queries of a session that a cluster runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use ballista_core::client::BallistaClient;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair, PartitionLocation,
    execute_query_result, job_status,
};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::config::ConfigOptions;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::transport::Channel;

use super::codec::Codec;
use super::configuration::{self, MESSAGE_BYTES, PLAN_BYTES};
use super::executor::connect;
use super::here::Here;
use super::plan::{check_banks, fitted, reads_tables};
use super::progress::{PROGRESS, Progress};
use super::security::Security;
use super::telling::told;
use crate::error::{Error, Result};
use crate::sql::planner::{BatchRowsExec, Elsewhere};
use crate::sql::session::Session;
use crate::store::Parts;

/// How often a query is asked for that an executor which went away has made fail.
const ATTEMPTS: usize = 3;
/// How long a program that ends tells the cluster so.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two looks at whether a query is done: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A cluster, as whoever asks it sees it.
#[derive(Clone)]
pub struct Client {
    scheduler: SchedulerGrpcClient<Channel>,
    security: Security,
    /// Queries of which the cluster is being told that nobody waits for them any more.
    ending: Arc<AtomicUsize>,
    watch: Arc<OnceLock<Box<Watch>>>,
}

/// Told how far a query is; without stages, that it is over.
type Watch = dyn Fn(&Progress) + Send + Sync;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Find the scheduler at `http://host:port`, `https://host:port` or `host:port`.
    ///
    /// Errors: it does not answer, or is of another version; the token is not the cluster's.
    pub async fn connect(scheduler: &str, security: &Security) -> Result<Self> {
        let mut client = connect(scheduler, security).await?;
        // a question about nothing: whether one is let in
        let asked = GetJobStatusParams { job_id: "none".into() };
        if let Err(status) = client.get_job_status(asked).await {
            let reason = match status.code() {
                tonic::Code::Unauthenticated | tonic::Code::FailedPrecondition => {
                    format!("{scheduler}: {}", status.message())
                }
                tonic::Code::Unimplemented => format!("{scheduler} is no scheduler of a cluster: is it an executor?"),
                _ => format!(
                    "{scheduler} is no scheduler of a cluster, or one with TLS, for which --tls-authority names who signed its \
                     certificate ({})",
                    status.message()
                ),
            };
            return Err(Error::Cluster { reason });
        }
        Ok(Self { scheduler: client, security: security.clone(), ending: Arc::default(), watch: Arc::default() })
    }

    /// Let the cluster run the queries of a session that read tables of the database, scans in so many parts at most, of
    /// so many rows at least. Everything else of the session stays here.
    pub fn attach(&self, session: &Session, parts: usize, rows: u64) {
        let client = self.clone();
        let state = session.context().state_ref();
        let mut state = state.write();
        let config = state.config_mut();
        configuration::restrict(config.options_mut(), parts);
        config.set_extension(Arc::new(Parts { most: parts, rows }));
        config.set_extension(Arc::new(Elsewhere::new(move |plan, state| {
            let mut settings: Vec<KeyValuePair> = state
                .config_options()
                .entries()
                .into_iter()
                .filter(|entry| configuration::travels(&entry.key))
                .filter_map(|entry| Some(KeyValuePair { key: entry.key, value: Some(entry.value?) }))
                .collect();
            if let Some(rows) = plan.downcast_ref::<BatchRowsExec>().map(BatchRowsExec::rows) {
                // all of its stages work in as small batches
                let key = "datafusion.execution.batch_size".to_owned();
                settings.push(KeyValuePair { key, value: Some(rows.to_string()) });
            }
            client.sent(plan, settings, state.config_options())
        })));
    }

    /// Be told how far each stage of a query is, whenever that is known anew, and, without stages, that it is over. Once only.
    pub fn watch(&self, watch: impl Fn(&Progress) + Send + Sync + 'static) {
        // a second watch is not an error: the first stays
        let _ = self.watch.set(Box::new(watch));
    }

    fn tell(&self, progress: &Progress) {
        if let Some(watch) = self.watch.get() {
            watch(progress);
        }
    }

    /// Wait until the cluster knows that nobody waits for what was asked, some seconds at most: a program that ends calls it.
    pub async fn settle(&self) {
        let start = Instant::now();
        while self.ending.load(Ordering::Relaxed) > 0 && start.elapsed() < SETTLE {
            tokio::time::sleep(LOOK.0).await;
        }
    }

    /// A plan that asks the cluster, where there is something to ask for.
    fn sent(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        settings: Vec<KeyValuePair>,
        options: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let is_shown = plan.downcast_ref::<ExplainExec>().is_some() || plan.downcast_ref::<AnalyzeExec>().is_some();
        if is_shown || !reads_tables(&plan)? {
            return Ok(plan);
        }
        if plan.downcast_ref::<DataSinkExec>().is_some() {
            // files are written here
            let inputs: Vec<_> = plan.children().into_iter().map(Arc::clone).collect();
            let inputs = inputs.into_iter().map(|input| self.sent(input, settings.clone(), options));
            let inputs = inputs.collect::<DataFusionResult<Vec<_>>>()?;
            return plan.with_new_children(inputs);
        }
        check_banks(&plan, options)?;
        let plan = fitted(plan)?;
        let mut bytes = Vec::new();
        let codec = Codec::new(&Here::new(0));
        PhysicalPlanNode::try_from_physical_plan(Arc::clone(&plan), &codec)?.try_encode(&mut bytes)?;
        if bytes.len() > PLAN_BYTES {
            let what = format!("a plan of {} bytes, more than {PLAN_BYTES}", bytes.len());
            return Err(Error::NotOnCluster { what }.into());
        }
        Ok(Arc::new(ClusterExec::new(plan, self.clone(), bytes, settings)))
    }

    /// Run an encoded plan: where the rows of each of its partitions are.
    async fn run(&self, plan: Vec<u8>, settings: Vec<KeyValuePair>) -> Result<(Job, Vec<PartitionLocation>)> {
        let mut scheduler = self.scheduler.clone();
        let mut attempt = 1;
        loop {
            let asked = ExecuteQueryParams {
                session_id: "outskirt".into(),
                settings: settings.clone(),
                operation_id: format!("{attempt}"),
                query: Some(Query::PhysicalPlan(plan.clone())),
            };
            let answer = scheduler.execute_query(asked).await.map_err(|status| lost(&status))?.into_inner();
            let job = match answer.result {
                Some(execute_query_result::Result::Success(made)) => Job::new(self, made.job_id),
                other => return Err(Error::Cluster { reason: format!("the cluster takes no query: {other:?}") }),
            };
            let done = job.done().await;
            self.tell(&Progress::default());
            match done? {
                Ok(locations) => return Ok((job, locations)),
                Err(failure) if attempt < ATTEMPTS && is_of_an_executor(&failure) => attempt += 1,
                Err(failure) => return Err(Error::Cluster { reason: said(&failure) }),
            }
        }
    }

    /// The rows of a partition, from the executor that has them.
    async fn fetch(&self, location: PartitionLocation) -> DataFusionResult<SendableRecordBatchStream> {
        let missing = || DataFusionError::Internal("a partition without its executor".into());
        let executor = location.executor_meta.ok_or_else(missing)?;
        let part = location.partition_id.ok_or_else(missing)?.into();
        let endpoint = Arc::new(BallistaConfigGrpcEndpoint::new(self.security.connects()));
        let client = BallistaClient::try_new(
            &executor.host,
            executor.port as u16,
            MESSAGE_BYTES,
            self.security.is_tls(),
            Some(endpoint),
            3,
            1000,
            64 << 20,
            16 << 20,
        );
        let gone = |error: &dyn fmt::Display| {
            let (host, port) = (&executor.host, executor.port);
            let reason = format!(
                "the executor at {host}:{port}, which has rows of this query, does not answer ({error}): run it again"
            );
            DataFusionError::from(Error::Cluster { reason })
        };
        let mut client = client.await.map_err(|error| gone(&error))?;
        let found =
            client.fetch_partition(&executor.id, &part, location.file_id, location.is_sort_shuffle, false).await;
        found.map_err(|error| gone(&error))
    }
}

/// The scheduler does not answer, or not with what was asked for.
fn lost(status: &tonic::Status) -> Error {
    let reason = match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
            "the scheduler of the cluster does not answer any more: start it again, and run this again".to_owned()
        }
        tonic::Code::ResourceExhausted => status.message().to_owned(),
        _ => format!("the cluster refuses this query: {}", status.message()),
    };
    Error::Cluster { reason }
}

/// Whether a failure says that an executor went away, rather than what is wrong with the query.
fn is_of_an_executor(failure: &str) -> bool {
    [
        "FetchFailed",
        "Fetch failed",
        "transport error",
        "Connection refused",
        "GrpcConnection",
        "tcp connect",
        "Failed to fetch",
        "ExecutorLost",
        "connection error",
        "BrokenPipe",
    ]
    .iter()
    .any(|word| failure.contains(word))
}

/// What failed, without what Ballista says around it.
fn said(failure: &str) -> String {
    told(failure).unwrap_or_else(|| {
        let line = failure.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("the cluster could not run this query: {line}")
    })
}

/// A query that a cluster runs; where nobody waits for it any more it is cancelled.
struct Job {
    client: Client,
    id: String,
    runtime: tokio::runtime::Handle,
    is_done: AtomicBool,
}

impl Job {
    fn new(client: &Client, id: String) -> Self {
        Self { client: client.clone(), id, runtime: tokio::runtime::Handle::current(), is_done: false.into() }
    }

    /// Where its rows are, or why it failed.
    ///
    /// Errors: a scheduler that does not answer, or does not know it any more.
    async fn done(&self) -> Result<std::result::Result<Vec<PartitionLocation>, String>> {
        let (mut wait, most) = LOOK;
        let (mut scheduler, mut unknown) = (self.client.scheduler.clone(), 0);
        loop {
            let asked = GetJobStatusParams { job_id: self.id.clone() };
            let answer = scheduler.get_job_status(asked).await.map_err(|status| lost(&status))?;
            let said = answer.metadata().get(PROGRESS).and_then(|said| said.to_str().ok());
            if let Some(progress) = said.map(Progress::read).filter(|progress| !progress.stages.is_empty()) {
                self.client.tell(&progress);
            }
            let answer = answer.into_inner();
            match answer.status.and_then(|status| status.status) {
                Some(job_status::Status::Successful(done)) => {
                    self.is_done.store(true, Ordering::Relaxed);
                    // of a part that was run twice the last one counts
                    let mut locations = std::collections::BTreeMap::new();
                    for location in done.partition_location {
                        let part = location.partition_id.as_ref().map_or(0, |part| part.partition_id);
                        locations.insert(part, location);
                    }
                    return Ok(Ok(locations.into_values().collect()));
                }
                Some(job_status::Status::Failed(failed)) => {
                    self.is_done.store(true, Ordering::Relaxed);
                    return Ok(Err(failed.error));
                }
                Some(_) => {}
                // a scheduler that was started anew knows nothing of it
                None if unknown > 20 => {
                    let reason =
                        "the scheduler of the cluster was started anew and knows nothing of this query: run it again";
                    return Err(Error::Cluster { reason: reason.into() });
                }
                None => unknown += 1,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 3 / 2).min(most);
        }
    }
}

/// One fewer when it is dropped.
struct Ends(Arc<AtomicUsize>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let (mut scheduler, job_id) = (self.client.scheduler.clone(), self.id.clone());
        let is_done = self.is_done.load(Ordering::Relaxed);
        let ending = Arc::clone(&self.client.ending);
        ending.fetch_add(1, Ordering::Relaxed);
        self.runtime.spawn(async move {
            let _ends = Ends(ending);
            if is_done {
                let _ = scheduler.clean_job_data(CleanJobDataParams { job_id, remove_stage_ids: Vec::new() }).await;
                return;
            }
            // one that comes before the query is planned is lost on Ballista
            for _ in 0..20 {
                let _ = scheduler.cancel_job(CancelJobParams { job_id: job_id.clone() }).await;
                let asked = GetJobStatusParams { job_id: job_id.clone() };
                let status =
                    scheduler.get_job_status(asked).await.ok().and_then(|answer| answer.into_inner().status?.status);
                if matches!(status, None | Some(job_status::Status::Failed(_) | job_status::Status::Successful(_))) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
}

/// Asks a cluster for the rows of a plan.
struct ClusterExec {
    /// As it was sent: what it reads stays pinned.
    plan: Arc<dyn ExecutionPlan>,
    client: Client,
    bytes: Vec<u8>,
    settings: Vec<KeyValuePair>,
    properties: Arc<PlanProperties>,
}

impl ClusterExec {
    fn new(plan: Arc<dyn ExecutionPlan>, client: Client, bytes: Vec<u8>, settings: Vec<KeyValuePair>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(plan.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { plan, client, bytes, settings, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for ClusterExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterExec").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl DisplayAs for ClusterExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterExec: {} bytes", self.bytes.len())
    }
}

impl ExecutionPlan for ClusterExec {
    fn name(&self) -> &'static str {
        "ClusterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (client, bytes, settings) = (self.client.clone(), self.bytes.clone(), self.settings.clone());
        let (schema, pinned) = (self.schema(), Arc::clone(&self.plan));
        let rows = async move {
            let (job, locations) = client.run(bytes, settings).await?;
            let rows = stream::iter(locations.into_iter().map(Ok)).and_then(move |location| {
                let client = client.clone();
                async move { client.fetch(location).await }
            });
            let rows = rows.try_flatten().map(move |batch| {
                let _held = (&job, &pinned);
                batch
            });
            Ok::<_, DataFusionError>(rows)
        };
        let own = Arc::clone(&schema);
        let rows = stream::once(rows).try_flatten().map(move |batch| {
            let batch: RecordBatch = batch?;
            Ok(batch.with_schema(Arc::clone(&own))?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
