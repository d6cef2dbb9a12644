//! Banks after a change of their table, through the library as any program calls it.

use outskirt::bank::{self, BankSpec, Followed, Refreshed};
use outskirt::index::IndexKind;
use outskirt::sql::session::Session;
use outskirt::store::Store;

use super::fixture::{calibrated, circle};

async fn delete(store: &Store, predicate: &str) {
    Session::open(store).await.unwrap().delete_where(predicate).await.unwrap();
}

#[tokio::test]
async fn banks_that_changed_are_named_and_the_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, circle) = calibrated(folder.path(), IndexKind::Exact).await;
    let all_ood =
        BankSpec { name: "ood".into(), predicate: "dataset = 'ood'".into(), ..self::circle(IndexKind::Exact) };
    bank::create(&store, &all_ood).await.unwrap();
    assert!(bank::follow(&store).await.unwrap().is_empty());

    delete(&store, "id = 1").await;
    let before = bank::status(&store).await.unwrap();
    assert_eq!(before.iter().map(|status| status.is_current).collect::<Vec<_>>(), [false, false]);
    let followed = bank::follow(&store).await.unwrap();
    let [Followed { bank, refreshed: Ok(Refreshed { removed: 1, .. }) }] = followed.as_slice() else {
        panic!("{followed:?}")
    };
    assert_eq!(bank, "circle");

    let [circle_now, ood_now] = bank::status(&store).await.unwrap().try_into().unwrap();
    assert!(circle_now.is_current && ood_now.is_current);
    assert!(circle_now.is_calibration_older() && circle_now.bank.table_version > circle.table_version);
    assert_eq!((ood_now.calibration, ood_now.churn), (None, Some(0.0)));
    let mut images = Vec::new();
    bank::calibrate_again(&store, &circle_now.bank, |made| images.push(made.scores.len())).await.unwrap();
    assert_eq!(images, [20]);
    assert!(!bank::status(&store).await.unwrap()[0].is_calibration_older());
}

#[tokio::test]
async fn a_bank_that_cannot_follow_is_an_answer_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let of_test = BankSpec { name: "test".into(), predicate: "split = 'test'".into(), ..circle(IndexKind::Exact) };
    bank::create(&store, &of_test).await.unwrap();
    delete(&store, "split = 'train' AND id > 3 OR split = 'test' AND id = 61").await;
    let followed = bank::follow(&store).await.unwrap();
    let [circle, test] = followed.as_slice() else { panic!("{followed:?}") };
    let reason = circle.refreshed.as_ref().unwrap_err().to_string();
    assert!(
        circle.bank == "circle" && reason.contains("would hold 3 embeddings now, fewer than its k = 5"),
        "{reason}"
    );
    assert_eq!((test.bank.as_str(), test.refreshed.as_ref().unwrap().removed), ("test", 1));
}

#[tokio::test]
async fn a_bank_that_is_there_as_asked_for_is_kept_and_another_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, made) = calibrated(folder.path(), IndexKind::Exact).await;
    assert_eq!(bank::ensure(&store, &circle(IndexKind::Exact)).await.unwrap(), made);
    let with_k = bank::ensure(&store, &BankSpec { k: 3, ..circle(IndexKind::Exact) }).await.unwrap();
    assert_eq!((with_k.k, bank::list_calibrations(&store).await.unwrap().len()), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_the_calibrations_with_which_it_began_whenever_it_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = calibrated(folder.path(), IndexKind::Exact).await;
    let threshold = async |session: &Session| {
        let rows = session.sql("SELECT knn_ood_threshold('circle')").await.unwrap().collect().await.unwrap();
        arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string()
    };
    let (before, first) = (Session::open(&store).await.unwrap(), Session::open(&store).await.unwrap());
    let found = threshold(&first).await;
    // measured again on other images, before the other session has read any
    bank::calibrate(&store, "circle", "split = 'test' AND toy IS NOT NULL", None).await.unwrap();
    assert_eq!(threshold(&before).await, found);
    assert_ne!(threshold(&Session::open(&store).await.unwrap()).await, found);
}
