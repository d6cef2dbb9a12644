//! Arrays of numbers, n × d, out of NumPy's `.npy` and Hugging Face's safetensors files: what their heads say, and their bytes as
//! f32. Layouts: NumPy's "NEP 1"; "Safetensors, Format".

use std::io::{self, Read};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// No head is longer.
const MAX_HEAD: usize = 100 << 20;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F16,
    BF16,
    F32,
    F64,
}

impl Kind {
    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

/// An array of n × d numbers in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) kind: Kind,
    is_big_endian: bool,
    pub(crate) rows: u64,
    pub(crate) width: usize,
    /// Where its numbers begin, counted from the beginning of what was read.
    pub(crate) at: u64,
}

impl Array {
    fn of(kind: Kind, is_big_endian: bool, shape: &[u64], at: u64) -> Result<Self, String> {
        let [rows, width @ 1..=65_536] = *shape else {
            return Err(format!("its shape is {shape:?}, and embeddings are n × d, d from 1 to 65,536"));
        };
        Ok(Self { kind, is_big_endian, rows, width: width as usize, at })
    }

    /// Bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.width * self.kind.size()
    }

    /// Append its numbers, whole rows of which are in `bytes`.
    pub(crate) fn numbers(&self, bytes: &[u8], into: &mut Vec<f32>) {
        let each = bytes.chunks_exact(self.kind.size());
        let order = |bytes: &[u8]| {
            let mut number = [0; 8];
            number[..bytes.len()].copy_from_slice(bytes);
            if self.is_big_endian {
                number[..bytes.len()].reverse();
            }
            u64::from_le_bytes(number)
        };
        match self.kind {
            Kind::F16 => into.extend(each.map(|bytes| f16::from_bits(order(bytes) as u16).to_f32())),
            Kind::BF16 => into.extend(each.map(|bytes| bf16::from_bits(order(bytes) as u16).to_f32())),
            Kind::F32 => into.extend(each.map(|bytes| f32::from_bits(order(bytes) as u32))),
            Kind::F64 => into.extend(each.map(|bytes| f64::from_bits(order(bytes)) as f32)),
        }
    }
}

/// The array of an `.npy` file.
pub(crate) fn npy(from: &mut impl Read) -> Result<Array, String> {
    let text = |error: io::Error| error.to_string();
    let mut head = [0; 8];
    from.read_exact(&mut head).map_err(|_| "it is too short for a .npy file")?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err("it is no .npy file: it does not begin as one".into());
    }
    let length_bytes = if head[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    from.read_exact(&mut length[..length_bytes]).map_err(text)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEAD {
        return Err(format!("its head is {length} bytes long"));
    }
    let mut dict = Vec::new();
    from.take(length as u64).read_to_end(&mut dict).map_err(text)?;
    let dict = String::from_utf8_lossy(&dict);
    // a dict of Python's: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
    let after =
        |key: &str| dict.split_once(key).map(|(_, rest)| rest.trim_start().trim_start_matches(':').trim_start());
    let descr = after("'descr'").and_then(|rest| rest.strip_prefix('\'')).and_then(|rest| rest.split('\'').next());
    let Some(descr) = descr else {
        return Err("its numbers are of several kinds: save the embeddings by themselves".into());
    };
    let kind = match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f2" => Kind::F16,
        "f4" => Kind::F32,
        "f8" => Kind::F64,
        // as ml_dtypes saves it
        "V2" | "bfloat16" => Kind::BF16,
        other => return Err(format!("its numbers are of type '{other}', and embeddings are f2, f4, f8 or bfloat16")),
    };
    if after("'fortran_order'").is_some_and(|rest| rest.starts_with("True")) {
        return Err("it is in Fortran order: save np.ascontiguousarray(x)".into());
    }
    let shape = after("'shape'").and_then(|rest| rest.strip_prefix('(')).and_then(|rest| rest.split(')').next());
    let shape = shape.unwrap_or_default().split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape: Vec<u64> = shape
        .map(|side| side.parse().map_err(|_| format!("its shape has a side '{side}'")))
        .collect::<Result<_, _>>()?;
    Array::of(kind, descr.starts_with('>'), &shape, (8 + length_bytes + length) as u64)
}

/// An array by its name, or why it is none of n × d.
pub(crate) type Named = (String, Result<Array, String>);

/// The arrays of a safetensors file.
pub(crate) fn safetensors(from: &mut impl Read) -> Result<Vec<Named>, String> {
    let mut head = vec![0; 8];
    from.read_exact(&mut head).map_err(|_| "it is too short for a safetensors file")?;
    let length = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
    if length > MAX_HEAD as u64 {
        return Err(format!("its head is {length} bytes long: it is no safetensors file"));
    }
    from.take(length).read_to_end(&mut head).map_err(|error| error.to_string())?;
    let about: Metadata = serde_json::from_slice(&head[8..])
        .map_err(|error| format!("its head is none of a safetensors file: {error}"))?;
    let mut arrays: Vec<_> = about
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let kind = match tensor.dtype {
                Dtype::F16 => Ok(Kind::F16),
                Dtype::BF16 => Ok(Kind::BF16),
                Dtype::F32 => Ok(Kind::F32),
                Dtype::F64 => Ok(Kind::F64),
                other => Err(format!("its numbers are of type {other:?}")),
            };
            let shape: Vec<u64> = tensor.shape.iter().map(|side| *side as u64).collect();
            let at = 8 + length + tensor.data_offsets.0 as u64;
            (name, kind.and_then(|kind| Array::of(kind, false, &shape, at)))
        })
        .collect();
    arrays.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy_of(dict: &str, data: &[u8]) -> Vec<u8> {
        let head = (dict.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &head, dict.as_bytes(), data].concat()
    }

    #[test]
    fn numpy_arrays_are_read_in_every_type_and_order() {
        let numbers = [1.5f32, -2.0, 0.25, 3.0, 0.0, -0.5];
        let kinds: [(&str, Vec<u8>); 6] = [
            ("<f4", numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
            (">f4", numbers.iter().flat_map(|number| number.to_be_bytes()).collect()),
            ("<f8", numbers.iter().flat_map(|number| f64::from(*number).to_le_bytes()).collect()),
            (">f8", numbers.iter().flat_map(|number| f64::from(*number).to_be_bytes()).collect()),
            ("<f2", numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect()),
            ("<V2", numbers.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes()).collect()),
        ];
        for (descr, data) in kinds {
            let file = npy_of(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2, 3), }}  \n"), &data);
            let array = npy(&mut file.as_slice()).unwrap();
            assert_eq!((array.rows, array.width), (2, 3), "{descr}");
            let mut found = Vec::new();
            array.numbers(&file[array.at as usize..], &mut found);
            assert_eq!(found, numbers, "{descr}");
        }
    }

    #[test]
    fn other_arrays_are_refused_by_what_they_are() {
        for (dict, why) in [
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "Fortran order"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", "its shape is [6]"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), }", "its shape is [2, 0]"),
            ("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }", "of type 'i8'"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "of several kinds"),
        ] {
            let error = npy(&mut npy_of(dict, &[]).as_slice()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(npy(&mut b"PK\x03\x04xxxxxx".as_slice()).unwrap_err().contains("no .npy file"));
        assert!(npy(&mut b"\x93NUM".as_slice()).unwrap_err().contains("too short"));
        assert!(safetensors(&mut [255u8; 16].as_slice()).unwrap_err().contains("no safetensors file"));
    }

    #[test]
    fn safetensors_are_read_by_name() {
        let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let view = |shape: Vec<usize>| safetensors::tensor::TensorView::new(Dtype::F32, shape, &data).unwrap();
        let tensors = [("embeddings".to_string(), view(vec![2, 2])), ("labels".to_string(), view(vec![4]))];
        let file = ::safetensors::serialize(tensors, None).unwrap();
        let arrays = safetensors(&mut file.as_slice()).unwrap();
        assert_eq!(arrays[1].0, "labels");
        assert!(arrays[1].1.as_ref().unwrap_err().contains("its shape is [4]"));
        let array = arrays[0].1.clone().unwrap();
        let mut found = Vec::new();
        array.numbers(&file[array.at as usize..][..2 * array.row_bytes()], &mut found);
        assert_eq!(found, [1.0, 2.0, 3.0, 4.0]);
    }
}
