//! Weights off the disk: one call reads any file that trained networks are commonly shared as.
//!
//! Promises: [`read_state_dict`] tells the layouts apart by content, never by the file's name, and gives every tensor
//! as contiguous row-major `f32` under the name the network gave it. Nothing in the file is executed, no input panics,
//! and memory stays within a fixed multiple of the file's size, whatever lengths the file claims.
//!
//! | layout | written by | begins with |
//! |---|---|---|
//! | zip | `torch.save` since PyTorch 1.6 | `PK\x03\x04` |
//! | legacy | `torch.save` before 1.6 | a pickle of the number 0x1950a86a20f9469cfc6c |
//! | safetensors | the safetensors libraries | a header length, then `{` |
//!
//! How: `pickle` reads what the file says about its tensors; this file finds the raw storages, checks every offset,
//! shape and stride against their real lengths, and converts the numbers. Half, bfloat16 and double precision become
//! `f32`; so do integers and booleans (a batch norm's `num_batches_tracked`), exact up to 2²⁴, so that names are complete.
//!
//! Not for: TorchScript archives, whole pickled models, sharded or quantised checkpoints, ONNX, `torch.export` archives and
//! the tar layout of PyTorch before 0.1.10. Each is refused with what it is ([`kind`](super::kind)). Whether the tensors fit a network is the network's question.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{Cursor, Read, sink};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

use super::kind;
use crate::error::{Error, Result};
use crate::formats::pickle::{ElementType, Storage, TensorView, Unpickled, Value, printable, unpickle};
use crate::regular;

/// Where a checkpoint may keep its state dict, if it is not the state dict itself: the first that holds tensors counts.
/// The network that was trained comes before averages of it, which files often hold as well.
const STATE_DICT_KEYS: [&str; 20] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "model_state",
    "network",
    "module",
    "weights",
    "params",
    "encoder",
    "encoder_q",
    "backbone",
    "state_dict_ema",
    "model_ema",
    "model_ema_state_dict",
    "ema_state_dict",
    "ema_model",
    "ema",
    "teacher",
    "student",
];
/// Dicts inside one another that are looked through for a state dict: `ema` of a file, and its `model`.
const MAX_DEPTH: usize = 3;
/// Keys that a message lists.
const KEYS_SHOWN: usize = 12;
/// What `DataParallel` puts before every name.
const WRAPPER_PREFIX: &str = "module.";
/// How many times larger than the file the tensors together may be. Half precision doubles and tied weights multiply;
/// a few bytes that claim a tensor of a terabyte (stride 0 makes that a valid view) go beyond.
const MAX_EXPANSION: usize = 16;

const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_PROTOCOL: i64 = 1001;
/// The format's own limit (100 MB), which tells a header length from any other eight bytes.
const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// One tensor of a state dict: contiguous, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightTensor {
    /// Lengths of the axes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many as the product of `shape`, the last axis fastest; as the file has them, NaN and infinity included.
    pub values: Vec<f32>,
}

/// Tensors by name (`layer1.0.conv1.weight`), without the `module.` of `DataParallel`.
pub type StateDict = BTreeMap<String, WeightTensor>;

/// The tensors of a file, and where in it they were.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) tensors: StateDict,
    /// The key under which they were; `None` where they are all that the file holds.
    pub(super) key: Option<String>,
    /// Other keys of the kind that hold tensors too.
    pub(super) others: Vec<String>,
}

/// Read the weights in `path`: a `torch.save` file (zip or legacy) or safetensors, told apart by content.
///
/// Of a checkpoint that holds more than the weights, the dict under `state_dict`, `model_state_dict`, `model`, `net` or
/// another usual key is read, else the tensors at its top level; values in it that are no tensors are left out. If every
/// name begins with `module.`, that is taken off.
///
/// # Errors
/// [`Error::MissingPath`] and [`Error::Io`] for the file itself; [`Error::BadWeights`], with what and where, for
/// everything that is not a state dict in one of the three layouts, and a pickle that asks for a class that acts.
pub fn read_state_dict(path: &Path) -> Result<StateDict> {
    find_state_dict(path, None).map(|found| found.tensors)
}

/// The same, under the key of that name where one is given, and with where the tensors were.
///
/// # Errors
/// As [`read_state_dict`].
pub(super) fn find_state_dict(path: &Path, key: Option<&str>) -> Result<Found> {
    let bytes = regular::read(path).map_err(Error::io("read", path))?;
    parse_found(path, &bytes, key)
}

/// Read weights that are in memory already, as [`find_state_dict`] does; `path` only names them in errors.
///
/// # Errors
/// [`Error::BadWeights`].
pub(super) fn parse_found(path: &Path, bytes: &[u8], key: Option<&str>) -> Result<Found> {
    parse(bytes, key).map_err(|reason| Error::BadWeights { path: path.to_path_buf(), reason })
}

/// The SHA-256 of a file's content, in lower-case hex (64 characters).
///
/// # Errors
/// [`Error::MissingPath`] and [`Error::Io`].
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = regular::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        match buffer.get(..count) {
            None | Some([]) => break,
            Some(filled) => hash.update(filled),
        }
    }
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    }))
}

/// Reasons of [`Error::BadWeights`]; the path is added once, by [`parse_found`].
type Parsed<T> = std::result::Result<T, String>;

fn parse(bytes: &[u8], key: Option<&str>) -> Parsed<Found> {
    let found = match Layout::of(bytes)? {
        Layout::Zip => read_zip(bytes, key),
        Layout::Legacy => read_legacy(bytes, key),
        Layout::Safetensors if key.is_some() => Err("it is safetensors, which has no keys to choose from".into()),
        Layout::Safetensors => read_safetensors(bytes).map(|tensors| Found { tensors, key: None, others: Vec::new() }),
    }?;
    Ok(Found { tensors: without_wrapper(found.tensors), ..found })
}

enum Layout {
    Zip,
    Legacy,
    Safetensors,
}

impl Layout {
    fn of(bytes: &[u8]) -> Parsed<Self> {
        if bytes.starts_with(b"PK\x03\x04") {
            return Ok(Self::Zip);
        }
        let header = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
        if header.is_some_and(|length| length <= MAX_SAFETENSORS_HEADER) && bytes.get(8) == Some(&b'{') {
            return Ok(Self::Safetensors);
        }
        if bytes.first() == Some(&0x80) {
            return Ok(Self::Legacy);
        }
        Err(if bytes.is_empty() {
            "the file is empty".into()
        } else if let Some(other) = kind::of(bytes) {
            other.refusal()
        } else {
            let head = String::from_utf8_lossy(bytes.get(..24).unwrap_or(bytes));
            format!("it is neither a torch.save file nor safetensors: it begins with \"{}\"", printable(&head))
        })
    }
}

// ---- safetensors ----

fn read_safetensors(bytes: &[u8]) -> Parsed<StateDict> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("as safetensors: {error}"))?;
    let mut dict = StateDict::new();
    for (name, tensor) in file.iter() {
        let element = match tensor.dtype() {
            Dtype::F64 => ElementType::F64,
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::Bf16,
            Dtype::I64 => ElementType::I64,
            Dtype::I32 => ElementType::I32,
            Dtype::I16 => ElementType::I16,
            Dtype::I8 => ElementType::I8,
            Dtype::U8 => ElementType::U8,
            Dtype::BOOL => ElementType::Bool,
            other => return Err(format!("tensor {} is of type {other:?}, which is not read", printable(name))),
        };
        let values = decode(tensor.data(), element);
        dict.insert(name.to_string(), WeightTensor { shape: tensor.shape().to_vec(), values });
    }
    if dict.is_empty() {
        return Err("it holds no tensors".into());
    }
    Ok(dict)
}

// ---- torch.save, zip ----

fn read_zip(bytes: &[u8], key: Option<&str>) -> Parsed<Found> {
    let damaged = |error: zip::result::ZipError| format!("as a zip archive: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    // torch.save writes neither; each would let a small file ask for work without end
    if archive.has_duplicate_names() || archive.has_overlapping_files().map_err(damaged)? {
        return Err("the zip archive has entries of one name, or one inside another".into());
    }
    if let Some(other) = kind::of_zip(archive.file_names_raw()) {
        return Err(other.refusal());
    }
    // torch.save names the folder after the file or "archive", and data.pkl lies right inside it
    let mut folders = archive.file_names_raw().filter_map(|name| {
        let folder = std::str::from_utf8(name).ok()?.strip_suffix("data.pkl")?;
        (folder.ends_with('/') && folder.matches('/').count() == 1).then(|| folder.to_string())
    });
    let folder = match (folders.next(), folders.next()) {
        (Some(folder), None) => folder,
        _ => return Err("the zip archive has no data.pkl, or several: torch.save did not write it".into()),
    };
    drop(folders);
    let byte_order = format!("{folder}byteorder");
    if archive.index_for_name(&byte_order).is_some() {
        let order = zip_entry(&mut archive, bytes, &byte_order)?;
        if order != b"little" {
            let order = String::from_utf8_lossy(order);
            return Err(format!("its byte order is \"{}\": only little is read", printable(&order)));
        }
    }
    let pickle = zip_entry(&mut archive, bytes, &format!("{folder}data.pkl"))?;
    let pickle = unpickle(pickle, 0).map_err(|error| format!("data.pkl: {error}"))?;

    let mut found: HashMap<&str, &[u8]> = HashMap::new();
    collect(&pickle, key, bytes.len(), |storage| match found.get(storage.key) {
        Some(content) => Ok(*content),
        None => {
            let content = zip_entry(&mut archive, bytes, &format!("{folder}data/{}", storage.key))?;
            found.insert(storage.key, content);
            Ok(content)
        }
    })
}

/// The content of an entry, borrowed from the file, its CRC-32 checked.
fn zip_entry<'a>(archive: &mut ZipArchive<Cursor<&'a [u8]>>, bytes: &'a [u8], name: &str) -> Parsed<&'a [u8]> {
    let damaged = |reason: &dyn std::fmt::Display| format!("entry {} of the zip archive: {reason}", printable(name));
    let index = archive.index_for_name(name).ok_or_else(|| damaged(&"missing"))?;
    let raw = archive.by_index_raw(index).map_err(|error| damaged(&error))?;
    if raw.compression() != CompressionMethod::Stored || raw.encrypted() {
        return Err(damaged(&"compressed or encrypted, which torch.save never does"));
    }
    drop(raw);
    let mut entry = archive.by_index(index).map_err(|error| damaged(&error))?;
    let length = std::io::copy(&mut entry, &mut sink()).map_err(|error| damaged(&error))?;
    let content = entry.data_start().and_then(|start| {
        let start = usize::try_from(start).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    });
    content.filter(|_| length == entry.size()).ok_or_else(|| damaged(&"cut off"))
}

// ---- torch.save before 1.6 ----

/// Five pickles (magic number, protocol version, system, the object, storage keys), then the storages in the keys'
/// order: the number of elements as i64, the elements.
fn read_legacy(bytes: &[u8], key: Option<&str>) -> Parsed<Found> {
    let part = |what, start| unpickle(bytes, start).map_err(|error| format!("{what}: {error}"));

    let magic = part("magic number", 0)?;
    if magic.root() != Value::Long(&LEGACY_MAGIC) {
        return Err("it is a pickle, but not one that torch.save wrote: its magic number is missing".into());
    }
    let version = part("protocol version", magic.end())?;
    if version.root() != Value::Int(LEGACY_PROTOCOL) {
        return Err(format!("its torch.save protocol version is not {LEGACY_PROTOCOL}"));
    }
    let system = part("system", version.end())?;
    if system.entry(system.root(), "little_endian") == Some(Value::Bool(false)) {
        return Err("its byte order is big: only little is read".into());
    }
    let object = part("object", system.end())?;
    let keys = part("storage keys", object.end())?;
    let names = keys.sequence(keys.root()).ok_or("its storage keys are no list")?;

    let elements: HashMap<&str, ElementType> =
        object.storages().iter().map(|storage| (storage.key, storage.element)).collect();
    let mut found: HashMap<&str, &[u8]> = HashMap::new();
    let mut at = keys.end();
    for name in names {
        let Value::Text(name) = *name else { return Err(format!("a storage key is {}", name.kind())) };
        let element = elements.get(name).ok_or_else(|| format!("storage {} belongs to no tensor", printable(name)))?;
        let content = legacy_storage(bytes, at, *element)
            .ok_or_else(|| format!("byte {at}: storage {} is cut off", printable(name)))?;
        at += 8 + content.len();
        found.insert(name, content);
    }
    collect(&object, key, bytes.len(), |storage| {
        let missing = || format!("storage {} is missing", printable(storage.key));
        let content = found.get(storage.key).copied().ok_or_else(missing)?;
        // lengths count in elements, so a key of two types would have been cut wrongly above
        if elements.get(storage.key) != Some(&storage.element) {
            return Err(format!("storage {} is used as two types", printable(storage.key)));
        }
        Ok(content)
    })
}

fn legacy_storage(bytes: &[u8], at: usize, element: ElementType) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let count = usize::try_from(i64::from_le_bytes(*rest.first_chunk()?)).ok()?;
    rest.get(8..)?.get(..count.checked_mul(element.size())?)
}

// ---- tensors ----

/// Find the state dict in a pickle and write its tensors out.
fn collect<'p, 'b>(
    pickle: &Unpickled<'p>,
    key: Option<&str>,
    file_bytes: usize,
    mut content: impl FnMut(&Storage<'p>) -> Parsed<&'b [u8]>,
) -> Parsed<Found> {
    let mut budget = file_bytes.saturating_mul(MAX_EXPANSION);
    let chosen = choose(pickle, key)?;
    let mut tensors = StateDict::new();
    for (name, tensor) in tensors_of(pickle, chosen.dict) {
        let values = content(&tensor.storage)
            .and_then(|content| gather(tensor, content, &mut budget))
            .map_err(|reason| format!("tensor {}: {reason}", printable(name)))?;
        tensors.insert(name.to_string(), WeightTensor { shape: tensor.shape.clone(), values });
    }
    Ok(Found { tensors, key: chosen.key, others: chosen.others })
}

/// The dict of a pickle that is its state dict.
struct Chosen<'p> {
    dict: Value<'p>,
    key: Option<String>,
    others: Vec<String>,
}

fn choose<'p>(pickle: &Unpickled<'p>, key: Option<&str>) -> Parsed<Chosen<'p>> {
    let root = pickle.root();
    let entries = pickle.dict(root).ok_or_else(|| match pickle.foreign_class(root) {
        Some(class) => whole_model(&class),
        None => format!("it holds {}, not a dict of tensors", root.kind()),
    })?;
    let keys = match key {
        Some(key) => vec![key],
        None => STATE_DICT_KEYS.to_vec(),
    };
    let mut with_tensors = keys.into_iter().filter_map(|key| {
        let dict = inner(pickle, pickle.entry(root, key)?, MAX_DEPTH)?;
        Some((key.to_owned(), dict))
    });
    if let Some((key, dict)) = with_tensors.next() {
        return Ok(Chosen { dict, key: Some(key), others: with_tensors.map(|(key, _)| key).collect() });
    }
    if key.is_none() && tensors_of(pickle, root).next().is_some() {
        return Ok(Chosen { dict: root, key: None, others: Vec::new() });
    }
    let text = |(name, value): &(Value<'p>, Value<'p>)| match name {
        Value::Text(name) => Some((printable(name), *value)),
        _ => None,
    };
    let mut names: Vec<String> = Vec::new();
    let mut class = None;
    for (name, value) in entries.iter().filter_map(text) {
        let is_weights = STATE_DICT_KEYS.contains(&name.as_str()) || key == Some(name.as_str());
        let found = pickle.foreign_class(value);
        names.push(found.as_ref().map_or_else(|| name.clone(), |found| format!("{name} (a {found})")));
        class = class.or_else(|| found.filter(|_| is_weights));
    }
    let optimizer = if names == ["state", "param_groups"] { ", as of an optimizer" } else { "" };
    let more = names.len().saturating_sub(KEYS_SHOWN);
    names.truncate(KEYS_SHOWN);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    let keys = names.join(", ");
    if let Some(class) = class {
        return Err(format!("{}; its keys are [{keys}]", whole_model(&class)));
    }
    Err(match key {
        Some(key) => format!("it holds no tensors under {}: its keys are [{keys}]", printable(key)),
        None => format!(
            "it holds no tensors at its top level, nor in a dict under {} or another usual key: its keys are \
             [{keys}]{optimizer}; --state-dict KEY names the one with the weights",
            STATE_DICT_KEYS.get(..4).unwrap_or_default().join(", ")
        ),
    })
}

fn whole_model(class: &str) -> String {
    format!(
        "it holds a {class}, a whole model pickled together with its code, which is not run: where that code is, save the \
         weights with torch.save(model.state_dict(), …) or as .safetensors"
    )
}

/// This dict where it has tensors, else one under a usual key of it.
fn inner<'p>(pickle: &Unpickled<'p>, dict: Value<'p>, depth: usize) -> Option<Value<'p>> {
    if tensors_of(pickle, dict).next().is_some() {
        return Some(dict);
    }
    let depth = depth.checked_sub(1)?;
    STATE_DICT_KEYS.iter().find_map(|key| inner(pickle, pickle.entry(dict, key)?, depth))
}

fn tensors_of<'u, 'p>(
    pickle: &'u Unpickled<'p>,
    dict: Value<'p>,
) -> impl Iterator<Item = (&'p str, &'u TensorView<'p>)> {
    pickle.dict(dict).unwrap_or_default().iter().filter_map(|(name, value)| match name {
        Value::Text(name) => pickle.tensor(*value).map(|tensor| (*name, tensor)),
        _ => None,
    })
}

/// Write a view out as contiguous values. `budget` is what may still be written, in bytes.
fn gather(tensor: &TensorView<'_>, content: &[u8], budget: &mut usize) -> Parsed<Vec<f32>> {
    let Storage { key, element, elements, part } = tensor.storage;
    let size = element.size();
    let whole = elements.checked_mul(size).and_then(|length| content.get(..length)).ok_or_else(|| {
        let key = printable(key);
        format!("storage {key} should hold {elements} elements of {size} bytes, and has {} bytes", content.len())
    })?;
    let outside = || format!("shape {:?} with strides {:?} lies outside its storage", tensor.shape, tensor.strides);
    let storage = match part {
        None => whole,
        Some((first, count)) => {
            let range = || Some(first.checked_mul(size)?..first.checked_add(count)?.checked_mul(size)?);
            range().and_then(|range| whole.get(range)).ok_or_else(outside)?
        }
    };

    let total =
        tensor.shape.iter().try_fold(1_usize, |total, length| total.checked_mul(*length)).ok_or_else(outside)?;
    if total == 0 {
        return Ok(Vec::new());
    }
    let reach = |at: usize, (length, stride): (&usize, &usize)| at.checked_add((length - 1).checked_mul(*stride)?);
    let last = tensor.shape.iter().zip(&tensor.strides).try_fold(tensor.offset, reach).ok_or_else(outside)?;
    if last >= storage.len() / size {
        return Err(outside());
    }
    *budget = total.checked_mul(4).and_then(|bytes| budget.checked_sub(bytes)).ok_or_else(|| {
        format!("shape {:?} makes the tensors more than {MAX_EXPANSION} times as large as the file", tensor.shape)
    })?;

    if is_contiguous(tensor) {
        let range = tensor.offset * size..(last + 1) * size;
        return Ok(decode(storage.get(range).ok_or_else(outside)?, element));
    }
    let read = reader(element);
    let mut values = Vec::with_capacity(total);
    let mut index = vec![0_usize; tensor.shape.len()];
    let mut at = tensor.offset;
    for _ in 0..total {
        values.push(read(storage.get(at * size..(at + 1) * size).ok_or_else(outside)?));
        // count up like an odometer, the last axis fastest
        for ((index, length), stride) in index.iter_mut().zip(&tensor.shape).zip(&tensor.strides).rev() {
            *index += 1;
            if *index < *length {
                at += stride;
                break;
            }
            at -= (length - 1) * stride;
            *index = 0;
        }
    }
    Ok(values)
}

fn is_contiguous(tensor: &TensorView<'_>) -> bool {
    let mut expected = 1_usize;
    tensor.shape.iter().zip(&tensor.strides).rev().all(|(length, stride)| {
        // the stride of an axis of length 1 is never walked
        let fits = *length == 1 || *stride == expected;
        expected = expected.saturating_mul(*length);
        fits
    })
}

fn decode(bytes: &[u8], element: ElementType) -> Vec<f32> {
    bytes.chunks_exact(element.size()).map(reader(element)).collect()
}

/// How one element becomes an `f32`; the slice has the element's size.
fn reader(element: ElementType) -> fn(&[u8]) -> f32 {
    match element {
        ElementType::F64 => |bytes| f64::from_le_bytes(array(bytes)) as f32,
        ElementType::F32 => |bytes| f32::from_le_bytes(array(bytes)),
        ElementType::F16 => |bytes| half(u16::from_le_bytes(array(bytes))),
        ElementType::Bf16 => |bytes| f32::from_bits(u32::from(u16::from_le_bytes(array(bytes))) << 16),
        ElementType::I64 => |bytes| i64::from_le_bytes(array(bytes)) as f32,
        ElementType::I32 => |bytes| i32::from_le_bytes(array(bytes)) as f32,
        ElementType::I16 => |bytes| i16::from_le_bytes(array(bytes)).into(),
        ElementType::I8 => |bytes| i8::from_le_bytes(array(bytes)).into(),
        ElementType::U8 => |bytes| u8::from_le_bytes(array(bytes)).into(),
        ElementType::Bool => |bytes| f32::from(u8::from_le_bytes(array(bytes)) != 0),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// IEEE 754 half precision, every value exact.
fn half(bits: u16) -> f32 {
    let (sign, exponent, mantissa) = (u32::from(bits >> 15) << 31, (bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        0 => (f32::from(mantissa) * 2_f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | u32::from(mantissa) << 13,
        _ => u32::from(exponent + 127 - 15) << 23 | u32::from(mantissa) << 13,
    };
    f32::from_bits(sign | magnitude)
}

fn without_wrapper(dict: StateDict) -> StateDict {
    if !dict.keys().all(|name| name.starts_with(WRAPPER_PREFIX)) {
        return dict;
    }
    let strip = |name: &str| name.strip_prefix(WRAPPER_PREFIX).unwrap_or(name).to_string();
    dict.into_iter().map(|(name, tensor)| (strip(&name), tensor)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::formats::pickle::writer::Pickle;

    fn read(bytes: &[u8]) -> Parsed<StateDict> {
        parse(bytes, None).map(|found| found.tensors)
    }

    fn le(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            writer.start_file(format!("archive/{name}"), options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn legacy_of(object: &[u8], storages: &[(&str, usize, &[u8])]) -> Vec<u8> {
        let mut file = Pickle::new().op(&[0x8a, 10]).op(&LEGACY_MAGIC).stop();
        file.extend(Pickle::new().int(1001).stop());
        file.extend(Pickle::new().op(b"}").text("little_endian").op(b"\x88s").stop());
        file.extend(object);
        let keys = storages.iter().fold(Pickle::new().op(b"]("), |keys, (key, _, _)| keys.text(key));
        file.extend(keys.op(b"e").stop());
        for (_, count, content) in storages {
            file.extend(i64::try_from(*count).unwrap().to_le_bytes());
            file.extend(*content);
        }
        file
    }

    const ONE_TO_SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

    /// An OrderedDict with a plain 2×3 tensor, its transpose (3×2, of the same storage) and a scalar integer.
    fn entries(pickle: Pickle, prefix: &str) -> Pickle {
        pickle
            .global("collections", "OrderedDict")
            .op(b")R(")
            .text(&format!("{prefix}a"))
            .tensor("FloatStorage", "0", (6, 0, &[2, 3], &[3, 1]))
            .text(&format!("{prefix}t"))
            .tensor("FloatStorage", "0", (6, 0, &[3, 2], &[1, 3]))
            .text(&format!("{prefix}n"))
            .tensor("LongStorage", "1", (1, 0, &[], &[]))
            .op(b"u}")
            .text("_metadata")
            .op(b")sb")
    }

    fn nested(key: &str, prefix: &str) -> Vec<u8> {
        let pickle = Pickle::new().op(b"}(").text("epoch").int(3).text(key);
        entries(pickle, prefix).op(b"u").stop()
    }

    fn zip_file(pickle: &[u8]) -> Vec<u8> {
        zip_of(&[
            ("data.pkl", pickle),
            ("byteorder", b"little"),
            ("data/0", &le(&ONE_TO_SIX)),
            ("data/1", &7_i64.to_le_bytes()),
            ("version", b"3\n"),
        ])
    }

    fn legacy_file(object: &[u8]) -> Vec<u8> {
        legacy_of(object, &[("0", 6, &le(&ONE_TO_SIX)), ("1", 1, &7_i64.to_le_bytes())])
    }

    fn tensor(shape: &[usize], values: &[f32]) -> WeightTensor {
        WeightTensor { shape: shape.to_vec(), values: values.to_vec() }
    }

    fn expected() -> StateDict {
        StateDict::from([
            ("a".into(), tensor(&[2, 3], &ONE_TO_SIX)),
            ("t".into(), tensor(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])),
            ("n".into(), tensor(&[], &[7.0])),
        ])
    }

    /// The one tensor "w" over storage "0" of a zip file.
    fn one(class: &str, content: &[u8], view: (i32, i32, &[i32], &[i32])) -> Parsed<WeightTensor> {
        let pickle = Pickle::new().op(b"}").text("w").tensor(class, "0", view).op(b"s").stop();
        read(&zip_of(&[("data.pkl", &pickle), ("data/0", content)])).map(|mut dict| dict.remove("w").unwrap())
    }

    #[track_caller]
    fn refused(bytes: &[u8], why: &str) {
        let reason = read(bytes).unwrap_err();
        assert!(reason.contains(why), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");
    }

    #[test]
    fn both_torch_layouts_give_the_same_tensors_views_included() {
        let pickle = entries(Pickle::new(), "").stop();
        assert_eq!(read(&zip_file(&pickle)).unwrap(), expected());
        assert_eq!(read(&legacy_file(&pickle)).unwrap(), expected());
    }

    #[test]
    fn a_nested_state_dict_is_found_and_unwrapped() {
        for key in STATE_DICT_KEYS {
            assert_eq!(read(&zip_file(&nested(key, "module."))).unwrap(), expected());
            assert_eq!(read(&legacy_file(&nested(key, ""))).unwrap(), expected());
        }
        refused(
            &zip_file(&nested("mine", "")),
            "its keys are [epoch, mine]; --state-dict KEY names the one with the weights",
        );
        let found = parse(&zip_file(&nested("mine", "")), Some("mine")).unwrap();
        assert_eq!((found.tensors, found.key.as_deref()), (expected(), Some("mine")));
        let reason = parse(&zip_file(&nested("mine", "")), Some("epoch")).unwrap_err();
        assert!(reason.contains("no tensors under epoch: its keys are [epoch, mine]"), "{reason}");
        refused(&zip_file(&Pickle::new().op(b"]").stop()), "holds a list, not a dict");
    }

    #[test]
    fn the_trained_network_comes_before_averages_which_are_named() {
        let pickle = Pickle::new().op(b"}(").text("state_dict_ema");
        let pickle = entries(pickle, "b.").text("state_dict");
        let bytes = zip_file(&entries(pickle, "").op(b"u").stop());
        let found = parse(&bytes, None).unwrap();
        let from = (found.key.as_deref(), found.others.as_slice());
        assert_eq!(
            (found.tensors.clone(), from),
            (expected(), (Some("state_dict"), &["state_dict_ema".to_owned()][..]))
        );
        assert!(parse(&bytes, Some("state_dict_ema")).unwrap().tensors.contains_key("b.a"));
        // a dict in a dict
        let pickle = Pickle::new().op(b"}(").text("epoch").int(3).text("ema").op(b"}").text("model");
        assert_eq!(read(&zip_file(&entries(pickle, "").op(b"su").stop())).unwrap(), expected());
    }

    #[test]
    fn a_whole_model_an_optimizer_and_training_state_are_named() {
        let model = |pickle: Pickle| pickle.global("models.yolo", "DetectionModel").op(b")\x81}b");
        let bytes = model(Pickle::new().op(b"}(").text("epoch").int(3).text("model")).op(b"u").stop();
        refused(
            &zip_file(&bytes),
            "it holds a models.yolo.DetectionModel, a whole model pickled together with its code",
        );
        refused(&zip_file(&bytes), "its keys are [epoch, model (a models.yolo.DetectionModel)]");
        refused(&zip_file(&model(Pickle::new()).stop()), "it holds a models.yolo.DetectionModel, a whole model");
        let optimizer = Pickle::new().op(b"}(").text("state").op(b"}").text("param_groups").op(b"]u").stop();
        refused(&zip_file(&optimizer), "its keys are [state, param_groups], as of an optimizer");
        // what stands beside the weights is passed over
        let beside = Pickle::new().op(b"}(").text("hyper_parameters");
        let beside =
            beside.global("pytorch_lightning.utilities.parsing", "AttributeDict").op(b")\x81").text("state_dict");
        assert_eq!(read(&zip_file(&entries(beside, "").op(b"u").stop())).unwrap(), expected());
    }

    #[test]
    fn module_stays_where_not_every_name_has_it() {
        let dict = StateDict::from([("module.a".into(), tensor(&[], &[1.0])), ("b".into(), tensor(&[], &[2.0]))]);
        assert_eq!(without_wrapper(dict.clone()), dict);
    }

    #[test]
    fn safetensors_and_its_types() {
        let header = concat!(
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
            r#""h":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}"#
        );
        let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(le(&[1.5, -2.5]));
        bytes.extend(0x3c00_u16.to_le_bytes());
        let dict = read(&bytes).unwrap();
        assert_eq!(
            dict,
            StateDict::from([("w".into(), tensor(&[2], &[1.5, -2.5])), ("h".into(), tensor(&[1], &[1.0]))])
        );
        refused(&bytes[..bytes.len() - 1], "as safetensors");
        refused(&bytes[..20], "as safetensors");
    }

    #[test]
    fn the_content_decides_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, legacy_file(&nested("net", "module."))).unwrap();
        assert_eq!(read_state_dict(&path).unwrap(), expected());
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
        let error = read_state_dict(&path).unwrap_err().to_string();
        assert!(error.contains("weights.safetensors") && error.contains("begins with \"version https"), "{error}");
        assert!(matches!(read_state_dict(&folder.path().join("none")), Err(Error::MissingPath { .. })));
    }

    #[test]
    fn every_type_becomes_f32() {
        let view = (2, 0, &[2][..], &[1][..]);
        let check = |class, content: &[u8], values: [f32; 2]| {
            assert_eq!(one(class, content, view).unwrap(), tensor(&[2], &values), "{class}");
        };
        check("DoubleStorage", &[0.5_f64.to_le_bytes(), (-8.0_f64).to_le_bytes()].concat(), [0.5, -8.0]);
        check("HalfStorage", &[0x3555_u16.to_le_bytes(), 0xc000_u16.to_le_bytes()].concat(), [0.333_251_95, -2.0]);
        check("BFloat16Storage", &[0x3f80_u16.to_le_bytes(), 0xc040_u16.to_le_bytes()].concat(), [1.0, -3.0]);
        check("IntStorage", &[(-5_i32).to_le_bytes(), 6_i32.to_le_bytes()].concat(), [-5.0, 6.0]);
        check("ShortStorage", &[(-5_i16).to_le_bytes(), 6_i16.to_le_bytes()].concat(), [-5.0, 6.0]);
        check("CharStorage", &[0xff, 1], [-1.0, 1.0]);
        check("ByteStorage", &[0xff, 1], [255.0, 1.0]);
        check("BoolStorage", &[0, 1], [0.0, 1.0]);
    }

    #[test]
    fn half_precision_is_exact() {
        assert_eq!(half(0x0001), 2_f32.powi(-24));
        assert_eq!(half(0x03ff), 1023.0 * 2_f32.powi(-24));
        assert_eq!(half(0x0400), 2_f32.powi(-14));
        assert_eq!(half(0x7bff), 65504.0);
        assert_eq!(half(0xfc00), f32::NEG_INFINITY);
        assert_eq!(half(0x8000).to_bits(), (-0.0_f32).to_bits());
        assert!(half(0x7e00).is_nan());
        // the finite positive ones rise with their bits
        assert!((0..0x7c00_u16).all(|bits| half(bits) < half(bits + 1)));
    }

    #[test]
    fn views_are_read_where_they_lie() {
        let content = le(&ONE_TO_SIX);
        let view = |view| one("FloatStorage", &content, view).unwrap().values;
        assert_eq!(view((6, 2, &[2], &[1])), [3.0, 4.0]);
        assert_eq!(view((6, 1, &[2], &[3])), [2.0, 5.0]);
        assert_eq!(view((6, 4, &[3, 2], &[0, 1])), [5.0, 6.0, 5.0, 6.0, 5.0, 6.0]);
        assert_eq!(view((6, 0, &[1, 3, 1], &[99, 2, 77])), [1.0, 3.0, 5.0]);
        assert!(view((6, 9, &[0, 3], &[3, 1])).is_empty());
    }

    #[test]
    fn a_part_of_a_legacy_storage() {
        let object = Pickle::new()
            .op(b"}")
            .text("w")
            .global("torch._utils", "_rebuild_tensor")
            .op(b"((")
            .text("storage")
            .global("torch", "FloatStorage")
            .text("0")
            .text("cpu")
            .int(6)
            .op(b"(")
            .text("part")
            .int(2)
            .int(3)
            .op(b"ttQ")
            .int(1)
            .ints(&[2])
            .ints(&[1])
            .op(b"tRs")
            .stop();
        let dict = read(&legacy_of(&object, &[("0", 6, &le(&ONE_TO_SIX))])).unwrap();
        assert_eq!(dict["w"].values, [4.0, 5.0]);
    }

    #[test]
    fn claims_beyond_the_file_are_refused() {
        let content = le(&ONE_TO_SIX);
        let refused = |view, why: &str| {
            let reason = one("FloatStorage", &content, view).unwrap_err();
            assert!(reason.starts_with("tensor w: ") && reason.contains(why), "{reason}");
        };
        refused((7, 0, &[7], &[1]), "should hold 7 elements of 4 bytes, and has 24 bytes");
        refused((6, 0, &[7], &[1]), "outside its storage");
        refused((6, 1, &[2, 3], &[3, 1]), "outside its storage");
        refused((6, 0, &[2, 3], &[i32::MAX, 1]), "outside its storage");
        refused((6, 0, &[i32::MAX; 3], &[0; 3]), "outside its storage");
        refused((6, 0, &[i32::MAX], &[0]), "more than 16 times as large as the file");
    }

    #[test]
    fn a_pickle_that_acts_is_refused_in_every_layout() {
        let attack = Pickle::new().global("posix", "system").text("touch /tmp/owned").op(b"\x85R").stop();
        for bytes in [attack.clone(), zip_file(&attack), legacy_file(&attack)] {
            refused(
                &bytes,
                "asks for class posix.system, which acts on the machine and is no part of weights: nothing was executed",
            );
        }
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        refused(b"", "the file is empty");
        refused(&Pickle::new().op(b"}").stop(), "not one that torch.save wrote");
        refused(&Pickle::new().op(b"\x8a\x0a0123456789").stop(), "not one that torch.save wrote");
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        refused(&tar, "PyTorch before 0.1.10");
        refused(&zip_of(&[("readme", b"")]), "no data.pkl");
        refused(&zip_of(&[("data.pkl", b""), ("constants.pkl", b"")]), "TorchScript");
        refused(&zip_of(&[("data.pkl", b""), ("byteorder", b"big")]), "its byte order is \"big\"");
        refused(
            &zip_of(&[("data.pkl", &entries(Pickle::new(), "").stop())]),
            "entry archive/data/0 of the zip archive: missing",
        );
        let wrong_order = [
            Pickle::new().op(&[0x8a, 10]).op(&LEGACY_MAGIC).stop(),
            Pickle::new().int(1001).stop(),
            Pickle::new().op(b"}").text("little_endian").op(b"\x89s").stop(),
        ];
        refused(&wrong_order.concat(), "byte order is big");
    }

    #[test]
    fn a_changed_storage_fails_its_checksum() {
        let mut bytes = zip_file(&entries(Pickle::new(), "").stop());
        let storage = le(&ONE_TO_SIX);
        let at = bytes.windows(storage.len()).position(|window| window == storage).unwrap();
        bytes[at] ^= 1;
        refused(&bytes, "entry archive/data/0");
    }

    /// Numbers that are the same in every run (Knuth's MMIX constants).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % bound
        }

        fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut bytes = bytes.to_vec();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len());
                match self.below(4) {
                    0 => bytes[at] ^= 1 << self.below(8),
                    1 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                    2 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                    _ => drop(bytes.splice(at..at, [b"()tQRcbu"[self.below(8)]])),
                }
            }
            if self.below(4) == 0 {
                bytes.truncate(self.below(bytes.len()));
            }
            bytes
        }
    }

    #[test]
    fn mutated_files_are_read_or_refused_and_never_panic() {
        let pickle = nested("state_dict", "module.");
        let (zip, legacy) = (zip_file(&pickle), legacy_file(&pickle));
        let mut dice = Dice(20);
        let mut read = 0;
        for _ in 0..4000 {
            read += usize::from(parse(&dice.mutate(&legacy), None).is_ok());
            read += usize::from(parse(&dice.mutate(&zip), None).is_ok());
            // the checksum would hide most changes to the pickle, so change it before it is packed
            read += usize::from(parse(&zip_file(&dice.mutate(&pickle)), None).is_ok());
        }
        assert!((1..12_000).contains(&read), "{read} of 12000 were read: the mutations test nothing");
        for end in 0..legacy.len() {
            assert!(parse(&legacy[..end], None).is_err());
        }
        for end in 0..zip.len() {
            assert!(parse(&zip[..end], None).is_err());
        }
    }

    #[test]
    fn sha256_in_hex() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        assert!(matches!(sha256_file(&folder.path().join("none")), Err(Error::MissingPath { .. })));
    }
}
