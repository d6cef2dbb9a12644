//! `embed(image, backbone)` beside the columns that ingest fills.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outskirt::demo::{Counts, write_pictures};
use outskirt::sql::cancel;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::outskirt;

async fn csv(db: &Path, query: &str) -> String {
    outskirt(db, &["sql", query, "--format", "csv"]).await.unwrap().0
}

/// 100 pictures with their bytes, the same in an archive without, and the bank `shapes` of the former.
async fn database(folder: &Path) -> (PathBuf, PathBuf) {
    write_pictures(folder, 7, Counts { train: 10, calibration: 1, test: 1, ood: 1 }).unwrap();
    let (db, train, archive) = (folder.join("db"), folder.join("id/train"), folder.join("train.tar"));
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    builder.append_dir_all("train", &train).unwrap();
    builder.into_inner().unwrap();
    for (path, dataset, more) in [(&train, "stored", &["--store-images"][..]), (&archive, "archived", &[])] {
        let line = ["ingest", path.to_str().unwrap(), "--dataset", dataset, "--backbone", "demo_shapes"];
        outskirt(&db, &[&line[..], more].concat()).await.unwrap();
    }
    let of = "dataset = 'stored'";
    outskirt(&db, &["bank", "create", "shapes", "--backbone", "demo_shapes", "--where", of, "--k", "3"]).await.unwrap();
    outskirt(&db, &["bank", "calibrate", "shapes", "--where", "dataset = 'archived'"]).await.unwrap();
    (db, train)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_what_the_column_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (db, train) = database(folder.path()).await;
    for (image, rows) in [("uri", 200), ("bytes", 100)] {
        let query = format!(
            "SELECT count(s) AS n, bool_and(s = t) AS same FROM (SELECT knn_ood_score(embed({image}, 'demo_shapes'), \
             'shapes') AS s, knn_ood_score(demo_shapes, 'shapes') AS t FROM images)"
        );
        assert_eq!(csv(&db, &query).await, format!("n,same\n{rows},true\n"), "{image}");
    }
    // where the score is used in several places, and asked for with an id or a threshold
    let several = "SELECT count(*) AS n, count(e) AS e, max(s) < 2 AS s FROM (SELECT embed(uri, 'demo_shapes') AS e, \
                   knn_ood_score(embed(uri, 'demo_shapes'), 'shapes', 1, id) AS s FROM images \
                   WHERE dataset = 'stored' AND NOT is_ood(embed(uri, 'demo_shapes'), 'shapes', 0.9) ORDER BY s DESC LIMIT 7)";
    assert_eq!(csv(&db, several).await, "n,e,s\n7,7,true\n");
    // a picture in no table
    let one = train.join("star/0001.png").display().to_string();
    let near = format!("SELECT knn_ood_score(embed('{one}', 'demo_shapes'), 'shapes', 1) < 1e-3 AS near");
    assert_eq!(csv(&db, &near).await, "near\ntrue\n");

    // two scores of one embedding: it is computed once
    let two = "EXPLAIN SELECT knn_ood_score(embed(uri, 'demo_shapes'), 'shapes', 1), knn_ood_score(embed(uri, 'demo_shapes'), \
               'shapes', 2), embed(uri, 'demo_shapes') FROM images";
    let plan = csv(&db, two).await;
    let physical = &plan[plan.find("physical_plan").unwrap()..];
    assert_eq!(physical.matches("embed(uri").count(), 1, "{physical}");

    // the file is gone: named, with what to do; stored bytes are still there
    std::fs::remove_file(train.join("star/0001.png")).unwrap();
    let error = outskirt(&db, &["sql", "SELECT embed(uri, 'demo_shapes') FROM images"]).await.unwrap_err();
    assert!(error.starts_with("cannot embed ") && error.contains("star/0001.png: No such file"), "{error}");
    let stored = "SELECT count(embed(bytes, 'demo_shapes')) AS n FROM images";
    assert_eq!(csv(&db, stored).await, "n\n100\n");
}

#[cfg(feature = "torch")]
#[tokio::test(flavor = "multi_thread")]
async fn it_belongs_to_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = database(folder.path()).await;
    let module = folder.path().join("another.pt");
    outskirt_libtorch::load().unwrap();
    let input = tch::Tensor::zeros([1, 3, 16, 16], (tch::Kind::Float, tch::Device::Cpu));
    let mut gives =
        |inputs: &[tch::Tensor]| vec![inputs[0].mean_dim([1i64].as_slice(), false, None).adaptive_avg_pool2d([8, 8])];
    tch::CModule::create_by_tracing("Other", "forward", &[input], &mut gives).unwrap().save(&module).unwrap();
    let sha256 = outskirt::backbone::sha256_file(&module).unwrap();
    let manifest = folder.path().join("another.toml");
    let text = format!(
        "name = \"another\"\narchitecture = \"torchscript\"\ndimension = 64\nweights = \"another.pt\"\nsha256 = \"{sha256}\"\n\
         [input]\nwidth = 16\nheight = 16\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let score = |network: &str| format!("SELECT knn_ood_score(embed(uri, '{network}'), 'shapes') FROM images");
    let error = outskirt(&db, &["sql", &score("another")]).await.unwrap_err();
    assert!(error.starts_with("unknown backbone 'another': known are demo_shapes"), "{error}");
    // a manifest's path is for the command line, which brings it into the database
    let path = manifest.display().to_string();
    let error = outskirt(&db, &["sql", &score(&path)]).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "{path}: SQL finds backbones by name, and known are demo_shapes, densenet_cifar10, resnet20_cifar10; 'outskirt \
             embed --backbone {path}' makes it one of the database's"
        )
    );
    // a module is code: it runs once it is trusted, which the database cannot say of itself
    let embed = ["embed", "--backbone", &path];
    let error = outskirt(&db, &embed).await.unwrap_err();
    assert!(error.contains("is not trusted on this machine") && error.contains(&sha256), "{error}");
    let (said, _) = outskirt(&db, &["backbone", "trust", &path]).await.unwrap();
    assert_eq!(said, format!("another is trusted: sha256 {sha256}\n"));
    outskirt(&db, &embed).await.unwrap();
    let elsewhere = outskirt::store::Store::open(&db).await.unwrap();
    let session = outskirt::sql::session::Session::open(&elsewhere).await.unwrap();
    let error = session.sql("SELECT embed(uri, 'another') FROM images LIMIT 1").await.unwrap().collect().await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is not trusted on this machine"), "{error}");
    let error = outskirt(&db, &["sql", &score("another")]).await.unwrap_err();
    assert!(
        error.contains("holds embeddings of backbone 'another', bank 'shapes' holds those of 'demo_shapes'"),
        "{error}"
    );
    let same = "SELECT count(*) AS n, max(abs(embed(uri, 'another')[7] - another[7])) < 1e-6 AS same FROM images";
    assert_eq!(csv(&db, same).await, "n,same\n200,true\n");
    // the weights are gone since
    std::fs::remove_file(&module).unwrap();
    let error = outskirt(&db, &["sql", same]).await.unwrap_err();
    assert!(error.contains("has no weights at ") && error.contains("'outskirt backbone check another'"), "{error}");
}

/// Whether a text is in one of a folder's files.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
    })
}

/// What signs an address is used and not kept, whatever it is called; what the user names is.
#[tokio::test(flavor = "multi_thread")]
async fn what_signs_an_address_is_nowhere_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let (db, list) = (folder.path().join("db"), folder.path().join("list.csv"));
    let picture = b"P6 1 2 255\n\x0a\0\0\xff\0\0".to_vec();
    let files = ["/a.ppm", "/image"].map(|path| (path.to_owned(), picture.clone()));
    let server = super::server::Server::of(files);
    let signed: Vec<String> = [
        "/a.ppm?code=geheim&hdnea=geheim",
        "/image?id=1&sig=geheim",
        "/image?q-signature=geheim&id=2#geheim",
        "/none.ppm?%73ecret=geheim",
    ]
    .map(|path| server.address(path))
    .to_vec();
    std::fs::write(&list, format!("uri,camera\n{}\n", signed.join(",7\n") + ",8")).unwrap();
    let ingest = ["ingest", list.to_str().unwrap(), "--dataset", "d", "--backbone", "demo_shapes"];
    let error = outskirt(&db, &ingest).await.unwrap_err();
    assert!(error.contains("differ only in what uri does not keep of a query (id, q-signature, sig)"), "{error}");
    let kept = [&ingest[..], &["--keep-query", "id"]].concat();
    let (said, notices) = outskirt(&db, &kept).await.unwrap();
    assert!(said.contains("3 added") && said.contains("1 refused"), "{said}");
    let left_out = "of queries uri does not keep code, hdnea, q-signature, secret, sig: ";
    assert!(notices.contains(left_out) && !notices.contains("geheim"), "{notices}");
    let uris = csv(&db, "SELECT uri, camera FROM images UNION ALL SELECT uri, 0 FROM rejects ORDER BY uri").await;
    let expected = ["/a.ppm,7", "/image?id=1,7", "/image?id=2,7", "/none.ppm,0"].map(|path| server.address(path));
    assert_eq!(uris, format!("uri,camera\n{}\n", expected.join("\n")));
    assert!(!holds(&db, "geheim"), "it was kept");
    // signed anew they are the same images
    std::fs::write(&list, std::fs::read_to_string(&list).unwrap().replace("geheim", "anew")).unwrap();
    let (again, _) = outskirt(&db, &kept).await.unwrap();
    assert!(again.contains("0 added, 3 there already") && again.contains("1 refused"), "{again}");
    // in SQL, an address is asked for as it is given, and named without its query
    let embed = |uri: &str| format!("SELECT array_length(embed('{uri}', 'demo_shapes')) AS n");
    assert_eq!(csv(&db, &embed(&signed[1])).await, "n\n64\n");
    assert_eq!(server.requests("GET /image?id=1&sig=geheim"), 2);
    let error = outskirt(&db, &["sql", &embed(&signed[3])]).await.unwrap_err();
    let named = format!("cannot embed {}: the server answers 404 Not Found; ", server.address("/none.ppm"));
    assert!(error.starts_with(&named) && !error.contains("geheim"), "{error}");
    // two addresses are two pictures there
    let two = format!(
        "SELECT count(embed(uri, 'demo_shapes')) AS n FROM (VALUES ('{}'), ('{}')) AS t(uri)",
        server.address("/a.ppm?x=1"),
        server.address("/a.ppm?x=2")
    );
    assert_eq!(csv(&db, &two).await, "n\n2\n");
    assert_eq!((server.requests("/a.ppm?x=1"), server.requests("/a.ppm?x=2")), (1, 1));
}

#[test]
fn explain_embeds_nothing_and_a_constant_can_be_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (db, train) = database(folder.path()).await;
        let picture = train.join("star/0000.png");
        let score = format!("knn_ood_score(embed('{}', 'demo_shapes'), 'shapes')", picture.display());
        let plan = csv(&db, &format!("EXPLAIN SELECT {score} AS score")).await;
        assert!(plan.contains("embed(Utf8("), "{plan}");
        let one = csv(&db, &format!("SELECT {score} AS score")).await;
        assert!(one.starts_with("score\n0."), "{one}");

        // a constant is computed while it is planned, and this address answers nobody
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let session = Session::open(&Store::open(&db).await.unwrap()).await.unwrap();
        let query = format!("SELECT embed('http://{address}/a.png', 'demo_shapes')");
        let statement = session.parse(&query).unwrap().pop_front().unwrap();
        let (send, interrupted) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _connected = silent.accept();
            send.send(()).unwrap();
            std::thread::sleep(Duration::from_secs(60));
        });
        let start = Instant::now();
        let interrupted = async { interrupted.await.unwrap() };
        assert!(cancel::unless(interrupted, &session, session.run(statement)).await.is_none());
        assert!(start.elapsed() < Duration::from_secs(30));
        // and the session goes on
        let next = session.sql("SELECT 1").await.unwrap().collect().await.unwrap();
        assert_eq!(next[0].num_rows(), 1);
    });
    runtime.shutdown_background();
}
