//! A small HTTP server for tests: files by path, parts of them, a listing as S3 gives it, and faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server has, and how it behaves.
#[derive(Default)]
pub struct Site {
    /// By path, without a query.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Does not give parts of files.
    pub no_ranges: bool,
    /// Says what state a file is in, so that a client may go on in the middle of it.
    pub tags: bool,
    /// How many more times whole downloads of a path break off in the middle.
    pub cuts: BTreeMap<String, usize>,
    /// Request lines so far, and their ranges.
    pub log: Vec<String>,
}

/// A running server, which ends with the test's process.
pub struct Server {
    /// `http://127.0.0.1:port`.
    pub url: String,
    pub site: Arc<Mutex<Site>>,
}

impl Server {
    pub fn of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let site = Arc::new(Mutex::new(Site { files: files.into_iter().collect(), ..Site::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&site);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // else what is written in two parts waits 40 ms for the client
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&shared);
                // a client that hangs up is none of our business
                std::thread::spawn(move || answer(&stream, &shared).ok());
            }
        });
        Self { url, site }
    }

    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// How many requests named a path.
    pub fn requests(&self, path: &str) -> usize {
        self.site.lock().unwrap().log.iter().filter(|line| line.contains(path)).count()
    }
}

/// One request of one connection.
fn answer(mut stream: &TcpStream, site: &Mutex<Site>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: bytes=").map(String::from).or(range);
    }
    let (method, target) = request.split_once(' ').unwrap_or_default();
    let target = target.split(' ').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut site = site.lock().unwrap();
    site.log.push(format!("{method} {target} {}", range.as_deref().unwrap_or("")));
    if query.contains("list-type=2") {
        let body = listing(&site.files, path, query);
        return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    let Some(body) = site.files.get(path).cloned() else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlost\n");
    };
    let cut = match site.cuts.get_mut(path) {
        Some(times) if *times > 0 && method == "GET" => {
            *times -= 1;
            true
        }
        _ => false,
    };
    let range = range.filter(|_| !site.no_ranges).and_then(|range| {
        let (start, end) = range.split_once('-')?;
        let end = end.parse().map_or(body.len(), |end: usize| body.len().min(end + 1));
        Some((start.parse().ok()?, end))
    });
    let tag = if site.tags { "ETag: \"one\"\r\n" } else { "" };
    let modified = "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n";
    drop(site);
    let (status, part, of) = match range {
        Some((start, end)) => {
            ("206 Partial Content", start..end, format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, body.len()))
        }
        None => ("200 OK", 0..body.len(), String::new()),
    };
    let length = part.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{of}{tag}{modified}Connection: close\r\n\r\n")?;
    if method == "GET" {
        stream.write_all(&body[part.start..if cut { part.start + length / 2 } else { part.end }])?;
    }
    Ok(())
}

/// `ListObjectsV2` of a bucket: path style, two keys a page.
fn listing(files: &BTreeMap<String, Vec<u8>>, bucket: &str, query: &str) -> String {
    let value = |name: &str| {
        let value = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().replace("%2F", "/").replace("%20", " ")
    };
    let (prefix, after) = (value("prefix"), value("continuation-token"));
    let bucket = format!("{}/", bucket.trim_end_matches('/'));
    let keys = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(&bucket)?, bytes)));
    let mut keys = keys.filter(|(key, _)| key.starts_with(&prefix) && *key > after.as_str());
    let page: Vec<_> = keys.by_ref().take(2).collect();
    let more = keys.next().is_some();
    let mut xml = format!("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{more}</IsTruncated>");
    for (key, bytes) in &page {
        xml += &format!(
            "<Contents><Key>{key}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified><ETag>\"one\"</ETag>\
             <Size>{}</Size></Contents>",
            bytes.len()
        );
    }
    if let (true, Some((last, _))) = (more, page.last()) {
        xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    xml + "</ListBucketResult>"
}
