//! Hosts of the web and buckets of S3, as the environment describes them (`AWS_*`): how they are asked, how often again, and what
//! their answers mean in plain words. Credentials stay out of tables and messages.

mod profile;

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, ReqwestConnector};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, RetryConfig};

use self::profile::Profile;

const CONNECT_TIMEOUT: &str = "5s";
/// Without a byte.
const READ_TIMEOUT: &str = "60s";
/// The same of a database, which is asked for many small things.
const TABLES_READ_TIMEOUT: &str = "30s";
/// A large archive takes as long as it takes.
const WHOLE_TIMEOUT: &str = "365days";

/// The store of whose errors the words are ours: a commit that is refused.
pub(crate) const REFUSED: &str = "bucket";

const NO_CREDENTIALS: &str = "S3 credentials are missing: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                              AWS_SKIP_SIGNATURE=true for a bucket that everybody may read";

const CERTIFICATES: &str = "nobody whom this machine trusts has signed its host's certificate; the package ca-certificates \
                            brings those that are usual, and SSL_CERT_FILE names a file of others";

/// Connections are kept, and shared by all hosts.
#[derive(Debug)]
pub(crate) struct Connected(HttpClient);

impl Connected {
    /// To whoever asks first, and all after him.
    pub(crate) fn shared() -> io::Result<Self> {
        client().map(Self)
    }
}

impl HttpConnector for Connected {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

fn client() -> io::Result<HttpClient> {
    static CLIENT: LazyLock<Result<HttpClient, String>> = LazyLock::new(|| {
        use_ring();
        let options = ClientOptions::new()
            .with_allow_http(true)
            .with_config(ClientConfigKey::Timeout, WHOLE_TIMEOUT)
            .with_config(ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT)
            .with_config(ClientConfigKey::ReadTimeout, READ_TIMEOUT);
        // a machine without certificates can still read what needs none
        let connect = |options| ReqwestConnector::default().connect(&options);
        let connected = connect(options.clone()).or_else(|_| connect(options.with_no_system_certificates(true)));
        connected.map_err(|error| Failure::of(&error).reason)
    });
    CLIENT.clone().map_err(io::Error::other)
}

/// A bucket of S3, or of what speaks like it, as the environment describes it.
pub(crate) fn bucket(name: &str) -> io::Result<AmazonS3> {
    bucket_within(name, WHOLE_TIMEOUT, READ_TIMEOUT, retries())
}

/// The same, for tables.
pub(crate) fn bucket_of_tables(name: &str) -> io::Result<AmazonS3> {
    bucket_within(name, WHOLE_TIMEOUT, TABLES_READ_TIMEOUT, retries())
}

/// The same; an answer that takes longer than this is none, and after that nothing is asked again.
pub(crate) fn prompt_bucket(name: &str, most: Duration) -> io::Result<AmazonS3> {
    let time = format!("{}ms", most.as_millis());
    bucket_within(name, &time, &time, RetryConfig { retry_timeout: most, ..retries() })
}

fn bucket_within(name: &str, whole: &str, read: &str, retries: RetryConfig) -> io::Result<AmazonS3> {
    use_ring();
    let host = endpoint();
    if !host.is_empty() && !["http://", "https://"].iter().any(|scheme| host.starts_with(scheme)) {
        return Err(io::Error::other(format!("AWS_ENDPOINT is '{host}': it begins with http:// or https://")));
    }
    let described = AmazonS3Builder::from_env();
    let described = match Profile::of_environment()? {
        Some(profile) => profile.complete(described)?,
        None => described,
    };
    let built = described
        .with_bucket_name(name)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), whole)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout), read)
        .with_retry(retries)
        .build();
    built.map_err(|error| io::Error::other(Failure::of(&error).reason))
}

/// The host that the environment names for buckets; empty where they are Amazon's.
pub(crate) fn endpoint() -> String {
    ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .or_else(|| Some(Profile::of_environment().ok()??.endpoint()?.to_owned()))
        .unwrap_or_default()
}

/// TLS by ring, where the program that holds this library has chosen nothing.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Five more attempts within some ten seconds, also of a stream that has run for hours.
pub(crate) fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5), base: 3.0 };
    RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_secs(7 * 24 * 3600) }
}

/// Why something was not read or written.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Nobody answers: it says nothing about the one file.
    pub(crate) lost: bool,
    pub(crate) missing: bool,
    /// Whoever asks may not do that.
    pub(crate) denied: bool,
    pub(crate) no_ranges: bool,
}

impl Failure {
    pub(crate) fn plain(reason: String) -> Self {
        Self { reason, lost: false, missing: false, denied: false, no_ranges: false }
    }

    pub(crate) fn of(error: &object_store::Error) -> Self {
        let (mut lost, mut last): (bool, &dyn std::error::Error) = (false, error);
        while let Some(source) = last.source() {
            use HttpErrorKind::{Connect, Interrupted, Request, Timeout};
            if let Some(error) = source.downcast_ref::<HttpError>() {
                lost |= matches!(error.kind(), Connect | Interrupted | Request | Timeout);
            }
            last = source;
        }
        let whole = error.to_string();
        // what lies deepest names no address, and an address may hold a signature
        let text = last.to_string();
        let lacks_key = whole.contains("Missing SecretAccessKey") || whole.contains("Missing AccessKeyId");
        let reason = if whole.contains("169.254.169.254") || lacks_key {
            NO_CREDENTIALS.into()
        } else if let Some(answer) = text.strip_prefix("Server returned non-2xx status code: ") {
            let (status, body) = answer.split_once(": ").unwrap_or((answer, ""));
            lost |= ["429", "503"].iter().any(|code| status.starts_with(code));
            let part = |name: &str| {
                let (_, rest) = body.split_once(&format!("<{name}>"))?;
                Some(rest.split_once(&format!("</{name}>"))?.0)
            };
            let said = part("Message").map(|said| format!(" ({said})")).unwrap_or_default();
            format!("the server answers {}{said}{}", status.trim_end_matches(':'), advice(status, part("Code")))
        } else if text.to_ascii_lowercase().contains("content-length") {
            "the server does not say how long it is: download it first".into()
        } else if ["invalid peer certificate", "No CA certificates"].iter().any(|start| text.starts_with(start)) {
            format!("{text}: {CERTIFICATES}")
        } else if text.contains("Received redirect without LOCATION") {
            "the bucket is in another region: AWS_REGION names it".into()
        } else if text.contains("URL scheme is not allowed") {
            "its address has no TLS: AWS_ALLOW_HTTP=true allows that".into()
        } else if lost {
            format!("no answer from its host ({text})")
        } else {
            text
        };
        let reason: String = reason.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect();
        let missing = matches!(error, object_store::Error::NotFound { .. });
        use object_store::Error::{NotSupported, PermissionDenied, Unauthenticated};
        Self {
            reason,
            lost,
            missing,
            denied: matches!(error, PermissionDenied { .. } | Unauthenticated { .. }),
            no_ranges: matches!(error, NotSupported { .. }),
        }
    }

    pub(crate) fn into_io(self) -> io::Error {
        let kind = if self.missing { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
        io::Error::new(kind, self.reason)
    }
}

/// What there is to do about an answer, by what S3 calls it.
fn advice(status: &str, code: Option<&str>) -> &'static str {
    match code.unwrap_or_default() {
        "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" => {
            ": the key has expired; get a new one (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN) and run this again"
        }
        "RequestTimeTooSkewed" | "RequestExpired" => ": the clock of this machine is wrong; set it, and run this again",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" => {
            ": AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN is not what the server knows"
        }
        "NoSuchBucket" => ": check the name of the bucket, and AWS_ENDPOINT and AWS_REGION, which say where it is",
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            ": AWS_REGION is not the bucket's"
        }
        _ if status.starts_with("403") || status.starts_with("401") => {
            ": the key that AWS_ACCESS_KEY_ID names may not do that in this bucket"
        }
        _ => "",
    }
}
