//! The members of a zip archive, and their names as text.

use std::io::{self, Read, Seek};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};
use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::member_name;
use super::format::MAX_FILE_BYTES;

/// Encodings that may be told from their bytes; the standard's own is the rest's.
const GUESSED: [&Encoding; 6] = [SHIFT_JIS, EUC_JP, GBK, GB18030, BIG5, EUC_KR];

/// A file in a zip archive.
pub(super) struct Member {
    /// Its place in the archive.
    pub(super) index: usize,
    /// Its path, with `/` between the parts.
    pub(super) name: String,
    /// Bytes, unpacked.
    pub(super) size: u64,
    pub(super) is_encrypted: bool,
}

/// The files of an archive but for hidden ones, in its order; and how names that are not UTF-8 were read, where some are.
///
/// Such names are in the encoding of the machine that packed them, which the archive does not say. Where all of them are
/// well-formed Japanese, Chinese or Korean text, that is what they are; else they are the standard's code page 437. Other names
/// are wrong letters then, but names all the same, each its own. Backslashes are folders where a name has no other.
pub(super) fn list<R>(archive: &ZipArchive<R>) -> Result<(Vec<Member>, Option<String>), ZipError>
where
    R: Read + Seek,
{
    let mut members = Vec::with_capacity(archive.len());
    let mut foreign: Vec<(usize, Vec<u8>)> = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index_data(index)?;
        if !member.is_file() {
            continue;
        }
        if std::str::from_utf8(member.name_raw()).is_err() {
            foreign.push((members.len(), member.name_raw().to_vec()));
        }
        let (name, size) = (member.name()?.into_owned(), member.size());
        members.push(Member { index, name, size, is_encrypted: member.encrypted() });
    }
    let guessed = guess(&foreign);
    let mut read_as = 0;
    for (at, raw) in &foreign {
        if let Some(encoding) = guessed {
            members[*at].name = encoding.decode_without_bom_handling(raw).0.into_owned();
        }
        read_as += usize::from(member_name(&members[*at].name).is_some());
    }
    members.retain_mut(|member| {
        let with_slashes = member.name.contains('\\') && !member.name.contains('/');
        let name = if with_slashes { member.name.replace('\\', "/") } else { std::mem::take(&mut member.name) };
        member_name(&name).map(|name| member.name = name).is_some()
    });
    let encoding = guessed.map_or("code page 437", |encoding| encoding.name());
    let note = (read_as > 0).then(|| format!("{read_as} names of members are not UTF-8: read as {encoding}"));
    Ok((members, note))
}

/// The encoding of these names, where their bytes tell it.
fn guess(names: &[(usize, Vec<u8>)]) -> Option<&'static Encoding> {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for (_, name) in names {
        detector.feed(name, false);
        detector.feed(b"\n", false);
    }
    detector.feed(b"", true);
    let guessed = detector.guess(None, Utf8Detection::Deny);
    let is_whole = |name: &[u8]| guessed.decode_without_bom_handling_and_without_replacement(name).is_some();
    (GUESSED.contains(&guessed) && names.iter().all(|(_, name)| is_whole(name))).then_some(guessed)
}

/// Whether it has a file of this name.
pub(super) fn has<R: Read + Seek>(archive: R, name: &str) -> io::Result<bool> {
    let (members, _) = list(&ZipArchive::new(archive)?)?;
    Ok(members.iter().any(|member| member.name == name))
}

/// The file of this name, unpacked; of several the last.
pub(super) fn contents<R: Read + Seek>(archive: R, name: &str) -> io::Result<Vec<u8>> {
    let mut archive = ZipArchive::new(archive)?;
    let (members, _) = list(&archive)?;
    let Some(member) = members.iter().rfind(|member| member.name == name) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is not in the archive any more"));
    };
    if member.is_encrypted {
        return Err(io::Error::other("it is encrypted: unpack the archive with its password"));
    }
    let too_large = |size: u64| {
        let most = MAX_FILE_BYTES >> 20;
        io::Error::other(format!(
            "it has {} MiB, and of an archive's data set files {most} are read: unpack it",
            size >> 20
        ))
    };
    if member.size > MAX_FILE_BYTES {
        return Err(too_large(member.size));
    }
    // grown while reading: a header may promise more than there is, or less
    let mut bytes = Vec::new();
    archive.by_index(member.index)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    if length > MAX_FILE_BYTES { Err(too_large(length)) } else { Ok(bytes) }
}
