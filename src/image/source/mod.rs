//! Where pictures come from: folders, files, archives, and the files in which data sets are distributed.
//!
//! Every format is a `Source`: a list of entries, made before anything is read so that the number of images is known
//! and a selection can be drawn, and a `Reader` that gives the contents of one entry after the other. An archive is
//! streamed: for a compressed one that means decompressing it twice, about a second for 100 MB, and in exchange only
//! one member is ever in memory. At an address it is downloaded twice in the same way (CIFAR's three times): nothing is
//! put on the disk. Formats that hold bare pixels give each picture as a netpbm file (PPM or PGM), which
//! [`decode`](super::decode) takes, so that every picture has bytes that can be hashed and stored.

mod address;
mod archive;
mod batches;
mod beside;
mod cifar;
mod files;
mod folder;
mod format;
mod forward;
mod idx;
mod images;
mod kept;
mod lance;
mod list;
mod netpbm;
mod parts;
mod pictures;
mod place;
mod plan;
mod real;
mod remote;
mod select;
mod svhn;
mod table;
mod table_files;
mod tarball;
#[cfg(test)]
mod tests;
mod text_table;
mod uris;
mod wait;
mod zip_members;
mod zipped;

pub(crate) use address::is_address;
pub use address::{KeptQuery, shown};
pub(crate) use address::{bare, file, here, scheme};
pub use batches::{ARRAY, TableRows, is_array, is_text, table_columns, table_rows};
pub use format::{ImageFile, MAX_FILE_BYTES, TableColumns, held_row};
pub use images::ImageFiles;
pub use kept::Opened;
pub(crate) use lance::{is_lance_table, lance_table};
pub use pictures::{Seen, look, pictures};
pub use plan::open;
pub use real::Folders;
pub use select::Selection;
pub use table::{column as table_column, is_plain, read as read_table};
pub use table_files::{TableFiles, table_files};
pub(crate) use text_table::{changed_by_types, delimiter};
pub use uris::{absolute, row_uri};
