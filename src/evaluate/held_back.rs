//! Whether a choice was made by images that are to test it: then their numbers are too good.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};

use super::benchmark::is_test_set;
use crate::error::Result;
use crate::schema;
use crate::sql::session::Session;
use crate::store::quote;

/// What is wrong with choosing a bank's k by these ID and OOD images (SQL over `images`), a sentence each.
pub async fn of_tuning(session: &Session, bank: &str, id: &str, ood: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let sets = format!(
        "SELECT dataset, count(*) AS images, count(*) FILTER (WHERE split = 'test') AS test FROM {} WHERE ({ood}) GROUP BY dataset \
         ORDER BY dataset",
        schema::IMAGES
    );
    let (mut known, mut test) = (Vec::new(), 0);
    for batch in rows(session, &sets).await? {
        let names = arrow::compute::cast(batch.column(0), &DataType::Utf8)?;
        known.extend(names.as_string::<i32>().iter().flatten().filter(|name| is_test_set(name)).map(str::to_owned));
        test += batch.column(2).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    if !known.is_empty() {
        found.push(format!(
            "papers test with {}: a k that is chosen by it makes its numbers too good, choose by other OOD images",
            known.join(", ")
        ));
    }
    if test > 0 {
        found.push(format!(
            "{test} of the OOD images are of the split 'test': numbers of images that k was chosen by are too good, keep others for \
             the test"
        ));
    }
    let calibrations = format!("SELECT DISTINCT predicate FROM {} WHERE bank = {}", schema::CALIBRATIONS, quote(bank));
    for batch in rows(session, &calibrations).await? {
        for calibration in batch.column(0).as_string::<i32>().iter().flatten() {
            let count = async |side: &str| -> Result<i64> {
                let query = format!("SELECT count(*) FROM {} WHERE ({side}) AND ({calibration})", schema::IMAGES);
                let batches = rows(session, &query).await?;
                Ok(batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0)))
            };
            let (of_id, of_ood) = (count(id).await?, count(ood).await?);
            if of_id > 0 {
                found.push(format!(
                    "{of_id} of the ID images calibrate the bank as well ({calibration}): thresholds and p-values at a k that was \
                     chosen by them accept a little less than they say"
                ));
            }
            if of_ood > 0 {
                found.push(format!(
                    "{of_ood} of the OOD images calibrate the bank, as in-distribution images ({calibration})"
                ));
            }
        }
    }
    Ok(found)
}

async fn rows(session: &Session, query: &str) -> Result<Vec<RecordBatch>> {
    Ok(session.sql(query).await?.collect().await?)
}
