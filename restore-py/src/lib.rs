//! The native half of the Python module `restore`: calls in, library calls, values out.
//!
//! Whatever is slow is a [`Task`](task::Task), which the Python half waits for, either blocking or
//! on an asyncio loop; values cross over as what JSON knows, and get their types in Python.

mod backup;
mod check;
mod component;
mod context;
mod convert;
mod error;
mod hook;
mod maintenance;
mod part;
mod runtime;
mod site;
mod store;
mod store_write;
mod task;
mod writer;

use std::ffi::OsString;

use pyo3::prelude::*;

#[pymodule]
fn _restore(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<backup::Backup>()?;
    module.add_class::<context::Progress>()?;
    module.add_class::<context::RunContext>()?;
    module.add_class::<site::Plan>()?;
    module.add_class::<site::Site>()?;
    module.add_class::<task::Follower>()?;
    module.add_class::<task::Task>()?;
    module.add_class::<writer::BackupContext>()?;
    module.add_function(wrap_pyfunction!(command_line, module)?)?;
    module.add_function(wrap_pyfunction!(keep_secret, module)?)?;
    module.add_function(wrap_pyfunction!(task::cancel_all, module)?)?;
    module.add_function(wrap_pyfunction!(task::stop_all, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

/// Keeps a secret for a configuration; its name, for a key `…_env`.
#[pyfunction]
fn keep_secret(text: String) -> String {
    restore_core::config::keep_secret(text.into())
}

/// What the program `restore` does with these arguments; its exit code. `again`: what starts it. A shell that
/// asks for completions is answered, and the process ends then.
#[pyfunction]
fn command_line(py: Python<'_>, argv: Vec<OsString>, again: Vec<OsString>) -> u8 {
    py.detach(|| {
        restore_cli::complete();
        restore_cli::main(&argv, again)
    })
}
