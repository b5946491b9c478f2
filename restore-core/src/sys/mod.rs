//! What the operating system gives: directories as held descriptors, below which no symbolic link
//! is followed, and the way to them. Knows nothing of volumes, runs or components.

pub(crate) mod absent;
pub(crate) mod birth;
pub(crate) mod blocking;
pub(crate) mod child;
pub(crate) mod connect;
pub(crate) mod durable;
pub(crate) mod mount_table;
pub(crate) mod on_heap;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod signals;
pub(crate) mod space;
pub(crate) mod spans;
pub(crate) mod trust;

mod ancestors;
mod beneath;
mod new_directory;
pub(crate) mod private;
mod random;
mod remove;

pub(crate) use ancestors::{
    check_ancestors, check_file, open_above, open_above_of, open_by_our_links, open_directory,
    open_directory_of, open_theirs,
};
pub(crate) use beneath::{
    no_link, open_beneath, open_beneath_across, open_file, open_file_across, open_to_read,
    open_to_read_below, read_small, read_small_from,
};
pub(crate) use new_directory::NewDirectory;
pub(crate) use random::{random_bytes, random_name};
pub(crate) use remove::{fixed_in, remove_tree, shown as shown_error};
