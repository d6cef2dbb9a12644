//! Files of networks that are no state dict: told by their content, and named in the refusal.

/// What such a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TorchScript,
    /// `torch.export.save`: `.pt2`.
    Exported,
    Onnx,
    Hdf5,
    Gguf,
    OldTar,
    Json,
}

impl Kind {
    /// Why it is no state dict, and what to do.
    pub(super) fn refusal(self) -> String {
        let save = "save the weights with torch.save(model.state_dict(), …) or as .safetensors";
        match self {
            Self::TorchScript => {
                format!("it is a TorchScript archive (torch.jit.save): name it with --arch torchscript, or {save}")
            }
            Self::Exported => format!(
                "it is an archive of torch.export (.pt2), which is not read: {save}, or export TorchScript instead \
                 (torch.jit.trace)"
            ),
            Self::Onnx => format!(
                "it is an ONNX model, which is not read: {save}, or export TorchScript instead (torch.jit.trace), from the \
                 PyTorch model that it was made of"
            ),
            Self::Hdf5 => "it is HDF5, as Keras writes: only PyTorch's weights are read".into(),
            Self::Gguf => "it is GGUF, which is not read: take the PyTorch weights that it was made of".into(),
            Self::OldTar => {
                "it is a tar archive, as PyTorch before 0.1.10 wrote: load it with an old PyTorch and save it again"
                    .into()
            }
            Self::Json => {
                "it is JSON, such as a configuration or an index of shards: name the file of the weights, in one \
                           piece (save_pretrained(…, max_shard_size='100GB'))"
                    .into()
            }
        }
    }
}

/// What begins like this, if it is one of these.
pub(super) fn of(bytes: &[u8]) -> Option<Kind> {
    // a protocol buffer: field 1, the format's version, then field 2 (the producer), 7 (the graph) or 8 (operator sets)
    let is_onnx = matches!(bytes, [0x08, version, 0x12 | 0x3a | 0x42, ..] if *version < 0x40);
    let is_json = bytes.trim_ascii_start().starts_with(b"{")
        && !bytes.get(..512.min(bytes.len())).is_some_and(|head| head.contains(&0));
    match bytes {
        _ if is_onnx => Some(Kind::Onnx),
        _ if bytes.starts_with(b"\x89HDF\r\n") => Some(Kind::Hdf5),
        _ if bytes.starts_with(b"GGUF") => Some(Kind::Gguf),
        _ if bytes.get(257..262) == Some(b"ustar") => Some(Kind::OldTar),
        _ if is_json => Some(Kind::Json),
        _ => None,
    }
}

/// What a zip archive with entries of these names is, if it is one of these.
pub(super) fn of_zip<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<Kind> {
    names.fold(None, |found, name| {
        // inside the archive's one folder, or at its top
        let inside =
            name.iter().position(|&byte| byte == b'/').map_or(name, |at| name.get(at + 1..).unwrap_or_default());
        match (inside, name) {
            (b"constants.pkl", _) => Some(Kind::TorchScript),
            (b"archive_format" | b"serialized_exported_program.json", _)
            | (_, b"archive_format" | b"serialized_exported_program.json") => Some(Kind::Exported),
            _ => found,
        }
    })
}

/// What a file is that should be TorchScript, if it is one of these instead.
pub(super) fn instead_of_torchscript(bytes: &[u8]) -> Option<String> {
    if !bytes.starts_with(b"PK\x03\x04") {
        return Some(of(bytes)?.refusal());
    }
    let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).ok()?;
    match of_zip(archive.file_names_raw()) {
        Some(Kind::TorchScript) => None,
        Some(other) => Some(other.refusal()),
        None => Some(
            "it holds weights and no TorchScript module: name the architecture they belong to with --arch, or export \
             TorchScript (torch.jit.trace)"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_told_by_their_content() {
        assert_eq!(of(b"\x08\x08\x12\x07pytorch\x1a\x062.11.0:"), Some(Kind::Onnx));
        assert_eq!(of(b"\x89HDF\r\n\x1a\n\0\0"), Some(Kind::Hdf5));
        assert_eq!(of(b"{\"metadata\": {}}"), Some(Kind::Json));
        assert_eq!(of(b"\x80\x02}."), None);
        let names = |names: [&'static [u8]; 2]| of_zip(names.into_iter());
        assert_eq!(names([b"net/data.pkl", b"net/constants.pkl"]), Some(Kind::TorchScript));
        assert_eq!(names([b"net/archive_format", b"net/models/model.json"]), Some(Kind::Exported));
        assert_eq!(names([b"version", b"serialized_exported_program.json"]), Some(Kind::Exported));
        assert_eq!(names([b"net/data.pkl", b"net/data/0"]), None);
    }
}
