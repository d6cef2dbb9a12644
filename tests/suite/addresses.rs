//! Pictures at http:// addresses, from a server that runs in the test.

use outskirt::Error;
use outskirt::image::{ImageFile, KeptQuery, Opened, Selection, open};

use super::server::Server;

/// A grey picture of one pixel.
fn pixel(value: u8) -> Vec<u8> {
    [b"P5 1 1 255\n".as_slice(), &[value]].concat()
}

/// An archive of noise, so that compression does not make it small.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (place, name) in names.iter().enumerate() {
        let noise = (0..60_000u32).map(|at| (at.wrapping_mul(2_654_435_761 + place as u32) >> 13) as u8);
        let bytes = [b"P5 300 200 255\n".as_slice(), &noise.collect::<Vec<_>>()].concat();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(names: &[&str]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (place, name) in names.iter().enumerate() {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&pixel(place as u8)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn site(files: &[(&str, Vec<u8>)]) -> Server {
    Server::of(files.iter().map(|(path, bytes)| (path.to_string(), bytes.clone())))
}

fn images(path: &str) -> Vec<ImageFile> {
    open(&[path.into()], &Selection::default()).unwrap().map(|image| image.unwrap()).collect()
}

fn failure(path: &str) -> String {
    match open(&[path.into()], &Selection::default()) {
        Ok(files) => files.filter_map(Result::err).last().map(|error| error.to_string()).unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

const NAMES: [&str; 4] = ["test/cat/1.pgm", "test/cat/2.pgm", "test/dog/1.pgm", "test/dog/2.pgm"];

#[test]
fn archives_are_read_at_addresses_as_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("/d/a.tar", archive(&NAMES)),
        ("/d/a.tar.gz", gzip(&archive(&NAMES))),
        ("/d/a.zip", zip_of(&NAMES)),
        ("/d/train_32x32.mat", b"no such thing".to_vec()),
    ];
    let server = site(&files);
    for (path, bytes) in &files[..3] {
        let local = folder.path().join(&path[3..]);
        std::fs::write(&local, bytes).unwrap();
        let local = local.to_str().unwrap();
        let query = KeptQuery::parameters(["download"]);
        for address in [server.address(path), server.address(&format!("{path}?download=true"))] {
            let selection = Selection { query: query.clone(), ..Selection::default() };
            let there = open(&[address.clone().into()], &selection).unwrap();
            let (here, there): (_, Vec<_>) = (images(local), there.map(|image| image.unwrap()).collect());
            assert_eq!(there.len(), 4);
            for (here, there) in here.iter().zip(&there) {
                assert_eq!((&here.label, &here.bytes), (&there.label, &there.bytes));
                assert_eq!(here.uri.replace(local, &address), there.uri);
            }
            // by their uris, as a database has them
            let again: Vec<_> = Opened::default()
                .images(there.iter().map(|image| image.uri.clone()))
                .map(|image| image.unwrap())
                .collect();
            assert_eq!(again, there);
        }
        // a selection is the same one
        let drawn = |path: &str| -> Vec<String> {
            let selection = Selection { sample: Some(2), seed: 3, ..Selection::default() };
            open(&[path.into()], &selection).unwrap().map(|image| image.unwrap().uri.split_off(path.len())).collect()
        };
        assert_eq!(drawn(local), drawn(&server.address(path)));
    }
    let error = failure(&server.address("/d/train_32x32.mat"));
    assert!(error.contains("/d/train_32x32.mat: it is too short for a MATLAB file"), "{error}");
    // what has its directory at its end is read whole where the server gives no parts
    server.site.lock().unwrap().no_ranges = true;
    assert_eq!(images(&server.address("/d/a.zip")).len(), 4);
}

#[test]
fn an_archive_that_is_asked_in_its_order_is_read_once() {
    let server = site(&[("/a.tar", archive(&NAMES))]);
    let address = server.address("/a.tar");
    let uris: Vec<String> = NAMES.iter().map(|name| format!("{address}!/{name}")).collect();
    let opened = Opened::default();
    let ask = |uris: &[String]| -> usize {
        let before = server.requests("GET");
        let read: Vec<_> = opened.images(uris.to_vec()).map(|image| image.unwrap().uri).collect();
        assert_eq!(read, uris);
        server.requests("GET") - before
    };
    assert_eq!(ask(&uris[..1]), 3, "its first bytes, its list, its contents");
    assert_eq!((ask(&uris[1..2]), ask(&uris[3..])), (0, 0));
    assert_eq!(ask(&uris[..2]), 1, "its list is known");
    // another file of that name
    server.site.lock().unwrap().files.insert("/a.tar".into(), archive(&[NAMES[1], "new.pgm"]));
    assert_eq!(ask(&uris[1..2]), 3);
    let gone: Vec<_> = opened.images([uris[3].clone()]).collect();
    assert!(
        gone[0].as_ref().unwrap_err().to_string().contains(&format!("it is not in {address} any more")),
        "{gone:?}"
    );
}

#[test]
fn lists_and_tables_name_addresses_and_lie_at_them() {
    let server = site(&[
        ("/d/cat/1.pgm", pixel(1)),
        ("/d/cat/2 b.pgm", pixel(2)),
        ("/d/a.zip", zip_of(&["x.pgm", "y.pgm"])),
        ("/picture", pixel(4)),
    ]);
    let url = server.url.clone();
    let table = format!("uri,label\ncat/1.pgm,cat\n{url}/picture?id=7,any\nnone.pgm,no\na.zip!/y.pgm,zip\n");
    server.site.lock().unwrap().files.insert("/d/m.csv".into(), table.into());
    let items: Vec<_> = open(&[server.address("/d/m.csv").into()], &Selection::default()).unwrap().collect();
    let read: Vec<_> = items.iter().flatten().map(|image| (&image.uri[url.len()..], image.label.as_deref())).collect();
    assert_eq!(read, [("/d/cat/1.pgm", Some("cat")), ("/picture", Some("any")), ("/d/a.zip!/y.pgm", Some("zip"))]);
    let missing = items.iter().find_map(|item| item.as_ref().err()).unwrap().to_string();
    assert_eq!(missing, format!("cannot read image {url}/d/none.pgm: the server answers 404 Not Found"));
    assert_eq!(server.requests("/picture?id=7"), 1, "a query is part of what is asked for");

    // a list of this machine, with blanks in an address and files of this machine between
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("here.pgm"), pixel(9)).unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, format!("{url}/d/cat/2%20b.pgm b\nhere.pgm\n{url}/d/cat/1.pgm\n")).unwrap();
    server.site.lock().unwrap().files.insert("/d/cat/2%20b.pgm".into(), pixel(2));
    let read: Vec<_> = images(list.to_str().unwrap()).into_iter().map(|image| image.bytes).collect();
    assert_eq!(read, [pixel(2), pixel(9), pixel(1)]);
}

#[test]
fn a_parquet_file_is_read_in_parts() {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
    use datafusion::parquet::arrow::ArrowWriter;
    // larger than one block: 40 rows of half a MiB
    let noise: Vec<u8> = (0..1u32 << 19).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let bytes = BinaryArray::from_iter_values((0..40u8).map(|row| [&[row], noise.as_slice()].concat()));
    let labels = Int64Array::from_iter_values((0..40).map(|row| row % 3));
    let columns =
        [("label", std::sync::Arc::new(labels) as ArrayRef), ("image", std::sync::Arc::new(bytes) as ArrayRef)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let server = site(&[("/train-0.parquet", writer.into_inner().unwrap())]);
    let read = images(&server.address("/train-0.parquet"));
    assert_eq!(read.len(), 40);
    assert!(read.iter().zip(0..).all(|(image, row)| image.bytes[0] == row && image.bytes[1..] == noise));
    assert_eq!((read[4].label.as_deref(), read[39].uri.ends_with("!/00000039")), (Some("1"), true));
    let site = server.site.lock().unwrap();
    assert!(site.log.len() > 2 && site.log.iter().all(|line| !line.ends_with(' ')), "all by ranges: {:?}", site.log);
}

#[test]
fn a_download_that_breaks_off_is_one_line_and_goes_on_where_it_can() {
    let server = site(&[("/a.tar.gz", gzip(&archive(&NAMES))), ("/1.pgm", pixel(1))]);
    let address = server.address("/a.tar.gz");
    // a server that says what state a file is in is asked for the rest
    {
        let mut site = server.site.lock().unwrap();
        site.tags = true;
        site.cuts.insert("/a.tar.gz".into(), 3);
    }
    assert_eq!(images(&address).len(), 4);
    assert_eq!(server.site.lock().unwrap().cuts["/a.tar.gz"], 0);
    // of any other the reading ends: while it is listed …
    let cut = |times: usize| {
        let mut site = server.site.lock().unwrap();
        site.tags = false;
        site.cuts.insert("/a.tar.gz".into(), times);
    };
    cut(100);
    let error = failure(&address);
    let begins = format!("cannot read archive {address}: while it was listed, the download broke off after ");
    assert!(error.starts_with(&begins) && error.ends_with("; run this again to go on"), "{error}");
    assert_eq!(error.lines().count(), 1);
    // … or later, after what came before
    cut(0);
    let mut files = open(&[address.clone().into()], &Selection::default()).unwrap();
    cut(100);
    let items: Vec<_> = files.by_ref().collect();
    assert!(items.len() > 1 && items.iter().take(items.len() - 1).all(Result::is_ok), "{items:?}");
    let error = items.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read archive {address}: it breaks off in test/")), "{error}");
    assert!(error.contains("the download broke off after ") && error.ends_with("; run this again to go on"), "{error}");
    // a picture is asked for again
    server.site.lock().unwrap().cuts.insert("/1.pgm".into(), 2);
    assert_eq!(images(&server.address("/1.pgm"))[0].bytes, pixel(1));
}

#[test]
fn what_cannot_be_read_says_why_and_what_to_do() {
    let server = site(&[("/a.tar", archive(&NAMES))]);
    let url = server.url.clone();
    let nobody = "http://127.0.0.1:9";
    for (path, said) in [
        (format!("{url}/"), "a web server does not say what it holds: name its files one by one".to_owned()),
        (format!("{url}/*.png"), "a web server does not say what it holds".to_owned()),
        (format!("{url}/none.tar"), format!("no such file or folder: {url}/none.tar")),
        (format!("{nobody}/a.tar"), format!("cannot open {nobody}/a.tar: no answer from its host")),
        (format!("{nobody}/a.png"), format!("cannot read {nobody}/a.png: no answer from its host")),
        (
            "gs://bucket/a.tar".into(),
            "gs:// addresses are not read, but http://, https://, s3:// and file:// ones".to_owned(),
        ),
        ("s3:///a.tar".into(), "it names no host or bucket".to_owned()),
        (format!("{url}/a.lance"), "copy it to one".to_owned()),
    ] {
        let error = failure(&path);
        assert!(error.contains(&said) && error.lines().count() == 1, "{error}");
    }
    // many hosts, one of them gone: a picture that cannot be read
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    server.site.lock().unwrap().files.insert("/1.pgm".into(), pixel(1));
    std::fs::write(&list, format!("{nobody}/a.png\n{url}/1.pgm\n")).unwrap();
    let items: Vec<_> = open(&[list], &Selection::default()).unwrap().collect();
    assert!(matches!(&items[0], Err(Error::BadImage { reason, .. }) if reason.starts_with("no answer")), "{items:?}");
    assert_eq!(items[1].as_ref().unwrap().bytes, pixel(1));
}

#[test]
fn passwords_are_refused_and_signatures_stay_out_of_uris() {
    let server = site(&[("/a.tar", archive(&NAMES)), ("/1.pgm", pixel(1))]);
    let host = server.url.strip_prefix("http://").unwrap();
    let error = failure(&format!("http://me:geheim@{host}/a.tar"));
    assert!(error.contains("a user's name or password") && !error.contains("geheim"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    let signed = "x=1&X-Amz-Credential=geheim&X-Amz-Signature=geheim";
    std::fs::write(&list, format!("http://me:geheim@{host}/1.pgm\n{}/1.pgm?{signed}\n", server.url)).unwrap();
    let items: Vec<_> = open(&[list], &Selection::default()).unwrap().collect();
    let error = items[0].as_ref().unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read image http://{host}/1.pgm: it carries")), "{error}");
    assert_eq!(items[1].as_ref().unwrap().uri, format!("http://{host}/1.pgm"));
    assert_eq!(server.requests(&format!("/1.pgm?{signed}")), 1, "asked for with its signature");

    let read = images(&format!("{}/a.tar?{signed}", server.url));
    assert_eq!(read[0].uri, format!("http://{host}/a.tar!/{}", NAMES[0]));
    let error = failure(&format!("{}/none.tar?{signed}", server.url));
    assert_eq!(error, format!("no such file or folder: http://{host}/none.tar"));
    server.site.lock().unwrap().cuts.insert("/a.tar".into(), 100);
    let error = failure(&format!("{}/a.tar?{signed}", server.url));
    assert!(error.contains("broke off") && !error.contains("geheim"), "{error}");
}

/// `/image?id=1` and `/image?id=2` would both be `/image`: the second would be taken for a copy, or replace the first.
#[test]
fn addresses_that_differ_in_their_queries_alone_are_not_taken_for_one_image() {
    let server = site(&[("/image", pixel(1)), ("/a.zip", zip_of(&["x.pgm"]))]);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    let address = |query: &str| server.address(&format!("/image{query}"));
    for (one, other, differ) in [
        (address("?id=1&sig=geheim"), address("?id=2&sig=geheim"), " (id)"),
        (address("?geheim"), address("?geheim2"), ""),
        (address(""), address("?id=2"), " (id)"),
        (server.address("/a.zip?v=1!/x.pgm"), server.address("/a.zip?v=2!/x.pgm"), " (v)"),
    ] {
        std::fs::write(&list, format!("{one}\n{other}\n")).unwrap();
        let error = failure(list.to_str().unwrap());
        assert!(error.starts_with("two addresses differ only in what uri does not keep of a query"), "{error}");
        assert!(error.contains(&format!("a query{differ}, and would be one image: ")), "{error}");
        assert!(error.contains("--keep-query NAME") && !error.contains("geheim"), "{error}");
        // the same one twice is one
        std::fs::write(&list, format!("{one}\n{one}\n")).unwrap();
        assert!(open(std::slice::from_ref(&list), &Selection::default()).is_ok());
    }
    // what tells them apart is kept, and each is asked for as it was given
    std::fs::write(&list, format!("{}\n{}\n", address("?id=1&sig=a"), address("?sig=b&id=2"))).unwrap();
    let query = KeptQuery::parameters(["id"]);
    let files = open(&[list], &Selection { query, ..Selection::default() }).unwrap();
    assert_eq!(files.left_out_of_uris(), ["sig"]);
    let uris: Vec<String> = files.map(|image| image.unwrap().uri).collect();
    assert_eq!(uris, [address("?id=1"), address("?id=2")]);
    assert_eq!((server.requests("/image?id=1&sig=a"), server.requests("/image?sig=b&id=2")), (1, 1));
    // by their uris, as a table has them, they are asked for with what was kept
    let again: Vec<String> = Opened::default().images(uris.clone()).map(|image| image.unwrap().uri).collect();
    assert_eq!((again, server.requests("GET /image?id=2 ")), (uris, 1));
}
