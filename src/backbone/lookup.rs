//! Backbones by name, for those who have a database's folder: the database's own, the built-in ones, manifests by path.

use std::path::Path;

use super::checkpoint::{Checkpoint, built_in, find};
use super::external::{External, external_backbones};
use super::registry::registered_backbones;
use crate::error::{Error, Result};
use crate::store::Store;

/// The networks and external backbones that the database in `folder` knows; none where there is no database.
pub(super) async fn registered_in(folder: &Path) -> Result<(Vec<Checkpoint>, Vec<External>)> {
    match Store::open(folder).await {
        Ok(store) => Ok((registered_backbones(&store).await?, external_backbones(&store).await?)),
        Err(Error::NoDatabase { .. }) => Ok((Vec::new(), Vec::new())),
        Err(error) => Err(error),
    }
}

/// Find a backbone by name among the built-in ones and those of the database in `folder`, where there is one; or by its
/// manifest's path.
///
/// Errors: an unknown name (the known ones are listed), a manifest that cannot be read, an external backbone, which is no network.
pub async fn find_in(folder: &Path, name_or_path: &str) -> Result<Checkpoint> {
    let (networks, external) = registered_in(folder).await?;
    if external.iter().any(|external| external.name == name_or_path) {
        return Err(Error::ExternalBackbone { name: name_or_path.into() });
    }
    find(name_or_path, networks)
}

/// The external backbones that the database in `folder` knows.
pub async fn external_in(folder: &Path) -> Result<Vec<External>> {
    Ok(registered_in(folder).await?.1)
}

/// The built-in backbones, then those that the database in `folder` knows by other names. Of a built-in one whose weights
/// do not come with the program the database may know where they are.
pub async fn list_in(folder: &Path) -> Result<Vec<Checkpoint>> {
    let (mut registered, _) = registered_in(folder).await?;
    let mut all = built_in()?;
    for known in &mut all {
        let Some(at) = registered.iter().position(|own| own.manifest.name == known.manifest.name) else { continue };
        let own = registered.swap_remove(at);
        if !known.is_embedded() && own.weights_path().exists() {
            *known = own;
        }
    }
    registered.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
    all.extend(registered);
    Ok(all)
}
