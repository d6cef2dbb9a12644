//! What a pickle of weights or of arrays says, without doing what it says.
//!
//! Promises: no name in the pickle is ever imported or called; a class outside one table is refused by name; memory
//! and time are linear in the pickle's length, and no input panics.
//!
//! How: a small stack machine for the binary opcodes of protocols 2 to 5. Containers live in one arena and values are
//! handles into it, so a pickle nested a million deep needs no recursion, neither to read nor to drop, and one that
//! contains itself is no leak. A tensor stays a description (storage, offset, shape, strides): its numbers lie outside
//! the pickle, and the reader of weights finds and checks them. Of NumPy's arrays the shape and the bytes are kept.
//!
//! Not for: objects in general, the text opcodes of protocols 0 and 1, whole models pickled with their code.

use std::borrow::Cow;
use std::collections::HashMap;

/// Far above real state dicts (some twenty opcodes per tensor), low enough that the arena stays below about 1 GB.
const MAX_OPCODES: usize = 1 << 24;
/// PyTorch itself stops at 64.
const MAX_RANK: usize = 64;

/// How the numbers of a storage lie on disk, always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl ElementType {
    /// Bytes per element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// What a name in the pickle stands for here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    OrderedDict,
    RebuildTensor,
    /// `Parameter(tensor, …)`: stands for its tensor.
    RebuildParameter,
    Storage(ElementType),
    /// `torch.Size(tuple)`: stands for its tuple.
    Size,
    /// `_reconstruct(ndarray, …)`: an array, whose shape and bytes come with BUILD.
    Array,
    /// `encode(text, "latin1")`: how protocol 2 of Python 3 spells bytes.
    Encode,
    /// Training state beside the weights: its arguments are read, dropped, and never looked into.
    Opaque,
}

/// The only names that are let through. All others, above all functions that act, are refused.
const CLASSES: [(&str, &str, Role); 35] = [
    ("collections", "OrderedDict", Role::OrderedDict),
    ("torch._utils", "_rebuild_tensor", Role::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Role::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Role::RebuildParameter),
    ("torch", "DoubleStorage", Role::Storage(ElementType::F64)),
    ("torch", "FloatStorage", Role::Storage(ElementType::F32)),
    ("torch", "HalfStorage", Role::Storage(ElementType::F16)),
    ("torch", "BFloat16Storage", Role::Storage(ElementType::Bf16)),
    ("torch", "LongStorage", Role::Storage(ElementType::I64)),
    ("torch", "IntStorage", Role::Storage(ElementType::I32)),
    ("torch", "ShortStorage", Role::Storage(ElementType::I16)),
    ("torch", "CharStorage", Role::Storage(ElementType::I8)),
    ("torch", "ByteStorage", Role::Storage(ElementType::U8)),
    ("torch", "BoolStorage", Role::Storage(ElementType::Bool)),
    ("torch", "Size", Role::Size),
    ("torch", "device", Role::Opaque),
    ("torch", "float64", Role::Opaque),
    ("torch", "float32", Role::Opaque),
    ("torch", "float16", Role::Opaque),
    ("torch", "bfloat16", Role::Opaque),
    ("torch", "int64", Role::Opaque),
    ("torch.serialization", "_get_layout", Role::Opaque),
    ("argparse", "Namespace", Role::Opaque),
    ("collections", "defaultdict", Role::Opaque),
    ("builtins", "set", Role::Opaque),
    ("__builtin__", "set", Role::Opaque),
    ("builtins", "dict", Role::Opaque), // the argument of defaultdict(dict), in optimizer states
    ("__builtin__", "dict", Role::Opaque),
    ("_codecs", "encode", Role::Encode),
    ("numpy", "dtype", Role::Opaque),
    ("numpy", "ndarray", Role::Opaque),
    ("numpy.core.multiarray", "scalar", Role::Opaque),
    ("numpy.core.multiarray", "_reconstruct", Role::Array),
    ("numpy._core.multiarray", "scalar", Role::Opaque), // the same two since NumPy 2
    ("numpy._core.multiarray", "_reconstruct", Role::Array),
];

/// Why a pickle is refused, and the offset of the opcode, counted from the start of the bytes given to [`unpickle`].
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("byte {offset}: {fault}")]
pub(crate) struct PickleError {
    pub(crate) offset: usize,
    pub(crate) fault: Fault,
}

/// The reasons themselves.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it is cut off here")]
    Truncated,
    #[error("it is of protocol {0}, and 2 to 5 are read")]
    Protocol(u8),
    #[error("unknown opcode 0x{0:02x}")]
    UnknownOpcode(u8),
    #[error("it has more than {MAX_OPCODES} opcodes, or asks for more copies than it has bytes")]
    TooLong,
    #[error("a value is taken off an empty stack")]
    EmptyStack,
    #[error("memo entry {0} was never stored")]
    UnknownMemo(u32),
    #[error("a negative length")]
    NegativeLength,
    #[error("a text that is not UTF-8")]
    NotUtf8,
    #[error(
        "the pickle asks for class {0}, which is not part of a state dict or an array: nothing was executed; save \
         weights with torch.save(model.state_dict(), …) or as .safetensors"
    )]
    ForbiddenClass(String),
    #[error("{operation} does not take {found}")]
    WrongOperand { operation: &'static str, found: &'static str },
    #[error("a malformed storage reference")]
    BadStorage,
    #[error("a malformed tensor")]
    BadTensor,
}

type Result<T, E = Fault> = std::result::Result<T, E>;

/// One value: a scalar, a slice of the pickle, or a handle into the arena of [`Unpickled`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer too long for an `i64`: little-endian two's complement.
    Long(&'a [u8]),
    Text(&'a str),
    List(usize),
    Tuple(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
    /// An index into [`CLASSES`].
    Class(usize),
    /// Bytes, or a Python 2 `str` that is no text.
    Bytes(&'a [u8]),
    /// Bytes, spelled as a text whose characters they are.
    Latin1(&'a str),
    /// A NumPy array.
    Array(usize),
    /// A float, a set, or an instance of a harmless class: there, and not looked into.
    Opaque,
}

impl Value<'_> {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::Long(_) => "an int",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Class(_) => "a class",
            Self::Bytes(_) | Self::Latin1(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Opaque => "a value that is no tensor",
        }
    }
}

/// A storage that tensors refer to by key; its numbers lie outside the pickle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Storage<'a> {
    pub(crate) key: &'a str,
    pub(crate) element: ElementType,
    /// The length that the pickle claims, in elements: not to be trusted.
    pub(crate) elements: usize,
    /// Legacy files only: the part of it that is meant, as first element and length, in elements.
    pub(crate) part: Option<(usize, usize)>,
}

/// A view of a storage: offset and strides in elements, all as the pickle claims them, none checked against the storage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorView<'a> {
    pub(crate) storage: Storage<'a>,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    /// As long as `shape`.
    pub(crate) strides: Vec<usize>,
}

/// What a pickle holds: its root, and the arena that the root's handles point into.
#[derive(Debug, Default)]
pub(crate) struct Unpickled<'a> {
    root: Option<Value<'a>>,
    end: usize,
    /// Lists and tuples.
    sequences: Vec<Vec<Value<'a>>>,
    /// Entries in the order they were set: of equal keys the last counts.
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<TensorView<'a>>,
    /// Version, shape, type, order and bytes, as NumPy's `__setstate__` takes them; a tuple, or None before BUILD.
    arrays: Vec<Value<'a>>,
}

impl<'a> Unpickled<'a> {
    /// The object that was pickled.
    pub(crate) fn root(&self) -> Value<'a> {
        self.root.unwrap_or(Value::None)
    }

    /// The offset just after the pickle.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// The elements of a list or tuple; `None` for everything else.
    pub(crate) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::List(id) | Value::Tuple(id) => self.sequences.get(id).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The entries of a dict; `None` for everything else.
    pub(crate) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Dict(id) => self.dicts.get(id).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The value under a text key of a dict.
    pub(crate) fn entry(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        self.dict(dict)?.iter().rev().find(|(name, _)| *name == Value::Text(key)).map(|(_, value)| *value)
    }

    /// The description of a tensor; `None` for everything else.
    pub(crate) fn tensor(&self, value: Value<'a>) -> Option<&TensorView<'a>> {
        match value {
            Value::Tensor(id) => self.tensors.get(id),
            _ => None,
        }
    }

    /// Shape and bytes of a NumPy array in C order, as the pickle claims them; `None` for everything else.
    pub(crate) fn array(&self, value: Value<'a>) -> Option<(Vec<usize>, Cow<'a, [u8]>)> {
        let Value::Array(id) = value else { return None };
        let [_version, shape, _type, Value::Bool(false), bytes] = self.sequence(*self.arrays.get(id)?)? else {
            return None;
        };
        let shape = self.sequence(*shape)?.iter().map(|side| length(*side)).collect::<Option<_>>()?;
        match bytes {
            Value::Bytes(bytes) => Some((shape, Cow::Borrowed(*bytes))),
            Value::Text(text) => Some((shape, Cow::Borrowed(text.as_bytes()))), // a Python 2 str that happens to be one
            Value::Latin1(text) => {
                let bytes = text.chars().map(|byte| u8::try_from(u32::from(byte)).ok()).collect::<Option<Vec<u8>>>()?;
                Some((shape, Cow::Owned(bytes)))
            }
            _ => None,
        }
    }

    /// Every storage that the pickle refers to, in its order, repeated where it repeats.
    pub(crate) fn storages(&self) -> &[Storage<'a>] {
        &self.storages
    }
}

/// Read one pickle, from `start` to its STOP opcode.
pub(crate) fn unpickle(bytes: &[u8], start: usize) -> Result<Unpickled<'_>, PickleError> {
    let mut machine = Machine {
        bytes,
        at: start,
        start,
        copied: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Unpickled::default(),
    };
    for _ in 0..MAX_OPCODES {
        let offset = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                machine.heap.root = Some(root);
                machine.heap.end = machine.at;
                return Ok(machine.heap);
            }
            Err(fault) => return Err(PickleError { offset, fault }),
        }
    }
    Err(PickleError { offset: machine.at, fault: Fault::TooLong })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    start: usize,
    /// Entries copied out of lists into dicts, and lengths out of tuples into shapes, held below the bytes read so that
    /// nothing is copied again and again.
    copied: usize,
    stack: Vec<Value<'a>>,
    /// Stack heights at the open MARKs: what lies below the last one is out of reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    heap: Unpickled<'a>,
}

impl<'a> Machine<'a> {
    /// Do one opcode; STOP gives the root. Opcodes as in CPython's Lib/pickle.py.
    fn step(&mut self) -> Result<Option<Value<'a>>> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2..=5 => {}
                protocol => return Err(Fault::Protocol(protocol)),
            },
            0x95 => drop(self.take(8)?), // FRAME: a hint for buffering
            b'.' => return self.pop().map(Some),

            b'(' => self.marks.push(self.stack.len()),
            b'1' => drop(self.pop_mark()?),
            b'0' => drop(self.pop()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => {
                let value = self.byte()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let length = self.byte()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.signed_length()?;
                self.long(length)?;
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Opaque);
            }

            b'X' => {
                let length = self.length4()?;
                self.text(length)?;
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            0x8d => {
                let length = self.length8()?;
                self.text(length)?;
            }
            b'U' => {
                let length = self.byte()?;
                self.string(length.into())?;
            }
            b'T' => {
                let length = self.signed_length()?;
                self.string(length)?;
            }
            b'C' => {
                let length = self.byte()?;
                self.binary(length.into())?;
            }
            b'B' => {
                let length = self.length4()?;
                self.binary(length)?;
            }
            0x8e | 0x96 => {
                let length = self.length8()?;
                self.binary(length)?;
            }

            b')' => self.tuple(Vec::new()),
            0x85 => self.tuple_of(1)?,
            0x86 => self.tuple_of(2)?,
            0x87 => self.tuple_of(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.tuple(items);
            }
            b']' => {
                self.heap.sequences.push(Vec::new());
                self.stack.push(Value::List(self.heap.sequences.len() - 1));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.new_dict(Vec::new()),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            0x8f => self.stack.push(Value::Opaque), // EMPTY_SET
            0x90 => {
                // ADDITEMS
                self.pop_mark()?;
                self.opaque_target("ADDITEMS")?;
            }
            0x91 => {
                // FROZENSET
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
            }

            b'q' => {
                let index = self.byte()?;
                self.memoize(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memoize(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| Fault::TooLong)?;
                self.memoize(index)?;
            }
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }

            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.class(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (module, name) {
                    (Value::Text(module), Value::Text(name)) => self.class(module, name)?,
                    (other, _) => return Err(wrong("STACK_GLOBAL", other)),
                }
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call("REDUCE", callable, arguments)?;
            }
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call("NEWOBJ", class, arguments)?;
            }
            0x92 => {
                let (_keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.call("NEWOBJ_EX", class, arguments)?;
            }
            b'b' => {
                // The state of an object: OrderedDict's is _metadata (versions of modules), an array's its
                // shape and bytes, the others' nobody reads.
                let state = self.pop()?;
                match self.top()? {
                    Value::Array(id) => *self.heap.arrays.get_mut(id).ok_or(Fault::EmptyStack)? = state,
                    Value::Dict(_) | Value::Opaque => {}
                    other => return Err(wrong("BUILD", other)),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            opcode => return Err(Fault::UnknownOpcode(opcode)),
        }
        Ok(None)
    }

    // ---- bytes ----

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Fault::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(Fault::Truncated)?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.first_chunk().copied().ok_or(Fault::Truncated)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Fault::Truncated)
    }

    fn length8(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| Fault::Truncated)
    }

    fn signed_length(&mut self) -> Result<usize> {
        usize::try_from(i32::from_le_bytes(self.array()?)).map_err(|_| Fault::NegativeLength)
    }

    /// A line of GLOBAL, without its end.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).ok_or(Fault::Truncated)?;
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::Truncated)?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| Fault::NotUtf8)
    }

    // ---- stack ----

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.stack.len() <= self.floor() {
            return Err(Fault::EmptyStack);
        }
        self.stack.pop().ok_or(Fault::EmptyStack)
    }

    fn top(&self) -> Result<Value<'a>> {
        if self.stack.len() <= self.floor() {
            return Err(Fault::EmptyStack);
        }
        self.stack.last().copied().ok_or(Fault::EmptyStack)
    }

    /// Everything above the last MARK, which goes too.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or(Fault::EmptyStack)?;
        if mark > self.stack.len() {
            return Err(Fault::EmptyStack);
        }
        Ok(self.stack.drain(mark..).collect())
    }

    fn memoize(&mut self, index: u32) -> Result<()> {
        let value = self.top()?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).copied().ok_or(Fault::UnknownMemo(index))?;
        self.stack.push(value);
        Ok(())
    }

    // ---- values ----

    fn long(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        self.stack.push(match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            None => Value::Long(bytes),
        });
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Fault::NotUtf8)?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A Python 2 `str`: a text if it is one, for Python 2 wrote names this way, and bytes otherwise.
    fn string(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        self.stack.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text));
        Ok(())
    }

    fn binary(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?;
        self.stack.push(Value::Bytes(bytes));
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.heap.sequences.push(items);
        self.stack.push(Value::Tuple(self.heap.sequences.len() - 1));
    }

    fn tuple_of(&mut self, count: usize) -> Result<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.tuple(items);
        Ok(())
    }

    fn new_dict(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) {
        self.heap.dicts.push(entries);
        self.stack.push(Value::Dict(self.heap.dicts.len() - 1));
    }

    fn append(&mut self, mut items: Vec<Value<'a>>) -> Result<()> {
        match self.top()? {
            Value::List(id) => {
                self.heap.sequences.get_mut(id).ok_or(Fault::EmptyStack)?.append(&mut items);
                Ok(())
            }
            Value::Opaque => Ok(()),
            other => Err(wrong("APPEND", other)),
        }
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<()> {
        match self.top()? {
            Value::Dict(id) => {
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(Fault::EmptyStack);
                }
                let entries = pairs.iter().map(|[key, value]| (*key, *value));
                self.heap.dicts.get_mut(id).ok_or(Fault::EmptyStack)?.extend(entries);
                Ok(())
            }
            Value::Opaque => Ok(()),
            other => Err(wrong("SETITEMS", other)),
        }
    }

    fn opaque_target(&self, operation: &'static str) -> Result<()> {
        match self.top()? {
            Value::Opaque => Ok(()),
            other => Err(wrong(operation, other)),
        }
    }

    // ---- classes ----

    fn class(&mut self, module: &str, name: &str) -> Result<()> {
        let known =
            CLASSES.iter().position(|(known_module, known_name, _)| *known_module == module && *known_name == name);
        let id = known.ok_or_else(|| Fault::ForbiddenClass(printable(&format!("{module}.{name}"))))?;
        self.stack.push(Value::Class(id));
        Ok(())
    }

    /// What `callable(*arguments)` would give, for the callables of the table.
    fn call(&mut self, operation: &'static str, callable: Value<'a>, arguments: Value<'a>) -> Result<()> {
        let Value::Class(id) = callable else { return Err(wrong(operation, callable)) };
        let (_, _, role) = CLASSES.get(id).ok_or(Fault::EmptyStack)?;
        let Value::Tuple(_) = arguments else { return Err(wrong(operation, arguments)) };
        let arguments = self.heap.sequence(arguments).unwrap_or_default();
        match role {
            Role::Opaque => self.stack.push(Value::Opaque),
            Role::Encode => self.stack.push(match arguments {
                [Value::Text(text), Value::Text("latin1")] => Value::Latin1(text),
                _ => Value::Opaque,
            }),
            Role::Array => {
                self.heap.arrays.push(Value::None);
                self.stack.push(Value::Array(self.heap.arrays.len() - 1));
            }
            Role::OrderedDict => {
                let entries = match arguments.first() {
                    None => Vec::new(),
                    Some(pairs) => self.pairs(*pairs)?,
                };
                self.count_copied(entries.len())?;
                self.new_dict(entries);
            }
            Role::Size => match arguments {
                [size @ (Value::Tuple(_) | Value::List(_))] => self.stack.push(*size),
                _ => return Err(Fault::BadTensor),
            },
            Role::RebuildParameter => match arguments {
                [tensor @ Value::Tensor(_), ..] => self.stack.push(*tensor),
                _ => return Err(Fault::BadTensor),
            },
            Role::RebuildTensor => {
                let tensor = self.tensor(arguments).ok_or(Fault::BadTensor)?;
                self.count_copied(2 * tensor.shape.len())?;
                self.heap.tensors.push(tensor);
                self.stack.push(Value::Tensor(self.heap.tensors.len() - 1));
            }
            Role::Storage(_) => return Err(wrong(operation, callable)),
        }
        Ok(())
    }

    fn count_copied(&mut self, values: usize) -> Result<()> {
        self.copied += values;
        if self.copied > self.at - self.start { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// The entries of `OrderedDict([[key, value], …])`, which is how Python 2 pickles one.
    fn pairs(&self, list: Value<'a>) -> Result<Vec<(Value<'a>, Value<'a>)>> {
        let items = self.heap.sequence(list).ok_or_else(|| wrong("OrderedDict", list))?;
        let pair = |item: &Value<'a>| match self.heap.sequence(*item) {
            Some([key, value]) => Ok((*key, *value)),
            _ => Err(wrong("OrderedDict", *item)),
        };
        items.iter().map(pair).collect()
    }

    /// `_rebuild_tensor(storage, offset, size, stride)`; `_v2` adds gradients and hooks, which are nothing to us.
    fn tensor(&self, arguments: &[Value<'a>]) -> Option<TensorView<'a>> {
        let [Value::Storage(storage), offset, size, stride, ..] = arguments else { return None };
        let (shape, strides) = (self.lengths(*size)?, self.lengths(*stride)?);
        if shape.len() != strides.len() {
            return None;
        }
        let storage = *self.heap.storages.get(*storage)?;
        Some(TensorView { storage, offset: length(*offset)?, shape, strides })
    }

    fn lengths(&self, value: Value<'a>) -> Option<Vec<usize>> {
        let items = self.heap.sequence(value)?;
        if items.len() > MAX_RANK {
            return None;
        }
        items.iter().map(|item| length(*item)).collect()
    }

    /// `("storage", class, key, location, elements)`; legacy files add None or `(key, offset, elements)` of a part.
    fn storage(&mut self, id: Value<'a>) -> Result<()> {
        let storage = self.read_storage(id).ok_or(Fault::BadStorage)?;
        self.heap.storages.push(storage);
        self.stack.push(Value::Storage(self.heap.storages.len() - 1));
        Ok(())
    }

    fn read_storage(&self, id: Value<'a>) -> Option<Storage<'a>> {
        let [Value::Text("storage"), Value::Class(class), Value::Text(key), _location, elements, rest @ ..] =
            self.heap.sequence(id)?
        else {
            return None;
        };
        let (_, _, Role::Storage(element)) = CLASSES.get(*class)? else { return None };
        let part = match rest {
            [] | [Value::None] => None,
            [part @ Value::Tuple(_)] => match self.heap.sequence(*part)? {
                [_key, offset, elements] => Some((length(*offset)?, length(*elements)?)),
                _ => return None,
            },
            _ => return None,
        };
        Some(Storage { key, element: *element, elements: length(*elements)?, part })
    }
}

fn length(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(value) => usize::try_from(value).ok(),
        _ => None,
    }
}

fn wrong(operation: &'static str, found: Value<'_>) -> Fault {
    Fault::WrongOperand { operation, found: found.kind() }
}

/// A text of the file, fit for one line of a message: escaped, and cut at 80 characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A writer of pickles, so that the tests need neither Python nor files.
#[cfg(test)]
pub(crate) mod writer {
    /// Appends opcodes of protocol 2; every method returns the writer.
    pub(crate) struct Pickle(pub(crate) Vec<u8>);

    impl Pickle {
        pub(crate) fn new() -> Self {
            Self(vec![0x80, 2])
        }

        pub(crate) fn op(mut self, bytes: &[u8]) -> Self {
            self.0.extend(bytes);
            self
        }

        pub(crate) fn text(self, text: &str) -> Self {
            self.op(b"X").op(&u32::try_from(text.len()).unwrap().to_le_bytes()).op(text.as_bytes())
        }

        pub(crate) fn int(self, value: i32) -> Self {
            self.op(b"J").op(&value.to_le_bytes())
        }

        pub(crate) fn global(self, module: &str, name: &str) -> Self {
            self.op(format!("c{module}\n{name}\n").as_bytes())
        }

        pub(crate) fn ints(self, values: &[i32]) -> Self {
            values.iter().fold(self.op(b"("), |pickle, value| pickle.int(*value)).op(b"t")
        }

        /// `_rebuild_tensor_v2` of a storage.
        pub(crate) fn tensor(self, class: &str, key: &str, view: (i32, i32, &[i32], &[i32])) -> Self {
            let (elements, offset, shape, strides) = view;
            self.global("torch._utils", "_rebuild_tensor_v2")
                .op(b"((")
                .text("storage")
                .global("torch", class)
                .text(key)
                .text("cpu")
                .int(elements)
                .op(b"tQ")
                .int(offset)
                .ints(shape)
                .ints(strides)
                .op(b"\x89")
                .global("collections", "OrderedDict")
                .op(b")RtR")
        }

        pub(crate) fn stop(self) -> Vec<u8> {
            self.op(b".").0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::writer::Pickle;
    use super::*;

    fn fault(bytes: &[u8]) -> Fault {
        unpickle(bytes, 0).unwrap_err().fault
    }

    #[test]
    fn scalars_and_containers() {
        let bytes = Pickle::new().op(b"(").int(-7).text("é").op(b"\x88N\x8a\x01\xfe\x8a\x00](K\x01M\x02\x01et").stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        let items = pickle.sequence(pickle.root()).unwrap();
        let expected =
            [Value::Int(-7), Value::Text("é"), Value::Bool(true), Value::None, Value::Int(-2), Value::Int(0)];
        assert_eq!(&items[..6], &expected);
        assert_eq!(pickle.sequence(items[6]).unwrap(), &[Value::Int(1), Value::Int(258)]);
        assert_eq!(pickle.end(), bytes.len());
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        let bytes = Pickle::new().op(b"}(").text("a").int(1).text("a").int(2).op(b"u").stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        assert_eq!(pickle.entry(pickle.root(), "a"), Some(Value::Int(2)));
        assert_eq!(pickle.entry(pickle.root(), "b"), None);
    }

    #[test]
    fn the_ordered_dict_of_python_2() {
        let bytes = Pickle::new().global("collections", "OrderedDict").op(b"](](U\x01aK\x05ee\x85R").stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        assert_eq!(pickle.entry(pickle.root(), "a"), Some(Value::Int(5)));
    }

    #[test]
    fn protocol_4_names_and_memo() {
        let bytes = b"\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)Rh\x01\x86.";
        let pickle = unpickle(bytes, 0).unwrap();
        assert!(matches!(pickle.sequence(pickle.root()), Some([Value::Dict(0), Value::Text("OrderedDict")])));
    }

    #[test]
    fn training_state_is_opaque() {
        // argparse.Namespace(lr=…) and numpy.core.multiarray.scalar(dtype, bytes), as real checkpoints hold them
        let bytes = Pickle::new()
            .op(b"(")
            .global("argparse", "Namespace")
            .op(b")\x81}")
            .text("lr")
            .int(1)
            .op(b"sb")
            .global("numpy.core.multiarray", "scalar")
            .global("numpy", "dtype")
            .text("f8")
            .op(b"K\x00K\x01\x87R(K\x03tb")
            .global("_codecs", "encode")
            .text("x")
            .text("latin1")
            .op(b"\x86R\x86Rt")
            .stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        assert_eq!(pickle.sequence(pickle.root()).unwrap(), &[Value::Opaque, Value::Opaque]);
    }

    #[test]
    fn a_class_that_acts_is_refused_by_name() {
        let bytes = Pickle::new().global("posix", "system").text("touch /tmp/owned").op(b"\x85R").stop();
        let error = unpickle(&bytes, 0).unwrap_err();
        assert_eq!(error.offset, 2);
        assert_eq!(error.fault, Fault::ForbiddenClass("posix.system".into()));
        assert!(error.to_string().contains("asks for class posix.system"), "{error}");

        let stacked = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.";
        assert_eq!(fault(stacked), Fault::ForbiddenClass("builtins.eval".into()));
        // a line break in a name stays inside the message's one line
        let broken = b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.";
        assert_eq!(fault(broken), Fault::ForbiddenClass("a\\nb.c".into()));
    }

    #[test]
    fn malformed_pickles_are_refused() {
        assert_eq!(fault(b""), Fault::Truncated);
        assert_eq!(fault(b"\x80\x02X\xff\xff\xff\xff"), Fault::Truncated);
        assert_eq!(fault(b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xff"), Fault::Truncated);
        assert_eq!(fault(b"\x80\x02\x8b\xff\xff\xff\xff"), Fault::NegativeLength);
        assert_eq!(fault(b"\x80\x02X\x01\0\0\0\xff."), Fault::NotUtf8);
        assert_eq!(fault(b"\x80\x01"), Fault::Protocol(1));
        assert_eq!(fault(b"\x80\x02i"), Fault::UnknownOpcode(b'i'));
        assert_eq!(fault(b"\x80\x02h\x07."), Fault::UnknownMemo(7));
        assert_eq!(fault(b"\x80\x02."), Fault::EmptyStack);
        assert_eq!(fault(b"\x80\x02N(."), Fault::EmptyStack); // the mark hides what lies below
        assert_eq!(fault(b"\x80\x02t"), Fault::EmptyStack);
        assert_eq!(fault(b"\x80\x02}(Nu"), Fault::EmptyStack); // a key without its value
        assert_eq!(fault(b"\x80\x02N)R"), Fault::WrongOperand { operation: "REDUCE", found: "None" });
        assert_eq!(fault(b"\x80\x02)Q"), Fault::BadStorage);
        assert_eq!(fault(&Pickle::new().global("torch._utils", "_rebuild_tensor").op(b")R").0), Fault::BadTensor);
    }

    #[test]
    fn tensors_with_negative_lengths_or_uneven_strides_are_refused() {
        for view in [(4, -1, &[2][..], &[1][..]), (4, 0, &[-2], &[1]), (4, 0, &[2, 2], &[1])] {
            assert_eq!(fault(&Pickle::new().tensor("FloatStorage", "0", view).stop()), Fault::BadTensor);
        }
        assert_eq!(
            fault(&Pickle::new().tensor("FloatStorage", "0", (4, 0, &[1; 65], &[1; 65])).stop()),
            Fault::BadTensor
        );
        assert_eq!(fault(&Pickle::new().tensor("Size", "0", (4, 0, &[1], &[1])).stop()), Fault::BadStorage);
    }

    #[test]
    fn deep_and_circular_pickles_need_no_stack() {
        let deep = Pickle::new().op(b")").op(&[0x85; 1_000_000]).stop();
        assert!(matches!(unpickle(&deep, 0).unwrap().root(), Value::Tuple(1_000_000)));
        // a list that holds itself
        let circular = unpickle(b"\x80\x02]q\0h\0a.", 0).unwrap();
        assert_eq!(circular.sequence(circular.root()).unwrap(), &[circular.root()]);
    }

    /// Five bytes name a storage, a shape of 64 sides and its strides again, which is a kilobyte of memory.
    #[test]
    fn a_shape_is_not_copied_without_end() {
        let of = |tensors: usize| {
            let mut first = Pickle::new().tensor("FloatStorage", "0", (1, 0, &[1; 64], &[1; 64]));
            first.0.pop(); // its call, before which the arguments are kept
            let kept = first.op(b"q\x01R").global("torch._utils", "_rebuild_tensor_v2").op(b"q\x000");
            kept.op(&b"h\0h\x01R".repeat(tensors)).stop()
        };
        assert!(matches!(unpickle(&of(2), 0).unwrap().root(), Value::Tensor(2)));
        assert_eq!(fault(&of(100_000)), Fault::TooLong);
    }

    #[test]
    fn a_list_is_not_copied_without_end() {
        let mut pickle = Pickle::new().global("collections", "OrderedDict").op(b"q\0]q\x01(");
        for _ in 0..1000 {
            pickle = pickle.op(b"NN\x86");
        }
        let bytes = pickle.op(b"e0").op(&b"h\0h\x01\x85R0".repeat(1000)).op(b"N").stop();
        assert_eq!(fault(&bytes), Fault::TooLong);
    }
}
