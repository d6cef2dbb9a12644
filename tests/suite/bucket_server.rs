//! A bucket that runs in the test: objects that are put, listed and removed as S3 does it, and faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    written: SystemTime,
}

impl Object {
    fn tag(&self) -> String {
        format!("\"{:.32x}\"", Sha256::digest(&self.bytes))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is not done, and so it is answered.
    Refused(u16),
    /// The same with 403: what S3 calls it, and says.
    Denied(&'static str, &'static str),
    /// It is done, and nobody is told.
    Lost,
    /// Half of the answer.
    Cut,
    /// It is done after a while.
    Slow(Duration),
}

#[derive(Default)]
pub struct Site {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    /// Method, a part of the path, how many more times, what.
    pub faults: Vec<(&'static str, String, usize, Fault)>,
    /// Methods and targets so far.
    pub log: Vec<String>,
    /// How far the clock goes before that of the machine, in seconds.
    pub ahead: i64,
    /// Requests so far that change something.
    changes: usize,
    /// At so many of them nothing more is changed, nor answered that would; whether that one is done still.
    stop: Option<(usize, bool)>,
}

/// What a bucket holds.
pub struct Held(BTreeMap<String, Object>);

/// A running server, which ends with the test's process.
pub struct BucketServer {
    /// `http://127.0.0.1:port`.
    pub url: String,
    pub site: Arc<Mutex<Site>>,
}

impl BucketServer {
    pub fn start() -> Self {
        let site = Arc::new(Mutex::new(Site::default()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&site);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // else what is written in two parts waits 40 ms for the client
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&shared);
                // a client that hangs up is none of our business
                std::thread::spawn(move || while matches!(serve(&stream, &shared), Ok(true)) {});
            }
        });
        Self { url, site }
    }

    /// The keys that there are.
    pub fn keys(&self) -> Vec<String> {
        self.site.lock().unwrap().objects.keys().cloned().collect()
    }

    /// From now on, so many times.
    pub fn fails(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.site.lock().unwrap().faults.push((method, path.into(), times, fault));
    }

    /// What there is.
    pub fn held(&self) -> Held {
        Held(self.site.lock().unwrap().objects.clone())
    }

    /// Hold this, and nothing else. Requests that change something are counted from here.
    pub fn hold(&self, held: &Held) {
        let mut site = self.site.lock().unwrap();
        site.objects = held.0.clone();
        (site.changes, site.stop) = (0, None);
    }

    /// Be silent from the request on that is the n-th to change something; whether that one is done.
    pub fn stops_at(&self, request: usize, is_done: bool) {
        self.site.lock().unwrap().stop = Some((request, is_done));
    }

    /// Whether it is silent; and requests so far that change something.
    pub fn changes(&self) -> (bool, usize) {
        let site = self.site.lock().unwrap();
        (site.is_stopped(), site.changes)
    }

    pub fn goes_on(&self) {
        self.site.lock().unwrap().stop = None;
    }

    pub fn requests(&self, part: &str) -> usize {
        self.site.lock().unwrap().log.iter().filter(|line| line.contains(part)).count()
    }
}

struct Request {
    method: String,
    /// `/bucket/key`.
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Option<Self>> {
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (decoded(path), query.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { method, path, query, headers, body }))
    }

    fn value(&self, name: &str) -> Option<String> {
        let mut parts = self.query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
        parts.find(|(known, _)| *known == name).map(|(_, value)| decoded(value))
    }
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (byte, _) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Of what is asked without its body.
    length: usize,
}

impl Answer {
    fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: body.len(), body }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request; whether the connection stays.
fn serve(mut stream: &TcpStream, site: &Mutex<Site>) -> std::io::Result<bool> {
    let Some(request) = Request::read(stream)? else { return Ok(false) };
    let fault = {
        let mut site = site.lock().unwrap();
        site.log.push(format!("{} {}?{}", request.method, request.path, request.query));
        let wanted = site.faults.iter_mut().find(|(method, path, times, _)| {
            *times > 0
                && request.method == *method
                && format!("{}?{}", request.path, request.query).contains(path.as_str())
        });
        wanted.map(|(_, _, times, fault)| {
            *times -= 1;
            *fault
        })
    };
    if let Some(Fault::Slow(time)) = fault {
        std::thread::sleep(time);
    }
    if request.method != "GET" && request.method != "HEAD" {
        let is_silent = {
            let mut site = site.lock().unwrap();
            site.changes += 1;
            if site.stop == Some((site.changes, true)) {
                site.answer(&request);
            }
            site.is_stopped()
        };
        if is_silent {
            while site.lock().unwrap().is_stopped() {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Ok(false);
        }
    }
    let answer = match fault {
        Some(Fault::Refused(status)) => Answer::of(status, "<Error><Code>X</Code><Message>not now</Message></Error>"),
        Some(Fault::Denied(code, said)) => {
            Answer::of(403, format!("<Error><Code>{code}</Code><Message>{said}</Message></Error>"))
        }
        _ => site.lock().unwrap().answer(&request),
    };
    if let Some(Fault::Lost) = fault {
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, answer.length);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if let Some(Fault::Cut) = fault {
        stream.write_all(&answer.body[..answer.body.len() / 2])?;
        return Ok(false);
    }
    stream.write_all(&answer.body)?;
    Ok(true)
}

impl Site {
    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|(at, _)| self.changes >= at)
    }

    fn put(&mut self, key: String, bytes: Vec<u8>) -> Answer {
        let ahead = Duration::from_secs(self.ahead.unsigned_abs());
        let now = SystemTime::now();
        let written = if self.ahead < 0 { now - ahead } else { now + ahead };
        let object = Object { bytes, written };
        let tag = object.tag();
        self.objects.insert(key, object);
        Answer::of(200, "").with("ETag", tag)
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let Request { method, path, headers, body, .. } = request;
        let missing =
            || Answer::of(404, "<Error><Code>NoSuchKey</Code><Message>there is no such key</Message></Error>");
        let (upload, is_listing) = (request.value("uploadId"), request.value("list-type").is_some());
        match (method.as_str(), upload) {
            ("GET", _) if is_listing => Answer::of(200, self.listing(request)),
            ("POST", _) if request.value("delete").is_some() => {
                let bucket = path.trim_end_matches('/');
                let text = String::from_utf8_lossy(body).into_owned();
                let mut said = String::from("<DeleteResult>");
                for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                    self.objects.remove(&format!("{bucket}/{}", unescaped(key)));
                    said += &format!("<Deleted><Key>{key}</Key></Deleted>");
                }
                Answer::of(200, said + "</DeleteResult>")
            }
            ("POST", _) if request.value("uploads").is_some() => {
                let upload = format!("upload-{}", self.uploads.len());
                self.uploads.insert(upload.clone(), BTreeMap::new());
                Answer::of(200, format!("<R><Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId></R>"))
            }
            ("PUT", Some(upload)) => {
                let number = request.value("partNumber").unwrap().parse().unwrap();
                self.uploads.get_mut(&upload).unwrap().insert(number, body.clone());
                Answer::of(200, "").with("ETag", format!("\"{number}\""))
            }
            ("POST", Some(upload)) => {
                let bytes: Vec<u8> = self.uploads.remove(&upload).unwrap_or_default().into_values().flatten().collect();
                self.put(path.clone(), bytes);
                Answer::of(200, "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>")
            }
            ("PUT", None) => {
                if headers.get("if-none-match").is_some() && self.objects.contains_key(path) {
                    return Answer::of(412, "<Error><Code>PreconditionFailed</Code></Error>");
                }
                if let Some(from) = headers.get("x-amz-copy-source") {
                    let from = format!("/{}", decoded(from.trim_start_matches('/')));
                    let Some(bytes) = self.objects.get(&from).map(|object| object.bytes.clone()) else {
                        return missing();
                    };
                    self.put(path.clone(), bytes);
                    return Answer::of(200, "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>");
                }
                self.put(path.clone(), body.clone())
            }
            ("DELETE", _) => {
                self.objects.remove(path);
                Answer::of(204, "")
            }
            ("GET" | "HEAD", _) => {
                let Some(object) = self.objects.get(path) else { return missing() };
                let range = headers.get("range").and_then(|range| {
                    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
                    let length = object.bytes.len();
                    Some(match (from.parse::<usize>(), to.parse::<usize>()) {
                        (Ok(from), Ok(to)) => from..length.min(to + 1),
                        (Ok(from), Err(_)) => from..length,
                        (Err(_), Ok(last)) => length.saturating_sub(last)..length,
                        _ => return None,
                    })
                });
                let (status, part) = match range {
                    Some(range) if range.start <= range.end && range.end <= object.bytes.len() => (206, range),
                    Some(_) => return Answer::of(416, ""),
                    None => (200, 0..object.bytes.len()),
                };
                let mut answer = Answer::of(status, &object.bytes[part.clone()])
                    .with("ETag", object.tag())
                    .with("Last-Modified", DateTime::<Utc>::from(object.written).to_rfc2822().replace("+0000", "GMT"));
                if status == 206 {
                    let all = object.bytes.len();
                    answer =
                        answer.with("Content-Range", format!("bytes {}-{}/{all}", part.start, part.end.max(1) - 1));
                }
                if method == "HEAD" {
                    answer.body.clear();
                }
                answer
            }
            _ => Answer::of(501, ""),
        }
    }

    /// `ListObjectsV2`, a few keys a page.
    fn listing(&self, request: &Request) -> String {
        const PAGE: usize = 25;
        let value = |name: &str| request.value(name).unwrap_or_default();
        let (prefix, delimiter) = (value("prefix"), value("delimiter"));
        let after = value("continuation-token").max(value("start-after"));
        let bucket = format!("{}/", request.path.trim_end_matches('/'));
        let (mut contents, mut folders, mut last, mut more) =
            (String::new(), Vec::<String>::new(), String::new(), false);
        let mut count = 0;
        for (key, object) in
            self.objects.iter().filter_map(|(path, object)| Some((path.strip_prefix(&bucket)?, object)))
        {
            if !key.starts_with(&prefix) || key <= after.as_str() {
                continue;
            }
            let inside = &key[prefix.len()..];
            let folder = inside.find(&delimiter).filter(|_| !delimiter.is_empty());
            let folder = folder.map(|at| format!("{prefix}{}", &inside[..=at]));
            if folder
                .as_ref()
                .is_some_and(|folder| folders.last() == Some(folder) || after.starts_with(folder.as_str()))
            {
                continue;
            }
            if count == PAGE {
                more = true;
                break;
            }
            count += 1;
            last = key.to_owned();
            match folder {
                Some(folder) => folders.push(folder),
                None => {
                    let written = DateTime::<Utc>::from(object.written).format("%Y-%m-%dT%H:%M:%S%.3fZ");
                    contents += &format!(
                        "<Contents><Key>{}</Key><LastModified>{written}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                        escaped(key),
                        object.tag().replace('"', "&quot;"),
                        object.bytes.len()
                    );
                }
            }
        }
        let folders: String = folders
            .iter()
            .map(|folder| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(folder)))
            .collect();
        let next = if more {
            format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last))
        } else {
            String::new()
        };
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{more}</IsTruncated>{next}{contents}{folders}</ListBucketResult>"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&amp;", "&")
}
