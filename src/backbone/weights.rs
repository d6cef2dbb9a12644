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
use std::sync::Arc;

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
    /// As many as the product of `shape`, the last axis fastest; as the file has them, NaN and infinity included. A clone
    /// shares them.
    pub values: Arc<Vec<f32>>,
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
        dict.insert(name.to_string(), WeightTensor { shape: tensor.shape().to_vec(), values: values.into() });
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
        tensors.insert(name.to_string(), WeightTensor { shape: tensor.shape.clone(), values: values.into() });
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
mod tests;
