//! What a pickle of weights or of arrays says, without doing what it says.
//!
//! Promises: no name in the pickle is ever imported or called; of a class outside one table there is a value that may
//! stand beside tensors and is never looked into, nor a tensor itself; memory and time are linear in the pickle's length,
//! and no input panics.
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
    /// `_rebuild_from_type_v2(function, class, arguments, state)`: what `function(*arguments)` stands for.
    RebuildFromType,
}

/// The only names that mean something here. What any other would make is passed over as data: training state beside
/// the weights, such as options, counters and paths.
const CLASSES: [(&str, &str, Role); 20] = [
    ("collections", "OrderedDict", Role::OrderedDict),
    ("torch._utils", "_rebuild_tensor", Role::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Role::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Role::RebuildParameter),
    ("torch._utils", "_rebuild_parameter_with_state", Role::RebuildParameter),
    ("torch._tensor", "_rebuild_from_type_v2", Role::RebuildFromType),
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
    ("_codecs", "encode", Role::Encode),
    ("numpy.core.multiarray", "_reconstruct", Role::Array),
    ("numpy._core.multiarray", "_reconstruct", Role::Array), // since NumPy 2
];

/// Modules whose functions act on the machine: no training state names them. They would not be run either; a file that
/// asks for them is refused because it was made to do harm.
const ACTING: [&str; 14] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "pty",
    "runpy",
    "importlib",
    "ctypes",
    "webbrowser",
    "commands",
    "code",
];
/// The same of the functions that Python has built in.
const ACTING_BUILT_IN: [&str; 8] = ["eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint"];

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
        "the pickle asks for class {0}, which acts on the machine and is no part of weights: nothing was executed; do not \
         open this file elsewhere either"
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
    /// A class that is not in the table, by its place in [`Unpickled::foreign`].
    ForeignClass(usize),
    /// What a class that is not in the table would make: there, and not looked into.
    Foreign(usize),
    /// Bytes, or a Python 2 `str` that is no text.
    Bytes(&'a [u8]),
    /// Bytes, spelled as a text whose characters they are.
    Latin1(&'a str),
    /// A NumPy array.
    Array(usize),
    /// A float or a set: there, and not looked into.
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
            Self::Class(_) | Self::ForeignClass(_) => "a class",
            Self::Bytes(_) | Self::Latin1(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Opaque | Self::Foreign(_) => "a value that is no tensor",
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
    /// Module and name of each class outside the table, once.
    foreign: Vec<(&'a str, &'a str)>,
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

    /// The class whose value this would be, as Python writes it; `None` for what was read and for what has no class.
    pub(crate) fn foreign_class(&self, value: Value<'a>) -> Option<String> {
        let Value::Foreign(id) = value else { return None };
        let (module, name) = self.foreign.get(id)?;
        Some(printable(&format!("{module}.{name}")))
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
        known_foreign: HashMap::new(),
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
    /// Places in [`Unpickled::foreign`].
    known_foreign: HashMap<(&'a str, &'a str), usize>,
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
                    Value::Dict(_) | Value::Opaque | Value::Foreign(_) => {}
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
            Value::Opaque | Value::Foreign(_) => Ok(()),
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
            Value::Opaque | Value::Foreign(_) => Ok(()),
            other => Err(wrong("SETITEMS", other)),
        }
    }

    fn opaque_target(&self, operation: &'static str) -> Result<()> {
        match self.top()? {
            Value::Opaque | Value::Foreign(_) => Ok(()),
            other => Err(wrong(operation, other)),
        }
    }

    // ---- classes ----

    fn class(&mut self, module: &'a str, name: &'a str) -> Result<()> {
        let known =
            CLASSES.iter().position(|(known_module, known_name, _)| *known_module == module && *known_name == name);
        if let Some(id) = known {
            self.stack.push(Value::Class(id));
            return Ok(());
        }
        let package = module.split('.').next().unwrap_or(module);
        let built_in = ["builtins", "__builtin__"].contains(&module) && ACTING_BUILT_IN.contains(&name);
        if ACTING.contains(&package) || built_in {
            return Err(Fault::ForbiddenClass(printable(&format!("{module}.{name}"))));
        }
        let id = *self.known_foreign.entry((module, name)).or_insert_with(|| {
            self.heap.foreign.push((module, name));
            self.heap.foreign.len() - 1
        });
        self.stack.push(Value::ForeignClass(id));
        Ok(())
    }

    /// What `callable(*arguments)` would give, for the callables of the table; of others a value that is passed over.
    fn call(&mut self, operation: &'static str, callable: Value<'a>, arguments: Value<'a>) -> Result<()> {
        let id = match callable {
            Value::Class(id) => id,
            Value::ForeignClass(id) | Value::Foreign(id) => {
                self.stack.push(Value::Foreign(id));
                return Ok(());
            }
            other => return Err(wrong(operation, other)),
        };
        let (_, _, role) = CLASSES.get(id).ok_or(Fault::EmptyStack)?;
        let Value::Tuple(_) = arguments else { return Err(wrong(operation, arguments)) };
        let arguments = self.heap.sequence(arguments).unwrap_or_default();
        match role {
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
                [tensor @ (Value::Tensor(_) | Value::Foreign(_)), ..] => self.stack.push(*tensor),
                _ => return Err(Fault::BadTensor),
            },
            Role::RebuildFromType => match arguments {
                // not itself once more: such calls would nest without end
                [inner @ Value::Class(class), _, arguments @ Value::Tuple(_), ..]
                    if CLASSES.get(*class).is_some_and(|(_, _, role)| *role != Role::RebuildFromType) =>
                {
                    let (inner, arguments) = (*inner, *arguments);
                    return self.call(operation, inner, arguments);
                }
                [inner @ Value::ForeignClass(_), ..] => {
                    let inner = *inner;
                    return self.call(operation, inner, Value::None);
                }
                _ => return Err(Fault::BadTensor),
            },
            // of a kind of numbers that is not read
            Role::RebuildTensor if matches!(arguments.first(), Some(Value::Foreign(_))) => {
                let kind = arguments.first().copied().unwrap_or(Value::None);
                self.stack.push(kind);
            }
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
        if let Some([Value::Text("storage"), Value::ForeignClass(class), ..]) = self.heap.sequence(id) {
            let kind = Value::Foreign(*class);
            self.stack.push(kind);
            return Ok(());
        }
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
        let items = pickle.sequence(pickle.root()).unwrap();
        let classes: Vec<_> = items.iter().map(|item| pickle.foreign_class(*item).unwrap()).collect();
        assert_eq!(classes, ["argparse.Namespace", "numpy.core.multiarray.scalar"]);
    }

    /// `defaultdict(list, a=1)`, `Counter`, a path, a date, Lightning's options, an enumeration's value, a partial function.
    #[test]
    fn classes_that_are_not_known_are_passed_over_and_named() {
        let bytes = Pickle::new()
            .op(b"}(")
            .text("a")
            .global("collections", "defaultdict")
            .global("builtins", "list")
            .op(b"\x85R")
            .text("k")
            .int(1)
            .op(b"s")
            .text("b")
            .global("pathlib", "PosixPath")
            .text("/")
            .text("tmp")
            .op(b"\x86R")
            .text("c")
            .global("pytorch_lightning.utilities.parsing", "AttributeDict")
            .op(b")\x81(")
            .text("lr")
            .int(3)
            .op(b"u}")
            .text("x")
            .int(1)
            .op(b"sb")
            .text("d")
            .global("functools", "partial")
            .global("torch.nn", "GELU")
            .op(b"\x85R(NNNtb")
            .text("e")
            .global("collections", "deque")
            .op(b")R(")
            .int(1)
            .int(2)
            .op(b"e")
            .text("f")
            .global("builtins", "getattr")
            .global("my.module", "Color")
            .text("RED")
            .op(b"\x86R")
            .text("w")
            .tensor("FloatStorage", "0", (4, 0, &[4], &[1]))
            .op(b"u")
            .stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        let class = |key| pickle.foreign_class(pickle.entry(pickle.root(), key).unwrap());
        for (key, name) in [
            ("a", "collections.defaultdict"),
            ("b", "pathlib.PosixPath"),
            ("c", "pytorch_lightning.utilities.parsing.AttributeDict"),
            ("d", "functools.partial"),
            ("e", "collections.deque"),
            ("f", "builtins.getattr"),
        ] {
            assert_eq!(class(key).as_deref(), Some(name));
        }
        let tensor = pickle.entry(pickle.root(), "w").unwrap();
        assert!(class("w").is_none() && pickle.tensor(tensor).is_some());
    }

    #[test]
    fn what_an_unknown_class_makes_is_never_a_tensor() {
        let unknown = Pickle::new().global("my.module", "Weights").op(b")R").stop();
        let pickle = unpickle(&unknown, 0).unwrap();
        assert!(pickle.tensor(pickle.root()).is_none() && pickle.dict(pickle.root()).is_none());
        // of numbers that are not read, and of a class of its own that wraps a plain tensor
        let complex = Pickle::new().tensor("ComplexFloatStorage", "0", (4, 0, &[4], &[1])).stop();
        let pickle = unpickle(&complex, 0).unwrap();
        assert_eq!(pickle.foreign_class(pickle.root()).as_deref(), Some("torch.ComplexFloatStorage"));
        let mut plain = Pickle::new().global("torch._tensor", "_rebuild_from_type_v2").op(b"(").tensor(
            "FloatStorage",
            "0",
            (4, 0, &[4], &[1]),
        );
        plain.0.pop(); // its call: function and arguments are given apart
        let bytes = plain.op(b"q\x010").global("my.module", "Tensor").op(b"h\x01}tR").stop();
        let pickle = unpickle(&bytes, 0).unwrap();
        assert!(pickle.tensor(pickle.root()).is_some());
        let itself = Pickle::new().global("torch._tensor", "_rebuild_from_type_v2").op(b"q\0(h\0N)}tR").stop();
        assert_eq!(fault(&itself), Fault::BadTensor);
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
        let broken = b"\x80\x04\x8c\x06os.a\nb\x8c\x01c\x93.";
        assert_eq!(fault(broken), Fault::ForbiddenClass("os.a\\nb.c".into()));
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
