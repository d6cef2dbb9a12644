//! The networks of a session: found by name while a query is planned, loaded by the first row that needs them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backbone::{self, Backbone, Checkpoint, external_backbones, registered_backbones};
use crate::error::{Error, Result};
use crate::image::{Opened, shown};
use crate::ingest::{For, Reject, batch_size, embed_for};
use crate::schema;
use crate::sql::policy::Policy;
use crate::store::Store;

/// The backbones that queries can name: the built-in ones, and those of the database as they were when the session began.
/// Each is found once and loaded once. Manifests by path are the command line's: a query may come from anybody.
#[derive(Debug)]
pub struct Networks {
    /// The database's own, or why they cannot be read: a query that names none of them need not know.
    registered: Result<Vec<Checkpoint>, String>,
    found: Mutex<HashMap<String, Arc<Checkpoint>>>,
    /// Names of those that are run elsewhere.
    external: Vec<String>,
    policy: Policy,
    loaded: Mutex<HashMap<String, Backbone>>,
    /// The archives that queries read last.
    opened: Arc<Opened>,
}

impl Networks {
    /// Read which backbones a database knows; no network is loaded yet.
    pub async fn load(store: &Store, policy: &Policy) -> Self {
        let registered = registered_backbones(store).await.map_err(|error| error.to_string());
        let external = external_backbones(store).await.unwrap_or_default();
        let external = external.into_iter().map(|external| external.name).collect();
        Self { registered, external, policy: policy.clone(), ..Self::built_in() }
    }

    /// The built-in ones alone.
    pub(crate) fn built_in() -> Self {
        Self {
            registered: Ok(Vec::new()),
            external: Vec::new(),
            found: Mutex::default(),
            policy: Policy::default(),
            loaded: Mutex::default(),
            opened: Arc::default(),
        }
    }

    /// A backbone by name.
    ///
    /// Errors: an unknown name (the known ones are listed), a path, a backbone that the session may not use.
    pub fn find(&self, name: &str) -> Result<Arc<Checkpoint>> {
        self.policy.check_backbone(name)?;
        let mut found = lock(&self.found);
        if let Some(known) = found.get(name) {
            return Ok(Arc::clone(known));
        }
        if self.external.iter().any(|external| external == name) {
            return Err(Error::ExternalBackbone { name: name.into() });
        }
        let bad = |reason: &String| Error::BadRow { table: schema::BACKBONES.into(), reason: reason.clone() };
        let registered = self.registered.as_ref().map_err(bad)?.clone();
        if backbone::is_path(name) {
            // the list of an unknown name's error, which no file can have
            let known = backbone::names(registered)?;
            return Err(Error::BackboneByPath { path: name.into(), known });
        }
        let checkpoint = Arc::new(backbone::find(name, registered)?);
        found.insert(name.into(), Arc::clone(&checkpoint));
        Ok(checkpoint)
    }

    /// Refuse pictures that the session may not read.
    pub(crate) fn check_pictures<'a>(&self, mut uris: impl Iterator<Item = &'a str>) -> Result<()> {
        uris.try_for_each(|uri| self.policy.check_picture(uri))
    }

    /// The archives that queries read last.
    pub(crate) fn opened(&self) -> &Arc<Opened> {
        &self.opened
    }

    /// Embed images, on all cores: `rows` × dimension numbers, zero in rows that no image is for.
    ///
    /// One call embeds at a time, the others wait: each has all cores for itself.
    ///
    /// Errors: as [`Self::find`]; weights that are missing or wrong; the first image that cannot be embedded.
    pub(crate) fn embed(
        &self,
        name: &str,
        images: impl Iterator<Item = For<usize>> + Send + 'static,
        rows: usize,
    ) -> Result<Vec<f32>> {
        let mut loaded = lock(&self.loaded);
        let backbone = match loaded.entry(name.into()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let checkpoint = self.find(name)?.as_ref().clone();
                new.insert(Backbone::load(checkpoint, None, self.policy.trusted()).map_err(without_flags)?)
            }
        };
        let dimension = backbone.manifest().dimension;
        let mut embeddings = vec![0.0; rows * dimension];
        let workers = rayon::current_num_threads().min(rows.div_ceil(batch_size(backbone)));
        let mut batches = embed_for(images, backbone, workers, |_, _, _| ());
        // SQL functions are synchronous; the pipeline's threads need no executor
        while let Some(batch) = futures::executor::block_on(batches.next()) {
            let batch = batch?;
            if let Some(Reject { uri, reason }) = batch.rejects.into_iter().next() {
                return Err(Error::NotEmbedded { image: shown(&uri), reason });
            }
            for (image, embedding) in batch.images.iter().zip(batch.embeddings.chunks(dimension)) {
                for row in &image.purpose {
                    embeddings[row * dimension..][..dimension].copy_from_slice(embedding);
                }
            }
        }
        Ok(embeddings)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same error with what can be done in SQL, which has no --weights.
fn without_flags(error: Error) -> Error {
    match error {
        Error::NoWeights { backbone, path } => {
            let path = std::path::absolute(&path).unwrap_or(path);
            Error::NoWeightsForSql { backbone, path }
        }
        other => other,
    }
}
