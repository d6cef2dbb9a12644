//! Pictures: from folders, files and archives to the numbers that a network takes.
//!
//! Promises, in the order in which a picture passes:
//!
//! - [`open`] finds pictures in a fixed order, in files, archives and data set files, on this machine or at `http://`,
//!   `https://` and `s3://` addresses, and gives the bytes of each with a name ([`ImageFile::uri`])
//!   that does not change between runs, and the class that its folder stands for. Archives are streamed, never
//!   unpacked. One broken file is one [`Error::BadImage`](crate::error::Error::BadImage) and the rest goes on.
//! - [`decode`] gives 8-bit RGB as PIL's `Image.open(f).convert("RGB")` does, because the networks were trained on
//!   that: the same bytes. What it gives it has decoded completely: a cut picture
//!   is refused, not filled with grey.
//! - [`Preprocessor`] resizes and normalises as torchvision does on PIL pictures, to the bit.
//!
//! Everything here is a plain function on the calling thread, without global state but the network's: its connections,
//! two threads that wait for them (and for Lance), and what the environment says of S3 (`AWS_*`).
//!
//! Not for: augmentation, formats other than those that [`decode`] names, and colour
//! management (ICC profiles and gamma are left unread, as in the reference pipelines, and EXIF orientation unless it is asked for).

mod compressed;
mod decode;
mod dhash;
mod pixels;
mod png;
mod preprocess;
mod rows;
mod source;
mod thumbnail;

pub use decode::{Orientation, content_hash, decode, extension};
pub use dhash::dhash;
pub use pixels::{MAX_PIXELS, Pixels};
pub use png::png;
pub use preprocess::{Preprocess, Preprocessor, Resize};
pub(crate) use source::is_address;
pub use source::{
    ARRAY, Folders, ImageFile, ImageFiles, KeptQuery, MAX_FILE_BYTES, Opened, Seen, Selection, TableColumns,
    TableFiles, TableRows, absolute, held_row, is_array, is_plain, is_text, look, open, pictures, read_table, row_uri,
    shown, table_column, table_columns, table_files, table_rows,
};
pub(crate) use source::{bare, changed_by_types, delimiter, file, here, is_lance_table, lance_table, scheme};
pub use thumbnail::thumbnail;
