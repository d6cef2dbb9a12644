//! An image is its dataset and its uri: no change in SQL makes two rows one image.

use std::collections::HashSet;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;

use super::catalog::Session;
use crate::error::{Error, Result};
use crate::schema;

/// Dataset and uri.
type Name = (String, String);

impl Session {
    /// Refuse new values of a dataset or uri of images, by id, that would make two images one. What an image was called
    /// already is no new name: databases of earlier versions have some twice.
    pub(super) async fn refuse_twins_of(&self, renamed: impl Fn(u64, &Name) -> Option<Name>) -> Result<()> {
        let mut names = Vec::new();
        self.for_all_images(|id, before| {
            names.extend(renamed(id, &before).filter(|after| *after != before));
            Ok(())
        })
        .await?;
        if names.is_empty() {
            return Ok(());
        }
        let names = distinct(names.into_iter())?;
        self.for_all_images(|id, name| {
            let stays = renamed(id, &name).is_none_or(|after| after == name);
            if stays && names.contains(&name) { Err(same(name)) } else { Ok(()) }
        })
        .await
    }

    async fn for_all_images(&self, mut see: impl FnMut(u64, Name) -> Result<()>) -> Result<()> {
        let columns = [schema::ID, schema::DATASET, schema::URI];
        let mut batches = self.store.scan(schema::IMAGES, None, &columns, None).await?;
        while let Some(batch) = batches.try_next().await? {
            let ids = batch.column(0).as_primitive::<UInt64Type>();
            let (datasets, uris) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
            for row in 0..batch.num_rows() {
                see(ids.value(row), (datasets.value(row).into(), uris.value(row).into()))?;
            }
        }
        Ok(())
    }
}

fn distinct(names: impl Iterator<Item = Name>) -> Result<HashSet<Name>> {
    let mut all = HashSet::new();
    for name in names {
        if let Some(twice) = all.replace(name) {
            return Err(same(twice));
        }
    }
    Ok(all)
}

fn same((dataset, uri): Name) -> Error {
    Error::SameImage { dataset, uri }
}
